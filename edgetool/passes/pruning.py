"""Pruning of weights: training-time passes, so they take Keras 3 models."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from edge.artifact import Artifact, Format
from edge.errors import BadRecipe
from edgetool.passes.recovery import loss_of
from edgetool.passes.step import TRAINABLE, PassResult, all_positive, label, needed, one_of, write_keras
from edgetool.progress import At
from edgetool.task import Batch, Task

if TYPE_CHECKING:
    from compress.prune.pruner import Pruner


@dataclass(frozen=True)
class _Prune(ABC):
    """What every one of them is told about its fine-tune: `end` is the fraction of it after which nothing more goes.

    `schedule` is polynomial (Zhu and Gupta, equation 1) or constant; `depthwise` prunes depthwise kernels too.
    """

    name: ClassVar[str]
    accepts: ClassVar[frozenset[Format]] = TRAINABLE
    end: float = 0.5
    schedule: Literal["polynomial", "constant"] = "polynomial"
    depthwise: bool = False
    epochs: int = 3
    learning_rate: float = 3e-3
    batch_size: int = 128

    def __post_init__(self) -> None:
        one_of(self.name, "schedule", self.schedule, ("polynomial", "constant"))
        all_positive(self, "epochs", "learning_rate", "batch_size")
        if not 0 < self.end <= 1:
            raise BadRecipe(f"{self.name}: end must be above 0 and at most 1, not {self.end}")

    def produces(self, source: Format) -> Format:
        return "keras"

    @abstractmethod
    def _pruner_of(self, task: Task, seed: int) -> "Pruner":
        """What prunes the model during one fit on `task`."""

    def __call__(
        self, artifact: Artifact, task: Task | None, workdir: Path, *, seed: int, trust: bool, progress: At
    ) -> PassResult:
        from compress.training import FineTune, check_model
        from convert.load import load_keras
        from edgetool.passes.fitting import fit_task

        task = needed(task, self.name)
        model = load_keras(artifact.path, trust=trust)
        check_model(model)
        settings = FineTune(self.epochs, self.learning_rate, self.batch_size, seed)
        summary = fit_task(
            model, task, settings, workdir, progress, "pruning", transforms=[self._pruner_of(task, seed)]
        )
        made = write_keras(model, artifact, workdir, label(self), trust=trust)
        return PassResult(made, summary.transforms[0].skipped)


@dataclass(frozen=True)
class _PruneByWeights(_Prune):
    """Those that look at the weights alone: they can be a part of any fit."""

    @abstractmethod
    def pruner(self) -> "Pruner":
        """What prunes a model during one fit."""

    def _pruner_of(self, task: Task, seed: int) -> "Pruner":
        return self.pruner()


@dataclass(frozen=True)
class MagnitudePrune(_PruneByWeights):
    """Weights of least magnitude become zero while the model is fine-tuned; buys packed bytes, not time.

    `sparsity` of the prunable weights is reached after the fraction `end` of the fine-tune.
    """

    name: ClassVar[str] = "prune.magnitude"
    sparsity: float = 0.7
    scope: Literal["global", "per_layer"] = "global"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_sparsity(self.name, self.sparsity)
        one_of(self.name, "scope", self.scope, ("global", "per_layer"))

    def pruner(self) -> "Pruner":
        from compress.prune.magnitude import magnitude_pruner
        from compress.prune.pruner import Schedule

        schedule = Schedule(self.sparsity, end=self.end, kind=self.schedule, depthwise=self.depthwise)
        return magnitude_pruner(schedule, self.scope)


@dataclass(frozen=True)
class TaylorPrune(_Prune):
    """Weights without which the loss changes least become zero: better than by magnitude from 90 % on, slower to train.

    `sparsity` of the prunable weights is reached after the fraction `end` of the fine-tune.
    """

    name: ClassVar[str] = "prune.taylor"
    sparsity: float = 0.9
    scope: Literal["global", "per_layer"] = "global"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_sparsity(self.name, self.sparsity)
        one_of(self.name, "scope", self.scope, ("global", "per_layer"))

    def _pruner_of(self, task: Task, seed: int) -> "Pruner":
        from compress.prune.pruner import Schedule
        from compress.prune.taylor import TaylorPruner

        size = min(self.batch_size, task.train.n)

        def draw(step: int) -> tuple[Batch, npt.NDArray[Any]]:
            # a stream of its own: the fit's batches are drawn by (seed, epoch)
            return task.train.take(np.random.default_rng((seed, step, 1)).choice(task.train.n, size, replace=False))

        schedule = Schedule(self.sparsity, end=self.end, kind=self.schedule, depthwise=self.depthwise)
        return TaylorPruner(schedule, draw, loss_of(task), self.scope)


@dataclass(frozen=True)
class NMPrune(_PruneByWeights):
    """Of every `m` neighbouring inputs `n` weights are kept: the form of sparse tensor cores; buys packed bytes."""

    name: ClassVar[str] = "prune.nm"
    n: int = 2
    m: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.n < self.m:
            raise BadRecipe(f"{self.name}: n of m weights are kept, so 1 <= n < m, not {self.n} of {self.m}")

    def pruner(self) -> "Pruner":
        from compress.prune.nm import nm_pruner
        from compress.prune.pruner import Schedule

        schedule = Schedule(1 - self.n / self.m, end=self.end, kind=self.schedule, depthwise=self.depthwise)
        return nm_pruner(schedule, self.n, self.m)


@dataclass(frozen=True)
class BlockPrune(_PruneByWeights):
    """Runs of `block` neighbouring outputs become zero together: fewer, longer gaps; buys packed bytes."""

    name: ClassVar[str] = "prune.block"
    sparsity: float = 0.5
    block: int = 4
    scope: Literal["global", "per_layer"] = "global"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_sparsity(self.name, self.sparsity)
        one_of(self.name, "scope", self.scope, ("global", "per_layer"))
        if self.block < 2:
            raise BadRecipe(f"{self.name}: block must be at least 2, not {self.block}")

    def pruner(self) -> "Pruner":
        from compress.prune.block import block_pruner
        from compress.prune.pruner import Schedule

        schedule = Schedule(self.sparsity, end=self.end, kind=self.schedule, depthwise=self.depthwise)
        return block_pruner(schedule, self.block, self.scope)


def _check_sparsity(name: str, sparsity: float) -> None:
    if not 0 <= sparsity < 1:
        raise BadRecipe(f"{name}: sparsity must be at least 0 and below 1, not {sparsity}")
