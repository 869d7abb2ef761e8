"""One fit in which weight transforms (prune, cluster, fake-quantize) and losses (labels, a teacher's) run together.

Plain mini-batch training with Adam (Kingma and Ba, 2015, arXiv:1412.6980) and a learning rate that falls to zero on
half a cosine (Loshchilov and Hutter, "SGDR", 2017, equation 5, one cycle). Where there are several devices,
compress.distributed says how they share it.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from compress.checkpoint import State, read, write
from compress.distributed import Devices, devices_here, half_precision
from compress.train_step import train_step
from edge.errors import BadData, BadModel, CheckFailed
from edge.report import Skipped

Batch = tuple[Mapping[str, npt.NDArray[Any]], npt.NDArray[Any]]
Loss = Literal["crossentropy", "mse"]
Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class TransformSummary:
    """What one transform did: a figure for each weight it changed, by path, and what it left alone."""

    name: str
    figures: Mapping[str, float]
    skipped: tuple[Skipped, ...] = ()


class WeightTransform(Protocol):
    """Something that shapes the weights of a model while it is trained.

    Several take part in one fit, in order. Before the first step each is shown the model, or what the one before it
    made of it: a fake-quantizing transform gives back a twin that computes with rounded weights and shares the
    model's variables, so that the transforms beside it see the same weights. The twin is trained, the model keeps
    what it learned. After each optimizer step each may change the weights; the last has the last word. Whatever a
    transform knows beside the variables of the trained model is its `state`, from which an interrupted fit goes on.
    """

    def begin(self, model: Any) -> Any:
        """Look at the Keras model before the first step; its weights may be changed. A twin to train, or None."""
        ...

    def step(self, step: int, total_steps: int) -> None:
        """Change the weights after optimizer step number `step`, 1 … total_steps."""
        ...

    def state(self) -> State:
        """What `restore` needs after an interruption, by name; empty where the variables say it all."""
        ...

    def restore(self, state: State) -> None:
        """Take up the state of an interrupted fit; called after `begin`."""
        ...

    def finish(self) -> TransformSummary:
        """Check after the last step that the weights are as promised, and say what was done."""
        ...


class Objective(Protocol):
    """A term of the loss beside the labels' own, such as the distance to a teacher."""

    @property
    def weight(self) -> float:
        """What its value is multiplied by."""
        ...

    @property
    def target(self) -> str:
        """The entry of each batch's inputs that it compares with; the model is not given it."""
        ...

    @property
    def layer(self) -> str | None:
        """The layer of the model whose output it compares; None is the model's own output."""
        ...

    def begin(self, shape: tuple[int | None, ...], kind: "OutputKind") -> Sequence[Any]:
        """Variables of its own that are trained with the model, for a layer's or the model's output of this shape."""
        ...

    def value(self, output: Any, target: Any) -> Any:
        """The mean over a batch: a scalar tensor. `output` is [n, ...], `target` the batch's entry, [n, ...]."""
        ...


OutputKind = Literal["softmax", "sigmoid", "logits"]


@dataclass(frozen=True)
class FineTune:
    """How to train. The learning rate falls from `learning_rate` to 0 on half a cosine."""

    epochs: int = 3
    learning_rate: float = 3e-3
    batch_size: int = 128
    seed: int = 0
    optimizer: Literal["adam", "sgd"] = "adam"

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError(f"epochs ({self.epochs}) and batch_size ({self.batch_size}) must be at least 1")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate must be positive, not {self.learning_rate}")


@dataclass(frozen=True)
class FitSummary:
    """What a fit did: optimizer steps, mean loss of each epoch, wall-clock seconds, and each transform's account."""

    steps: int
    epoch_losses: tuple[float, ...]
    seconds: float
    transforms: tuple[TransformSummary, ...]


def fine_tune(
    model: Any,
    train: Callable[[int], Iterator[Batch]],
    steps_per_epoch: int,
    loss: Loss,
    transforms: Sequence[WeightTransform],
    settings: FineTune,
    progress: Progress,
    *,
    objectives: Sequence[Objective] = (),
    label_weight: float = 1.0,
    checkpoint: Path | None = None,
    devices: Devices | None = None,
) -> FitSummary:
    """Train a Keras 3 model in place, applying every transform in order after each optimizer step.

    Args:
        model: one output, any number of inputs. When anything fails its weights are put back as they were.
        train: epoch (0, 1, …) -> batches ({input name: [n, ...]}, labels [n, ...]), already shuffled.
        steps_per_epoch: batches taken of each epoch.
        loss: "crossentropy" (integer labels [n] for outputs [n, classes]; 0 or 1 for outputs [n, 1] and for
            sigmoid outputs [n, k]) or "mse". Whether the model ends in probabilities or logits is read from it.
        transforms: may be empty.
        settings: epochs, learning rate and seed; the batch size is the caller's to honour in `train`.
        progress: called after each step with (steps done, steps in all, loss).
        objectives: further terms of the loss.
        label_weight: what the loss of the labels is multiplied by.
        checkpoint: a folder in which the end of every epoch is kept; where it holds one of the same fit, that fit goes
            on from there and ends as it would have.
        devices: where to train; None is every device that this process sees.

    Raises:
        BadModel: not a Keras 3 model with one output and something to train.
        BadData: the batches end early, or lack one of the model's inputs.
        CheckFailed: the loss or a weight became NaN or infinite, or a transform did not keep its promise.

    """
    check_model(model)
    before = model.get_weights()
    try:
        parts = (loss, label_weight, objectives, transforms)
        where = devices_here() if devices is None else devices
        placed = where.placed(model)
        with where.scope():
            summary = _fit(placed, train, steps_per_epoch, parts, settings, progress, checkpoint, where)
        if placed is not model:
            model.set_weights(placed.get_weights())
    except BaseException:
        model.set_weights(before)
        raise
    return summary


def output_kind(model: Any) -> OutputKind:
    """What a Keras model's only output is, read from the operation that makes it."""
    operation = model.outputs[0]._keras_history.operation  # noqa: SLF001 - Keras has no public way to ask
    while getattr(operation, "outputs", None) and hasattr(operation, "layers"):  # a model inside the model
        operation = operation.outputs[0]._keras_history.operation  # noqa: SLF001 - as above
    activation = getattr(operation, "activation", None)
    name = getattr(activation, "__name__", type(operation).__name__).lower()
    return "softmax" if name == "softmax" else "sigmoid" if name == "sigmoid" else "logits"


def check_model(model: Any) -> None:
    """Raise BadModel where a model cannot be trained here: no Keras 3 graph, several outputs, nothing trainable."""
    import keras

    if not isinstance(model, keras.Model):
        raise BadModel(
            f"training-time passes need a Keras 3 model, not {type(model).__module__}.{type(model).__qualname__}",
            "save the model with Keras 3, or use the post-training passes",
        )
    if not getattr(model, "outputs", None):
        raise BadModel(
            f"model {model.name!r} is not a graph of layers, so its inputs and outputs are unknown",
            "build it with keras.Model(inputs, outputs) or keras.Sequential with an Input",
        )
    require_trainable(model)


def require_trainable(model: Any) -> None:
    """Raise BadModel where a model of either Keras has several outputs or nothing to train."""
    if len(model.outputs) != 1:
        raise BadModel(
            f"model {model.name!r} has {len(model.outputs)} outputs; a training-time pass takes one",
            "use the post-training passes",
        )
    if not model.trainable_variables:
        raise BadModel(f"model {model.name!r} has no trainable weights", "set trainable = True before saving it")


def _fit(
    model: Any,
    train: Callable[[int], Iterator[Batch]],
    steps_per_epoch: int,
    parts: tuple[Loss, float, Sequence[Objective], Sequence[WeightTransform]],
    settings: FineTune,
    progress: Progress,
    checkpoint: Path | None,
    devices: Devices,
) -> FitSummary:
    started = time.monotonic()
    total = settings.epochs * steps_per_epoch
    loss, label_weight, objectives, transforms = parts
    seed_layers(model, settings.seed)
    policy = half_precision()
    model, policy = _begun(model, transforms)
    kind = output_kind(model)
    terms = loss_function(loss, kind), label_weight, objectives
    run, variables = train_step(model, kind, terms, settings, total, devices, policy)
    epoch_losses: list[float] = []
    fit = {"settings": repr(settings), "steps_per_epoch": steps_per_epoch, "shapes": [list(v.shape) for v in variables]}
    found = None if checkpoint is None else read(checkpoint, fit)
    if found is not None:
        epoch_losses = found.epoch_losses
        for variable, kept in zip(variables, found.variables, strict=True):
            variable.assign(kept)
        for transform, state in zip(transforms, found.transforms, strict=True):
            transform.restore(state)
    for epoch in range(len(epoch_losses), settings.epochs):
        sum_of_losses = 0.0
        for done, batch in enumerate(exactly(train(epoch), steps_per_epoch, epoch), epoch * steps_per_epoch + 1):
            value = run(batch)
            if not math.isfinite(value):
                raise CheckFailed(
                    f"the loss became {value} at step {done} of {total}",
                    f"lower the learning rate ({settings.learning_rate:g}); the model before is kept",
                )
            for transform in transforms:
                transform.step(done, total)
            sum_of_losses += value
            progress(done, total, value)
        epoch_losses.append(sum_of_losses / steps_per_epoch)
        if checkpoint is not None:
            write(checkpoint, fit, epoch_losses, [v.numpy() for v in variables], [t.state() for t in transforms])
    require_finite({v.path: v for v in model.trainable_variables}, total, settings.learning_rate)
    summaries = tuple(transform.finish() for transform in transforms)
    return FitSummary(total, tuple(epoch_losses), time.monotonic() - started, summaries)


def _begun(model: Any, transforms: Sequence[WeightTransform]) -> tuple[Any, str | None]:
    """The model that is trained, and the policy it computes by."""
    policy = half_precision()
    for transform in transforms:
        twin = transform.begin(model)
        if twin is not None:
            model, policy = twin, None  # what it rounds it rounds in float32
    return model, policy


def exactly(batches: Iterator[Batch], n: int, epoch: int) -> Iterator[Batch]:
    """The first n batches of an epoch, or BadData where there are fewer."""
    index = 0
    for index, batch in enumerate(itertools.islice(batches, n), 1):  # noqa: B007 - counted for the message
        yield batch
    if index < n:
        raise BadData(f"epoch {epoch + 1} of the training data ended after {index} of {n} batches")


def require_finite(variables: Mapping[str, Any], steps: int, learning_rate: float) -> None:
    """Raise CheckFailed where a variable, by name, has weights that are NaN or infinite."""
    # ReLU turns NaN into 0 on some CPUs, so a loss can stay finite while weights do not
    for name, variable in variables.items():
        if not np.all(np.isfinite(variable.numpy())):
            raise CheckFailed(
                f"{name} has weights that are NaN or infinite after {steps} steps",
                f"look for NaN in the data, or lower the learning rate ({learning_rate:g})",
            )


def seed_layers(model: Any, seed: int) -> None:
    """Set the state of every random layer (dropout, noise), so that the same seed gives the same fit."""
    states = [variable for variable in model.variables if variable.name == "seed_generator_state"]
    for index, state in enumerate(states):
        state.assign([seed % 2**32, index])


def loss_function(loss: Loss, kind: OutputKind) -> Callable[[Any, Any], Any]:
    """(labels, outputs) -> loss of each example or element."""
    import keras

    ops, losses = keras.ops, keras.losses

    def per_element(labels: Any, outputs: Any) -> Any:
        labels = ops.cast(ops.reshape(labels, ops.shape(outputs)), outputs.dtype)
        if loss == "mse":
            return ops.square(labels - outputs)
        return losses.binary_crossentropy(labels, outputs, from_logits=kind != "sigmoid")

    def per_example(labels: Any, outputs: Any) -> Any:
        if kind == "sigmoid" or outputs.shape[-1] == 1:
            return per_element(labels, outputs)
        labels = ops.reshape(labels, ops.shape(outputs)[:-1])
        return losses.sparse_categorical_crossentropy(labels, outputs, from_logits=kind != "softmax")

    return per_element if loss == "mse" else per_example
