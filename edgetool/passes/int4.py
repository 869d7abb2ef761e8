"""int4 weights: a Keras model becomes a .tflite first, the others keep their format."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edge.artifact import Artifact, Format
from edgetool.passes.step import EVERY, KERAS, PassResult, label, write_model
from edgetool.progress import At
from edgetool.task import Task


@dataclass(frozen=True)
class Int4:
    """int4 weights in blocks of 32 for dense layers and embeddings; the rest stays float. Buys bytes, rarely time."""

    name: ClassVar[str] = "quantize.int4"
    accepts: ClassVar[frozenset[Format]] = EVERY

    def produces(self, source: Format) -> Format:
        return "onnx" if source == "onnx" else "tflite"

    def __call__(
        self, artifact: Artifact, task: Task | None, workdir: Path, *, seed: int, trust: bool, progress: At
    ) -> PassResult:
        from compress.quantize import litert_int4, onnx_int4
        from convert.load import load_keras, read_onnx
        from convert.to_litert import to_litert

        progress(0.0, "quantizing weights: int4")
        if artifact.format == "onnx":
            made = onnx_int4.quantize_int4(read_onnx(artifact.path).SerializeToString())
        elif artifact.format in KERAS:
            made = litert_int4.quantize_int4(to_litert(load_keras(artifact.path, trust=trust), "float32", None))
        else:
            made = litert_int4.quantize_int4(artifact.path.read_bytes())
        form = self.produces(artifact.format)
        return PassResult(write_model(made.model, artifact, workdir, form, label(self)), made.skipped)
