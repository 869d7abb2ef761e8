"""The entropy-constrained pass: training-time, so it takes Keras 3 models."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edge.artifact import Artifact, Format
from edge.errors import BadRecipe
from edgetool.passes.recovery import epochs_of, loss_of
from edgetool.passes.step import KEPT, TRAINABLE, PassResult, all_positive, label, needed, write_keras
from edgetool.progress import At
from edgetool.task import Task


@dataclass(frozen=True)
class EntropyCluster:
    """Weights of few values, mostly zero, trained until their coded bits meet a budget; buys stored bytes, not time.

    The kernels take 1 / `ratio` of their float32 bytes inside a bundle.
    """

    name: ClassVar[str] = "cluster.entropy"
    accepts: ClassVar[frozenset[Format]] = TRAINABLE
    ratio: float = 20.0
    clusters: int = 8
    distill: float = 0.7
    epochs: int = 10
    learning_rate: float = 2e-3
    batch_size: int = 128

    def __post_init__(self) -> None:
        from compress.cluster.entropy import EntropyConstraint

        all_positive(self, "epochs", "learning_rate", "batch_size")
        try:
            EntropyConstraint(ratio=self.ratio, clusters=self.clusters, distill=self.distill)
        except ValueError as error:
            raise BadRecipe(f"{self.name}: {error}") from error

    def produces(self, source: Format) -> Format:
        return "keras"

    def __call__(
        self, artifact: Artifact, task: Task | None, workdir: Path, *, seed: int, trust: bool, progress: At
    ) -> PassResult:
        from compress.cluster.entropy import EntropyConstraint, fit_to_budget
        from compress.training import FineTune
        from convert.load import load_keras

        task = needed(task, self.name)
        model = load_keras(artifact.path, trust=trust)
        size = min(self.batch_size, task.train.n)
        summary = fit_to_budget(
            model,
            epochs_of(task, size, seed),
            task.train.n // size,
            loss_of(task),
            EntropyConstraint(ratio=self.ratio, clusters=self.clusters, distill=self.distill),
            FineTune(self.epochs, self.learning_rate, self.batch_size, seed),
            lambda done, total, loss: progress(done / total, f"sharing, step {done} of {total}, loss {loss:.3f}"),
            workdir / KEPT,
        )
        made = write_keras(model, artifact, workdir, label(self), trust=trust)
        return PassResult(made, summary.transforms[0].skipped)
