"""Conversion passes: Keras to LiteRT and ONNX, LiteRT to ONNX."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edge.artifact import Artifact, Format
from edgetool.passes.step import KERAS, PassResult, label, write_model
from edgetool.progress import At
from edgetool.task import Task


@dataclass(frozen=True)
class ConvertLiteRT:
    """Keras to a float32 .tflite with batch size 1."""

    name: ClassVar[str] = "convert.litert"
    accepts: ClassVar[frozenset[Format]] = KERAS

    def produces(self, source: Format) -> Format:
        return "tflite"

    def __call__(
        self, artifact: Artifact, task: Task | None, workdir: Path, *, seed: int, trust: bool, progress: At
    ) -> PassResult:
        from convert.load import load_keras
        from convert.to_litert import to_litert

        progress(0.0, "converting to LiteRT")
        model = to_litert(load_keras(artifact.path, trust=trust), "float32", None)
        return PassResult(write_model(model, artifact, workdir, "tflite", label(self)))


@dataclass(frozen=True)
class ConvertONNX:
    """Keras or a .tflite to an .onnx with batch size 1 and the same precision.

    A .tflite whose batch is fixed at another size keeps it, unless `batch_1` makes it 1, too.
    """

    name: ClassVar[str] = "convert.onnx"
    accepts: ClassVar[frozenset[Format]] = KERAS | {"tflite"}
    batch_1: bool = False

    def produces(self, source: Format) -> Format:
        return "onnx"

    def __call__(
        self, artifact: Artifact, task: Task | None, workdir: Path, *, seed: int, trust: bool, progress: At
    ) -> PassResult:
        from convert.load import load_keras
        from convert.to_onnx import tflite_to_onnx, to_onnx

        progress(0.0, "converting to ONNX")
        if artifact.format == "tflite":
            model = tflite_to_onnx(artifact.path, batch_1=self.batch_1)
            return PassResult(write_model(model, artifact, workdir, "onnx", label(self)))
        return PassResult(
            write_model(to_onnx(load_keras(artifact.path, trust=trust)), artifact, workdir, "onnx", label(self))
        )
