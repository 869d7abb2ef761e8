"""Bundles to serve: of the fake engine, and of the tiny real networks of tests/edge/data."""

from pathlib import Path

import numpy as np

from edge.artifact import Artifact
from edge.audio import AudioInput
from edge.bundle import Golden, write_bundle
from edge.engines import open_engine, predict
from edge.engines.fake import VECTOR, FakeModel
from edge.image import ImageInput
from edge.preprocess import ArrayInput
from edge.table import TableInput
from edge.tensors import TensorSpec

DATA = Path(__file__).resolve().parents[2] / "edge" / "data"
LABELS = ("cat", "dog", "owl")
SOUND = TensorSpec("sound", (1, 400), "float32")
TWO = (TensorSpec("left", (1, 2), "float32"), TensorSpec("right", (1, 3), "int32"))
ROW = TensorSpec("row", (1, 2), "float32")


def make(folder, model, model_format, name, steps, labels=(), shift=0.0, misbehaving=None):
    """A bundle whose golden outputs are what the engine says to random inputs, off by `shift`.

    `misbehaving` is the content of a fake model that takes the place of the one that gave the golden outputs.
    """
    engine = open_engine(model, model_format)
    rng = np.random.default_rng(0)
    inputs, outputs = {}, {}
    for spec in engine.inputs:
        dtype = "float32" if spec.quantization else spec.dtype
        inputs[spec.name] = rng.random((2, *spec.shape[1:]), np.float32).astype(dtype)
    for spec in engine.outputs:
        answers = []
        for i in range(2):
            engine.reset()
            answers.append(predict(engine, {key: rows[i : i + 1] for key, rows in inputs.items()}))
        outputs[spec.name] = np.concatenate([answer[spec.name] for answer in answers]) + np.float32(shift)
    artifact = Artifact(model, model_format, engine.inputs, engine.outputs, "")
    engine.close()
    if misbehaving is not None:
        model.write_bytes(misbehaving)
    path = folder / f"{name}.edge"
    golden = Golden(inputs, outputs)
    write_bundle(path, artifact, golden, name=name, target="any", task="test", preprocess=steps, labels=labels)
    return path


def fake(folder, name="fake", steps=None, labels=("a", "b", "c"), shift=0.0, inputs=VECTOR, **planted):
    """A bundle of the fake engine. It is proven on two golden vectors, so its first request is call 3."""
    path = folder / f"{name}.fake"
    path.write_bytes(FakeModel(inputs).to_bytes())
    steps = steps or {spec.name: ArrayInput(dtype=spec.dtype) for spec in inputs}
    misbehaving = FakeModel(inputs, **planted).to_bytes() if planted else None
    return make(folder, path, "fake", name, steps, labels, shift, misbehaving)


def pictures(folder, file, name):
    """A bundle of one of the tiny networks [8, 8, 1] -> [3]."""
    model = DATA / file
    step = ImageInput(8, 8, 1, layout="CHW" if model.suffix == ".onnx" else "HWC")
    return make(folder, model, model.suffix[1:], name, {"image": step}, LABELS)


def sounds(folder):
    """A bundle that takes 25 ms of sound."""
    return fake(folder, "sounds", {"sound": AudioInput(16000, 400)}, inputs=(SOUND,))


def rows(folder):
    """A bundle that takes a row of a table."""
    return fake(
        folder, "rows", {"row": TableInput(("age", "height"), (40.0, 1.7), (10.0, 0.1))}, labels=(), inputs=(ROW,)
    )


def two(folder):
    """A bundle with two inputs, one of them of whole numbers."""
    return fake(folder, "two", labels=(), inputs=TWO)


def running(folder):
    """A bundle of a network that adds up what it is given, run after run."""
    return make(folder, DATA / "tiny_running.tflite", "tflite", "running", {"x": ArrayInput()})
