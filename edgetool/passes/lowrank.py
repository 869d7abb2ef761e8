"""Low-rank factorization: layers become thinner ones, and the model is fine-tuned."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edge.artifact import Artifact, Format
from edge.errors import BadRecipe
from edgetool.passes.recovery import recover
from edgetool.passes.step import KEPT, TRAINABLE, PassResult, all_positive, label, needed, write_keras
from edgetool.progress import At
from edgetool.task import Task


@dataclass(frozen=True)
class LowRankSVD:
    """Dense and convolution layers become two or three thin ones where that saves multiply-accumulates.

    `macs` is the fraction of them that may be left. With an `energy` above 0 it is not looked at: every kernel keeps
    that fraction of its sum of squares. Ranks are multiples of `multiple`. 0 `epochs` is no fine-tune.
    """

    name: ClassVar[str] = "lowrank.svd"
    accepts: ClassVar[frozenset[Format]] = TRAINABLE
    macs: float = 0.7
    energy: float = 0.0
    multiple: int = 4
    epochs: int = 3
    learning_rate: float = 3e-3
    batch_size: int = 128

    def __post_init__(self) -> None:
        all_positive(self, "multiple", "learning_rate", "batch_size")
        if not 0 < self.macs < 1:
            raise BadRecipe(f"{self.name}: macs must be above 0 and below 1, not {self.macs}")
        if not 0 <= self.energy <= 1:
            raise BadRecipe(f"{self.name}: energy must be at least 0 and at most 1, not {self.energy}")
        if self.epochs < 0:
            raise BadRecipe(f"{self.name}: epochs must be at least 0, not {self.epochs}")

    def produces(self, source: Format) -> Format:
        return "keras"

    def __call__(
        self, artifact: Artifact, task: Task | None, workdir: Path, *, seed: int, trust: bool, progress: At
    ) -> PassResult:
        from compress.lowrank.factorize import LowRank, factorize
        from compress.training import FineTune
        from convert.load import load_keras

        if self.epochs:
            task = needed(task, self.name)
        progress(0.0, "factorizing kernels")
        settings = LowRank(self.macs, self.energy or None, self.multiple)
        made = factorize(load_keras(artifact.path, trust=trust), settings)
        skipped = made.skipped
        if self.epochs:
            tune = FineTune(self.epochs, self.learning_rate, self.batch_size, seed)
            skipped += recover(made.model, needed(task, self.name), tune, workdir / KEPT, progress)
        return PassResult(write_keras(made.model, artifact, workdir, label(self), trust=trust), skipped)
