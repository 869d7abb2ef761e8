"""Mixed precision: a Keras model becomes a .tflite, the others keep their format."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from edge.artifact import Artifact, Format
from edge.errors import BadRecipe
from edge.report import Skipped
from edgetool.passes.step import EVERY, PassResult, all_positive, label, needed, one_of, write_model
from edgetool.progress import At
from edgetool.task import Task
from edgetool.units import parse_bytes, parse_milliseconds

if TYPE_CHECKING:
    from compress.quantize import Quantized
    from compress.quantize.mixable import Precision
    from compress.quantize.mixed import Measured, Mixed
    from compress.quantize.sensitivity import Sensitivity

PRECISIONS = ("int8", "int16x8", "float32")


@dataclass(frozen=True)
class MixedPrecision:
    """Each layer int8, float32 or, where asked for, int16x8 (16-bit activations): as narrow as the outputs bear.

    Takes the fewest bit operations that keep the outputs' SQNR at `sqnr_db` on `examples` of val within `max_size`
    ("60kB") and `max_time` ("2ms": the median on one thread of this machine, .tflite only); where these do not allow
    that, the best SQNR that they do. Calibrates on `samples` training examples. int16x8 has slow kernels on CPUs.
    """

    name: ClassVar[str] = "quantize.mixed"
    accepts: ClassVar[frozenset[Format]] = EVERY
    max_size: str = ""
    max_time: str = ""
    sqnr_db: float = 25.0
    precisions: tuple[str, ...] = ("int8", "float32")
    per_channel: bool = True
    samples: int = 512
    examples: int = 256

    def __post_init__(self) -> None:
        all_positive(self, "sqnr_db", "samples", "examples")
        for precision in self.precisions:
            one_of(self.name, "precisions", precision, PRECISIONS)
        if set(self.precisions) <= {"float32"}:
            raise BadRecipe(f"{self.name}: precisions has no integers in it", 'for example ["int8", "float32"]')
        if self.max_size:
            parse_bytes(self.max_size, f"{self.name}: max_size")
        if self.max_time:
            parse_milliseconds(self.max_time, f"{self.name}: max_time")

    def produces(self, source: Format) -> Format:
        return "onnx" if source == "onnx" else "tflite"

    def __call__(
        self, artifact: Artifact, task: Task | None, workdir: Path, *, seed: int, trust: bool, progress: At
    ) -> PassResult:
        from compress.quantize.mixed import Limits, Measured, mix, options_of
        from compress.quantize.sensitivity import noise
        from edgetool.layer_times import layer_ms, whole_ms
        from edgetool.sensitivity import kept_sensitivity, mixable, runner

        task = needed(task, self.name)
        if self.max_time and artifact.format == "onnx":
            raise BadRecipe(f"{self.name}: max_time is for a .tflite", "leave it out, or leave out convert.onnx")
        progress(0.0, f"calibrating on {min(self.samples, task.train.n)} training examples")
        source = mixable(artifact, task, self.samples, seed, per_channel=self.per_channel, trust=trust)
        sensitivity = kept_sensitivity(
            artifact, task, lambda: source, samples=self.samples, examples=self.examples, per_channel=self.per_channel,
            seed=seed, progress=progress,
        )  # fmt: skip
        precisions = cast("tuple[Precision, ...]", tuple(p for p in source.precisions if p in self.precisions))
        progress(0.9, "choosing a precision for every layer")
        times = layer_ms(source, precisions) if self.max_time else lambda *_: 0.0
        options = options_of(sensitivity, precisions, times)
        limits = Limits(
            10 ** (-self.sqnr_db / 10),
            parse_bytes(self.max_size) if self.max_size else math.inf,
            parse_milliseconds(self.max_time) if self.max_time else math.inf,
        )
        run, _ = runner(source, task, self.examples, seed)
        wanted = run(source.model)

        def judge(made: "Quantized") -> "Measured":
            time_ms = whole_ms(made.model) if self.max_time else 0.0
            return Measured(noise(wanted, run(made.model)), len(made.model), time_ms)

        mixed = mix(source, options, limits, judge)
        written = write_model(mixed.model.model, artifact, workdir, self.produces(artifact.format), label(self))
        left = [Skipped(p, f"not for .{source.format}") for p in self.precisions if p not in source.precisions]
        return PassResult(written, (*left, *sensitivity.skipped, *_left_wide(mixed, sensitivity)))


def _left_wide(mixed: "Mixed", sensitivity: "Sensitivity") -> tuple[Skipped, ...]:
    """The layers that are not int8, each with what int8 alone does to the outputs."""
    found = []
    for entry in sensitivity.layers:
        precision = mixed.chosen[entry.layer.name]
        if precision == "int8":
            continue
        narrow = next((effect for effect in entry.effects if effect.precision == "int8"), None)
        alone = "not possible" if narrow is None else "exact" if narrow.sqnr_db is None else f"{narrow.sqnr_db:.1f} dB"
        found.append(Skipped(entry.layer.name, f"is {precision}: int8 of this layer alone is {alone}"))
    return tuple(found)
