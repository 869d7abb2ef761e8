"""Pruning passes: training-time, so they take Keras 3 models."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from edge.artifact import Artifact, Format
from edge.errors import BadRecipe
from edgetool.passes.step import TRAINABLE, PassResult, label, needed, one_of, positive
from edgetool.progress import At
from edgetool.task import Task, batches


@dataclass(frozen=True)
class MagnitudePrune:
    """Weights of least magnitude become zero while the model is fine-tuned; buys packed bytes, not time.

    `sparsity` of the prunable weights is reached after the fraction `end` of the fine-tune.
    """

    name: ClassVar[str] = "prune.magnitude"
    accepts: ClassVar[frozenset[Format]] = TRAINABLE
    sparsity: float = 0.7
    end: float = 0.5
    scope: Literal["global", "per_layer"] = "global"
    epochs: int = 3
    learning_rate: float = 3e-3
    batch_size: int = 128

    def __post_init__(self) -> None:
        one_of(self.name, "scope", self.scope, ("global", "per_layer"))
        for key, value in (
            ("epochs", self.epochs),
            ("learning_rate", self.learning_rate),
            ("batch_size", self.batch_size),
        ):
            positive(self.name, key, value)
        if not 0 <= self.sparsity < 1:
            raise BadRecipe(f"{self.name}: sparsity must be at least 0 and below 1, not {self.sparsity}")
        if not 0 < self.end <= 1:
            raise BadRecipe(f"{self.name}: end must be above 0 and at most 1, not {self.end}")

    def produces(self, source: Format) -> Format:
        return "keras"

    def __call__(
        self, artifact: Artifact, task: Task | None, workdir: Path, *, seed: int, trust: bool, progress: At
    ) -> PassResult:
        from compress.prune.magnitude import MagnitudePruner, MagnitudePruning
        from compress.training import FineTune, fine_tune
        from convert.load import describe, load_keras

        task = needed(task, self.name)
        model = load_keras(artifact.path, trust=trust)
        pruner = MagnitudePruner(MagnitudePruning(sparsity=self.sparsity, end=self.end, scope=self.scope))
        size = min(self.batch_size, task.train.n)
        summary = fine_tune(
            model,
            lambda epoch: batches(task.train, size, np.random.default_rng((seed, epoch)).permutation(task.train.n)),
            task.train.n // size,
            "crossentropy" if np.issubdtype(task.train.labels().dtype, np.integer) else "mse",
            [pruner],
            FineTune(self.epochs, self.learning_rate, self.batch_size, seed),
            lambda done, total, loss: progress(done / total, f"pruning, step {done} of {total}, loss {loss:.3f}"),
        )
        path = workdir / "model.keras"
        model.save(path)
        made = replace(describe(path, trust=trust), steps=(*artifact.steps, label(self)))
        return PassResult(made, summary.transforms[0].skipped)
