"""Bundles that LiteRT runs, without TensorFlow: one small network with other weights each time."""

from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge.artifact import Artifact
from edge.bundle import Golden, write_bundle
from edge.engines import open_engine, predict
from edge.preprocess import ArrayInput
from tests.conftest import REPOSITORY

MODEL = REPOSITORY / "edge" / "proof_models" / "conv.tflite"


def litert_bundle(
    path: Path,
    scale: float,
    *,
    target: str = "generic-aarch64",
    wrong: float = 0.0,
    requires: tuple[str, ...] = (),
) -> Path:
    """The convolutions that delegates are proven by, weights times `scale`; golden vectors from LiteRT here."""
    model = schema.ModelT.InitFromPackedBuf(bytearray(MODEL.read_bytes()), 0)
    for buffer in model.buffers:
        if buffer.data is not None and len(buffer.data) > 64:
            weights = np.frombuffer(bytes(buffer.data), "<f4") * np.float32(scale)
            buffer.data = np.frombuffer(weights.tobytes(), np.uint8)
    builder = flatbuffers.Builder(1 << 14)
    builder.Finish(model.Pack(builder), b"TFL3")
    file = path.with_suffix(".tflite")
    file.write_bytes(bytes(builder.Output()))
    engine = open_engine(file.read_bytes(), "tflite")
    (image,), (logits,) = engine.inputs, engine.outputs
    images = np.random.default_rng(0).normal(size=(2, *image.shape[1:])).astype(np.float32)
    answers = np.concatenate([predict(engine, {image.name: one[None]})[logits.name] for one in images]) + wrong
    write_bundle(
        path,
        Artifact(file, "tflite", engine.inputs, engine.outputs, ""),
        Golden({image.name: images}, {logits.name: answers}),
        name=path.stem,
        target=target,
        task="proof",
        preprocess={image.name: ArrayInput()},
        requires=requires,
    )
    engine.close()
    return path
