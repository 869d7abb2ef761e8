"""What the passes through tensorflow-model-optimization share: the way to tf_keras, a fine-tune that cannot harm."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.report import Skipped
from edgetool.passes.recovery import epochs_of, kept_if_better, loss_of
from edgetool.progress import At
from edgetool.task import Task

if TYPE_CHECKING:
    from compress.training import FineTune, OutputKind


@dataclass(frozen=True)
class Pair:
    """A model in both Keras, and what its only output is."""

    keras: Any
    tf_keras: Any
    output: "OutputKind"


def load_pair(path: Path, *, trust: bool) -> Pair:
    """Read a model, and rebuild it in the Keras that it was not read by; models within it are laid open in tf_keras.

    Raises:
        BadModel: a layer cannot cross (all are named), or the model has several outputs or nothing to train.
        CheckFailed: the two compute different outputs.

    """
    from compress.training import output_kind, require_trainable
    from convert.bridge.crossing import is_legacy, to_keras, to_tf_keras
    from convert.load import load_keras

    model = load_keras(path, trust=trust)
    if is_legacy(model):
        model = to_keras(model).model
    require_trainable(model)
    return Pair(model, to_tf_keras(model, inline=True).model, output_kind(model))


def fit(
    model: Any,
    output: "OutputKind",
    task: Task,
    settings: "FineTune",
    progress: At,
    after_step: Callable[[], None] = lambda: None,
) -> tuple[Skipped, ...]:
    """Fine-tune a tf_keras model in place; where it diverges or ends worse on `val`, its weights are put back."""
    from compress.tf_keras_training import fine_tune_tf_keras

    before = [variable.numpy() for variable in model.variables]
    size = min(settings.batch_size, task.train.n)

    def put_back() -> None:
        for variable, value in zip(model.variables, before, strict=True):
            variable.assign(value)

    def run() -> None:
        fine_tune_tf_keras(
            model,
            epochs_of(task, size, settings.seed),
            task.train.n // size,
            (loss_of(task), output),
            settings,
            lambda done, total, loss: progress(done / total, f"training, step {done} of {total}, loss {loss:.3f}"),
            after_step,
        )

    return kept_if_better(model, task, run, put_back)
