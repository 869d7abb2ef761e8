"""The fine-tune after a pass that changed a Keras model's shape: what it lost is won back, or the weights are kept."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.errors import CheckFailed
from edge.report import Skipped
from edgetool.progress import At
from edgetool.task import Examples, Task, batches

if TYPE_CHECKING:
    from compress.training import Batch as TrainBatch
    from compress.training import FineTune, Loss

VAL_BATCH = 500


def loss_of(task: Task) -> "Loss":
    """Classes are learned by cross-entropy, numbers by their squared error."""
    return "crossentropy" if np.issubdtype(task.train.labels().dtype, np.integer) else "mse"


def epochs_of(task: Task, size: int, seed: int) -> "Callable[[int], Iterator[TrainBatch]]":
    """Epoch (0, 1, …) -> its batches of `size` training examples, shuffled the same way at every call."""
    return lambda epoch: batches(task.train, size, np.random.default_rng((seed, epoch)).permutation(task.train.n))


def recover(model: Any, task: Task, settings: "FineTune", kept: Path, progress: At) -> tuple[Skipped, ...]:
    """Fine-tune a Keras model in place; where it diverges or ends worse on `val`, put its weights back and say so.

    Whole epochs are kept in the folder `kept`, from which an interrupted fit goes on.
    """
    from compress.training import fine_tune

    size = min(settings.batch_size, task.train.n)

    def fit() -> None:
        fine_tune(
            model,
            epochs_of(task, size, settings.seed),
            task.train.n // size,
            loss_of(task),
            (),
            settings,
            lambda done, total, loss: progress(done / total, f"fine-tuning, step {done} of {total}, loss {loss:.3f}"),
            checkpoint=kept,
        )

    before = model.get_weights()
    return kept_if_better(model, task, fit, lambda: model.set_weights(before))


def kept_if_better(
    model: Any, task: Task, fit: Callable[[], None], put_back: Callable[[], None]
) -> tuple[Skipped, ...]:
    """Run `fit`; where it fails a check or the model ends worse on `val`, run `put_back` and say why."""
    start = goodness(model, task)
    try:
        fit()
    except CheckFailed as error:
        put_back()
        return (Skipped("fine-tune", f"{error.message}; the weights before it are kept"),)
    end = goodness(model, task)
    if end >= start:
        return ()
    put_back()
    why = f"{task.metric.name} on val went from {abs(start):.4g} to {abs(end):.4g}; the weights before it are kept"
    return (Skipped("fine-tune", why),)


def goodness(model: Any, task: Task) -> float:
    """The metric of a Keras model with one output on `val`, larger is better."""
    value = float(task.metric.value(_outputs(model, task.val), task.val.labels()))
    return value if task.metric.direction == "higher" else -value


def _outputs(model: Any, examples: Examples) -> Any:
    names = [tensor.name for tensor in model.inputs]
    parts = []
    for inputs, _ in batches(examples, VAL_BATCH):
        arrays = list(inputs.values()) if len(inputs) == len(names) == 1 else [inputs[name] for name in names]
        parts.append(model.predict(arrays if len(arrays) > 1 else arrays[0], batch_size=VAL_BATCH, verbose=0))
    return np.concatenate(parts)
