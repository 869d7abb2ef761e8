"""Channel pruning: Keras 3 models are fine-tuned afterwards, ONNX models are pruned as they are."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from edge.artifact import Artifact, Format
from edge.errors import BadRecipe
from edge.report import Skipped
from edgetool.passes.recovery import loss_of, recover
from edgetool.passes.step import (
    KEPT,
    TRAINABLE,
    PassResult,
    all_positive,
    label,
    needed,
    one_of,
    write_keras,
    write_model,
)
from edgetool.progress import At
from edgetool.task import Task, batches

if TYPE_CHECKING:
    from compress.prune.channels.channel import ChannelPruning
    from compress.training import FineTune

# Molchanov et al. average the estimate over a part of an epoch; beyond a few thousand examples the order is stable.
TAYLOR_EXAMPLES, TAYLOR_BATCH = 4096, 64


@dataclass(frozen=True)
class ChannelPrune:
    """The least important channels go and the model is built anew without them; buys time and bytes.

    `macs` is the fraction of the multiply-accumulates that may be left. `multiple`: every layer keeps a multiple of
    this many channels, and at least the fraction `keep` of them. `auto` is taylor for Keras, l1 for ONNX. A Keras model
    is pruned in `rounds`, with one epoch of fine-tuning between them, and is fine-tuned for `epochs` at the end (0: not
    at all); an ONNX model is pruned at once and never trained.
    """

    name: ClassVar[str] = "prune.channel"
    accepts: ClassVar[frozenset[Format]] = TRAINABLE | {"onnx"}
    macs: float = 0.5
    importance: Literal["auto", "taylor", "l1", "bn_scale"] = "auto"
    multiple: int = 8
    keep: float = 0.125
    rounds: int = 1
    epochs: int = 3
    learning_rate: float = 3e-3
    batch_size: int = 128

    def __post_init__(self) -> None:
        one_of(self.name, "importance", self.importance, ("auto", "taylor", "l1", "bn_scale"))
        all_positive(self, "multiple", "rounds", "learning_rate", "batch_size")
        if not 0 < self.macs < 1:
            raise BadRecipe(f"{self.name}: macs must be above 0 and below 1, not {self.macs}")
        if not 0 <= self.keep <= 1:
            raise BadRecipe(f"{self.name}: keep must be at least 0 and at most 1, not {self.keep}")
        if self.epochs < 0:
            raise BadRecipe(f"{self.name}: epochs must be at least 0, not {self.epochs}")

    def produces(self, source: Format) -> Format:
        return "onnx" if source == "onnx" else "keras"

    def __call__(
        self, artifact: Artifact, task: Task | None, workdir: Path, *, seed: int, trust: bool, progress: At
    ) -> PassResult:
        if artifact.format == "onnx":
            return self._onnx(artifact, workdir, progress)
        from compress.prune.channels.channel import prune_channels
        from convert.load import load_keras

        settings = self._settings("taylor")
        if self.epochs or settings.importance == "taylor":
            task = needed(task, self.name)
        model = load_keras(artifact.path, trust=trust)
        skipped: dict[tuple[str, str], Skipped] = {}
        for round_number in range(1, self.rounds + 1):
            progress((round_number - 1) / self.rounds, f"ranking channels, round {round_number} of {self.rounds}")
            # each round goes on from a smaller model: the fractions multiply up to `macs` and `keep`
            share = 1 / self.rounds
            step = replace(settings, macs=self.macs**share, keep=self.keep**share)
            drawn = np.random.default_rng((seed, round_number)).permutation(task.train.n if task else 0)
            examples = () if task is None else _small_batches(task, drawn[:TAYLOR_EXAMPLES])
            pruned = prune_channels(model, step, examples, loss_of(task) if task else "crossentropy")
            model = pruned.model
            skipped |= {(entry.what, entry.reason): entry for entry in pruned.skipped}
            if round_number < self.rounds and self.epochs:
                kept = workdir / KEPT / f"round{round_number}"
                recover(model, needed(task, self.name), self._tune(1, seed), kept, progress)
        if self.epochs:
            said = recover(model, needed(task, self.name), self._tune(self.epochs, seed), workdir / KEPT, progress)
            skipped |= {(entry.what, entry.reason): entry for entry in said}
        made = write_keras(model, artifact, workdir, label(self), trust=trust)
        return PassResult(made, tuple(skipped.values()))

    def _onnx(self, artifact: Artifact, workdir: Path, progress: At) -> PassResult:
        from compress.prune.onnx_channels import prune_onnx
        from convert.load import read_onnx

        if self.importance == "taylor":
            raise BadRecipe(
                f"{self.name}: taylor needs gradients, which an ONNX model has not", 'set importance = "l1"'
            )
        progress(0.0, "pruning channels")
        pruned = prune_onnx(read_onnx(artifact.path).SerializeToString(), self._settings("l1"))
        untrained = Skipped("fine-tune", "an ONNX model cannot be trained; prune the Keras model to win accuracy back")
        made = write_model(pruned.model, artifact, workdir, "onnx", label(self))
        return PassResult(made, (*pruned.skipped, untrained))

    def _settings(self, automatic: Literal["taylor", "l1"]) -> "ChannelPruning":
        from compress.prune.channels.channel import ChannelPruning

        importance = automatic if self.importance == "auto" else self.importance
        return ChannelPruning(self.macs, importance, self.multiple, self.keep)

    def _tune(self, epochs: int, seed: int) -> "FineTune":
        from compress.training import FineTune

        return FineTune(epochs, self.learning_rate, self.batch_size, seed)


def _small_batches(task: Task, order: Any) -> Iterator[Any]:
    return batches(task.train, TAYLOR_BATCH, order)
