"""Repair before post-training int8: a float model in, a float .tflite out; a Keras model is converted first."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edge.artifact import Artifact, Format
from edgetool.passes.step import (
    KERAS,
    Pass,
    PassResult,
    calibration_samples,
    label,
    needed,
    positive,
    write_model,
)
from edgetool.progress import At
from edgetool.task import Task

if TYPE_CHECKING:
    from compress.repair import Repaired


@dataclass(frozen=True)
class _Repair:
    accepts: ClassVar[frozenset[Format]] = KERAS | {"tflite"}

    def produces(self, source: Format) -> Format:
        return "tflite"


@dataclass(frozen=True)
class Equalize(_Repair):
    """Channels between two layers get weights of equal range on both sides; the function stays. Needs no data.

    For int8 with one scale a tensor. `replace_relu6` makes ReLU6 a ReLU first, which does change the function.
    """

    name: ClassVar[str] = "repair.equalize"
    replace_relu6: bool = False

    def __call__(
        self, artifact: Artifact, task: Task | None, workdir: Path, *, seed: int, trust: bool, progress: At
    ) -> PassResult:
        from compress.repair.equalize import equalize

        progress(0.0, "equalizing channels")
        made = equalize(_float_litert(artifact, trust), replace_relu6=self.replace_relu6)
        return _written(self, made, artifact, workdir)


@dataclass(frozen=True)
class _Rounding(_Repair):
    name: ClassVar[str]
    samples: int = 256
    per_channel: bool = True

    def __post_init__(self) -> None:
        positive(self.name, "samples", self.samples)


@dataclass(frozen=True)
class CorrectBias(_Rounding):
    """Weights are rounded to the int8 grid, and biases take back the mean of what that does on `samples` examples.

    `per_channel` is what the quantize.int8 behind it has.
    """

    name: ClassVar[str] = "repair.bias"

    def __call__(
        self, artifact: Artifact, task: Task | None, workdir: Path, *, seed: int, trust: bool, progress: At
    ) -> PassResult:
        from compress.repair.bias import correct_bias

        samples = calibration_samples(needed(task, self.name), self.samples, seed)
        progress(0.0, "correcting biases")
        made = correct_bias(_float_litert(artifact, trust), samples, per_channel=self.per_channel)
        return _written(self, made, artifact, workdir)


@dataclass(frozen=True)
class AdaRound(_Rounding):
    """Each weight is rounded up or down to the int8 grid so that outputs change least on `samples` examples.

    Biases are corrected too. `per_channel` is what the quantize.int8 behind it has.
    """

    name: ClassVar[str] = "repair.adaround"

    def __call__(
        self, artifact: Artifact, task: Task | None, workdir: Path, *, seed: int, trust: bool, progress: At
    ) -> PassResult:
        from compress.repair.adaround import adaround

        samples = calibration_samples(needed(task, self.name), self.samples, seed)
        progress(0.0, "rounding weights up or down")
        made = adaround(_float_litert(artifact, trust), samples, per_channel=self.per_channel)
        return _written(self, made, artifact, workdir)


def _float_litert(artifact: Artifact, trust: bool) -> bytes:
    from convert.load import load_keras
    from convert.to_litert import to_litert

    if artifact.format == "tflite":
        return artifact.path.read_bytes()
    return to_litert(load_keras(artifact.path, trust=trust), "float32", None)


def _written(step: Pass, made: "Repaired", artifact: Artifact, workdir: Path) -> PassResult:
    return PassResult(write_model(made.model, artifact, workdir, "tflite", label(step)), made.skipped)
