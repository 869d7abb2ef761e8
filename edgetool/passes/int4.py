"""int4 weights: a Keras model becomes a .tflite first, the others keep their format."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edge.artifact import Artifact, Format
from edge.errors import BadRecipe
from edgetool.passes.step import EVERY, KERAS, PassResult, calibration_samples, label, needed, write_model
from edgetool.progress import At
from edgetool.task import Task

if TYPE_CHECKING:
    from compress.quantize import Quantized


@dataclass(frozen=True)
class Int4:
    """int4 weights in blocks of 32 for dense layers and embeddings; the rest stays float. Buys bytes, rarely time.

    `convolutions` (not ONNX) treats those, too; `samples` training examples then choose how weights are rounded, and 0
    of them rounds to nearest. With fewer `bits` convolutions are as many bytes that pack smaller.
    """

    name: ClassVar[str] = "quantize.int4"
    accepts: ClassVar[frozenset[Format]] = EVERY
    convolutions: bool = False
    bits: int = 4
    samples: int = 512

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 4 or (self.bits < 4 and not self.convolutions):
            raise BadRecipe(f"{self.name}: bits are 2 to 4, of convolutions only, not {self.bits}")
        if self.samples < 0:
            raise BadRecipe(f"{self.name}: samples must be at least 0, not {self.samples}")

    def produces(self, source: Format) -> Format:
        return "onnx" if source == "onnx" else "tflite"

    def __call__(
        self, artifact: Artifact, task: Task | None, workdir: Path, *, seed: int, trust: bool, progress: At
    ) -> PassResult:
        from compress.quantize import onnx_int4
        from convert.load import load_keras, read_onnx
        from convert.to_litert import to_litert

        progress(0.0, "quantizing weights: int4")
        if artifact.format == "onnx":
            if self.convolutions:
                raise BadRecipe(f"{self.name} of an ONNX model has no setting convolutions", "leave it out")
            made = onnx_int4.quantize_int4(read_onnx(artifact.path).SerializeToString())
        elif artifact.format in KERAS:
            made = self._litert(to_litert(load_keras(artifact.path, trust=trust), "float32", None), task, seed)
        else:
            made = self._litert(artifact.path.read_bytes(), task, seed)
        form = self.produces(artifact.format)
        return PassResult(write_model(made.model, artifact, workdir, form, label(self)), made.skipped)

    def _litert(self, model: bytes, task: Task | None, seed: int) -> "Quantized":
        from compress.quantize.litert_int4 import quantize_int4

        if not self.convolutions:
            return quantize_int4(model)
        samples = calibration_samples(needed(task, self.name), self.samples, seed) if self.samples else None
        return quantize_int4(model, convolutions=True, bits=self.bits, calibration=samples)
