"""One fit of a Keras model on a task: what every training-time pass does between loading and saving."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.errors import CheckFailed
from edgetool.passes.recovery import goodness, loss_of
from edgetool.passes.step import KEPT
from edgetool.progress import At
from edgetool.task import Batch, Task

if TYPE_CHECKING:
    from compress.training import FineTune, FitSummary, Objective, WeightTransform

# A compressing fit may end a little worse, which the gate judges; one that loses half of what the model knew diverged.
MOST_LOST = 0.5


def fit_task(
    model: Any,
    task: Task,
    settings: "FineTune",
    workdir: Path,
    progress: At,
    doing: str,
    *,
    transforms: Sequence["WeightTransform"] = (),
    objectives: Sequence["Objective"] = (),
    targets: Mapping[str, Any] | None = None,
    label_weight: float = 1.0,
    start_counts: bool = True,
) -> "FitSummary":
    """Train a Keras model in place on `train`. A fit of the same folder that was interrupted goes on.

    `targets` are what the objectives compare with, by name: an array [n, ...] in the order of `train`. Where a part
    starts anew, the start does not count as something to lose.

    Raises:
        CheckFailed: the fit diverged: a loss or weight that is not finite, or `val` worse than before (with
            transforms: by half). The weights are as they were.

    """
    from compress.training import fine_tune

    size = min(settings.batch_size, task.train.n)
    start, before = goodness(model, task), model.get_weights()

    def train(epoch: int) -> Iterator[tuple[Batch, Any]]:
        order = np.random.default_rng((settings.seed, epoch)).permutation(task.train.n)
        for first in range(0, len(order), size):
            chosen = order[first : first + size]
            inputs, labels = task.train.take(chosen)
            yield {**inputs, **{name: values[chosen] for name, values in (targets or {}).items()}}, labels

    summary = fine_tune(
        model,
        train,
        task.train.n // size,
        loss_of(task),
        transforms,
        settings,
        lambda done, total, loss: progress(done / total, f"{doing}, step {done} of {total}, loss {loss:.3f}"),
        objectives=objectives,
        label_weight=label_weight,
        checkpoint=workdir / KEPT,
    )
    end = goodness(model, task)
    if start_counts and not end >= start - (MOST_LOST * abs(start) if transforms else 0):
        model.set_weights(before)
        raise CheckFailed(
            f"{doing}: {task.metric.name} on val went from {abs(start):.4g} to {abs(end):.4g}; the weights before it "
            f"are kept (last loss {summary.epoch_losses[-1]:.3g})",
            f"lower learning_rate ({settings.learning_rate:g}), or train for more epochs ({settings.epochs})",
        )
    return summary
