"""Makes the binary fixtures of this folder and edge/proof_models: `python tests/edge/data/make.py`.

It needs TensorFlow and onnx. The device-core tests run where neither is installed, so the files are committed.
Weights are seeded.
"""

from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).resolve().parent
PROOF_MODELS = FOLDER.parents[2] / "edge" / "proof_models"
SEED = 20


def weights() -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """A stem, a depthwise and a dense layer: the three kinds of kernels of a small vision network."""
    rng = np.random.default_rng(SEED)
    shapes = {"stem": (3, 3, 1, 4), "depthwise": (3, 3, 4, 1), "dense": (4, 3)}
    return {name: rng.normal(0, 0.6, shape).astype(np.float32) for name, shape in shapes.items()}


def images(n: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Representative inputs in [0, 1): [n, 8, 8, 1]."""
    return np.random.default_rng(SEED + 1).random((n, 8, 8, 1), np.float32)


def litert(batch: int | None, *, int8: bool) -> bytes:
    """image [batch, 8, 8, 1] -> scores [batch, 3], with a signature; int8 inside and at both ends where asked."""
    import tensorflow as tf

    class Tiny(tf.Module):  # type: ignore[misc]  # tensorflow has no types
        def __init__(self) -> None:
            self.kernels = {name: tf.Variable(value) for name, value in weights().items()}

        @tf.function(input_signature=[tf.TensorSpec((batch, 8, 8, 1), tf.float32, name="image")])  # type: ignore[untyped-decorator]  # tensorflow has no types
        def scores(self, image: Any) -> dict[str, Any]:
            hidden = tf.nn.relu(tf.nn.conv2d(image, self.kernels["stem"], 2, "SAME"))
            hidden = tf.nn.relu(tf.nn.depthwise_conv2d(hidden, self.kernels["depthwise"], (1, 1, 1, 1), "SAME"))
            return {"scores": tf.nn.softmax(tf.reduce_mean(hidden, (1, 2)) @ self.kernels["dense"])}

    tiny = Tiny()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([tiny.scores.get_concrete_function()], tiny)
    if int8:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[None]] for image in images(32))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return bytes(converter.convert())


def litert_fallback() -> bytes:
    """Two inputs [1, 6], two outputs; ARG_MAX is an operation that XNNPACK does not take."""
    import tensorflow as tf

    class Two(tf.Module):  # type: ignore[misc]  # tensorflow has no types
        @tf.function(  # type: ignore[untyped-decorator]  # tensorflow has no types
            input_signature=[tf.TensorSpec((1, 6), tf.float32, name=name) for name in ("left", "right")]
        )
        def both(self, left: Any, right: Any) -> dict[str, Any]:
            total = tf.nn.relu(left) + right * 2.0
            return {"total": tf.nn.tanh(total), "where": tf.argmax(total, axis=1, output_type=tf.int32)}

    two = Two()
    return bytes(tf.lite.TFLiteConverter.from_concrete_functions([two.both.get_concrete_function()], two).convert())


def onnx_float() -> bytes:
    """The network of `litert` in ONNX: image [batch, 1, 8, 8] -> scores [batch, 3]."""
    from onnx import TensorProto, checker, helper, numpy_helper

    kernels = weights()
    initializers = {
        "stem": kernels["stem"].transpose(3, 2, 0, 1),
        "depthwise": kernels["depthwise"].transpose(2, 3, 0, 1),
        "dense": kernels["dense"],
    }
    nodes = [
        # SAME in TensorFlow pads an even input with stride 2 at the end only
        helper.make_node("Conv", ["image", "stem"], ["c1"], strides=[2, 2], pads=[0, 0, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "depthwise"], ["c2"], group=4, pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("ReduceMean", ["r2"], ["m"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["m", "dense"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in initializers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model)
    return bytes(model.SerializeToString())


def proof_litert() -> bytes:
    """What a delegate is proven with: image [1, 16, 16, 3] -> logits [1, 10], kernels as in `proof_weights`."""
    import tensorflow as tf

    class Proof(tf.Module):  # type: ignore[misc]  # tensorflow has no types
        def __init__(self) -> None:
            self.kernels = {name: tf.Variable(value) for name, value in proof_weights().items()}

        @tf.function(input_signature=[tf.TensorSpec((1, 16, 16, 3), tf.float32, name="image")])  # type: ignore[untyped-decorator]  # tensorflow has no types
        def logits(self, image: Any) -> dict[str, Any]:
            padded = tf.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
            hidden = tf.nn.relu(tf.nn.conv2d(padded, self.kernels["stem"], 2, "VALID"))
            hidden = tf.nn.relu(tf.nn.depthwise_conv2d(hidden, self.kernels["depthwise"], (1, 1, 1, 1), "SAME"))
            hidden = tf.nn.relu(tf.nn.conv2d(hidden, self.kernels["pointwise"], 1, "VALID"))
            return {"logits": tf.reduce_mean(hidden, (1, 2)) @ self.kernels["dense"]}

    proof = Proof()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([proof.logits.get_concrete_function()], proof)
    return bytes(converter.convert())


def proof_onnx() -> bytes:
    """The network of `proof_litert` in ONNX: image [1, 3, 16, 16] -> logits [1, 10]."""
    from onnx import TensorProto, checker, helper, numpy_helper

    kernels = proof_weights()
    initializers = {
        "stem": kernels["stem"].transpose(3, 2, 0, 1),
        "depthwise": kernels["depthwise"].transpose(2, 3, 0, 1),
        "pointwise": kernels["pointwise"].transpose(3, 2, 0, 1),
        "dense": kernels["dense"],
    }
    nodes = [
        helper.make_node("Conv", ["image", "stem"], ["c1"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "depthwise"], ["c2"], group=8, pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("Conv", ["r2", "pointwise"], ["c3"]),
        helper.make_node("Relu", ["c3"], ["r3"]),
        helper.make_node("ReduceMean", ["r3"], ["m"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["m", "dense"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "proof",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 10])],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in initializers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model)
    return bytes(model.SerializeToString())


def proof_weights() -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """Convolution, depthwise, pointwise and dense kernels, scaled so that the logits spread over several units."""
    rng = np.random.default_rng(SEED + 2)
    shapes = {"stem": (3, 3, 3, 8), "depthwise": (3, 3, 8, 1), "pointwise": (1, 1, 8, 16), "dense": (16, 10)}
    return {
        name: rng.normal(0, 2 / np.sqrt(np.prod(shape[:-1])), shape).astype(np.float32)
        if name != "depthwise"
        else rng.normal(0, 0.6, shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def proof_logits(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The network of `proof_litert` by its definition, in float64: [n, 16, 16, 3] -> [n, 10]."""
    kernels = {name: value.astype(np.float64) for name, value in proof_weights().items()}

    def windows(padded: np.ndarray[Any, Any], stride: int) -> np.ndarray[Any, Any]:
        view = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
        return view[:, ::stride, ::stride]

    pad = ((0, 0), (1, 1), (1, 1), (0, 0))
    hidden = np.einsum("nyxcij,ijco->nyxo", windows(np.pad(images.astype(np.float64), pad), 2), kernels["stem"])
    hidden = windows(np.pad(np.maximum(hidden, 0), pad), 1)
    hidden = np.einsum("nyxcij,ijc->nyxc", hidden, kernels["depthwise"][..., 0])
    hidden = np.einsum("nyxc,co->nyxo", np.maximum(hidden, 0), kernels["pointwise"][0, 0])
    logits: np.ndarray[Any, Any] = np.maximum(hidden, 0).mean((1, 2)) @ kernels["dense"]
    return logits


def proof_images() -> np.ndarray[Any, np.dtype[np.float32]]:
    """Noise of growing contrast, so that no two examples answer alike: [8, 16, 16, 3]."""
    noise = np.random.default_rng(SEED + 3).random((8, 16, 16, 3), np.float32)
    return noise * np.linspace(0.1, 2.0, 8, dtype=np.float32)[:, None, None, None]


def litert_step() -> bytes:
    """frames [1, 6, 3] -> scores [1, 3] by an int8 GRU and an LSTM, with the one-step form beside it."""
    import keras

    from compress.quantize.lsq.fake import calibrate
    from compress.quantize.lsq.lowering import lower
    from compress.quantize.lsq.one_step import one_step
    from compress.quantize.lsq.to_litert import to_litert

    keras.utils.set_random_seed(SEED)
    frames = keras.Input((6, 3), name="frames")
    inside = keras.layers.LSTM(4)(keras.layers.GRU(4, return_sequences=True)(frames))
    graph = lower(keras.Model(frames, keras.layers.Dense(3, activation="softmax")(inside)))
    examples = np.random.default_rng(SEED).normal(size=(16, 6, 3)).astype(np.float32)
    grids = calibrate(graph, [{graph.inputs[0]: examples}])
    return to_litert(graph, grids, ["frames"], ["scores"], one_step(graph))


def main() -> None:
    files = {
        "tiny.tflite": litert(None, int8=False),
        "tiny_int8.tflite": litert(1, int8=True),
        "tiny_fallback.tflite": litert_fallback(),
        "tiny.onnx": onnx_float(),
        "tiny_step.tflite": litert_step(),
    }
    for name, content in files.items():
        (FOLDER / name).write_bytes(content)
    PROOF_MODELS.mkdir(exist_ok=True)
    (PROOF_MODELS / "conv.tflite").write_bytes(proof_litert())
    (PROOF_MODELS / "conv.onnx").write_bytes(proof_onnx())
    np.savez(PROOF_MODELS / "expected.npz", image=proof_images(), logits=proof_logits(proof_images()))


if __name__ == "__main__":
    main()
