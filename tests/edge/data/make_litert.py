"""Makes the .tflite files of this folder that show a feature of LiteRT: `python tests/edge/data/make_litert.py`.

It needs TensorFlow; the tests that read the files do not.
"""

# mypy: ignore-errors  # tensorflow has no types
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

FOLDER = Path(__file__).resolve().parent


class Running(tf.Module):
    """x [1, 4] -> total [1, 4]: twice the sum of what came so far, from 1, 2, 3, 4 on."""

    def __init__(self):
        self.sum = tf.Variable([[1.0, 2.0, 3.0, 4.0]])

    @tf.function(input_signature=[tf.TensorSpec((1, 4), tf.float32, name="x")])
    def add(self, x):
        self.sum.assign_add(x)
        return {"total": self.sum * 2.0}


class Coder(tf.Module):
    """encode: x [1, 4] -> code [1, 3]. decode: code, bias [1, 3] -> x [1, 4], best [1]."""

    def __init__(self):
        self.kernel = tf.Variable(np.random.default_rng(20).normal(size=(4, 3)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec((1, 4), tf.float32, name="x")])
    def encode(self, x):
        return {"code": tf.nn.relu(x @ self.kernel)}

    @tf.function(input_signature=[tf.TensorSpec((1, 3), tf.float32, name=name) for name in ("code", "bias")])
    def decode(self, code, bias):
        return {"x": tf.nn.tanh((code + bias) @ tf.transpose(self.kernel)), "best": tf.argmax(code, 1)}


class Positions(tf.Module):
    """x [1, n] -> where [m, 2]: the positions above 0, so that no one knows m before a run."""

    @tf.function(input_signature=[tf.TensorSpec((1, None), tf.float32, name="x")])
    def find(self, x):
        return {"where": tf.where(x * 3.0 > 0)}


def running():
    module = Running()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.add.get_concrete_function()], module)
    converter.experimental_enable_resource_variables = True
    return converter.convert()


def coder():
    module = Coder()
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={"encode": module.encode, "decode": module.decode})
        return tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["encode", "decode"]).convert()


def positions():
    module = Positions()
    return tf.lite.TFLiteConverter.from_concrete_functions([module.find.get_concrete_function()], module).convert()


if __name__ == "__main__":
    for name, content in {"running": running(), "coder": coder(), "positions": positions()}.items():
        (FOLDER / f"tiny_{name}.tflite").write_bytes(content)
