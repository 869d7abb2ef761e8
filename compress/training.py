"""One fit in which weight transforms (prune, later cluster and fake-quantize) and a loss run together.

Plain mini-batch training with Adam (Kingma and Ba, 2015, arXiv:1412.6980) and a learning rate that falls to zero on
half a cosine (Loshchilov and Hutter, "SGDR", 2017, equation 5, one cycle).
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

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
    """Something that shapes the weights of a model while it is trained."""

    def begin(self, model: Any) -> None:
        """Look at the Keras model before the first step; weights may be changed."""
        ...

    def step(self, step: int, total_steps: int) -> None:
        """Change the weights after optimizer step number `step`, 1 … total_steps."""
        ...

    def finish(self) -> TransformSummary:
        """Check after the last step that the weights are as promised, and say what was done."""
        ...


@dataclass(frozen=True)
class FineTune:
    """How to train. The learning rate falls from `learning_rate` to 0 on half a cosine."""

    epochs: int = 3
    learning_rate: float = 3e-3
    batch_size: int = 128
    seed: int = 0

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

    Raises:
        BadModel: not a Keras 3 model with one output and something to train.
        BadData: the batches end early, or lack one of the model's inputs.
        CheckFailed: the loss or a weight became NaN or infinite, or a transform did not keep its promise.

    """
    check_model(model)
    before = model.get_weights()
    try:
        return _fit(model, train, steps_per_epoch, loss, transforms, settings, progress)
    except BaseException:
        model.set_weights(before)
        raise


def output_kind(model: Any) -> Literal["softmax", "sigmoid", "logits"]:
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
    loss: Loss,
    transforms: Sequence[WeightTransform],
    settings: FineTune,
    progress: Progress,
) -> FitSummary:
    started = time.monotonic()
    total = settings.epochs * steps_per_epoch
    seed_layers(model, settings.seed)
    run = _train_step(model, loss, settings.learning_rate, total)
    for transform in transforms:
        transform.begin(model)
    done, epoch_losses = 0, []
    for epoch in range(settings.epochs):
        batches, sum_of_losses = iter(train(epoch)), 0.0
        for index in range(steps_per_epoch):
            batch = next(batches, None)
            if batch is None:
                raise BadData(
                    f"epoch {epoch + 1} of the training data ended after {index} of {steps_per_epoch} batches"
                )
            value = run(batch)
            done += 1
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
    for variable in model.trainable_variables:
        # ReLU turns NaN into 0 on some CPUs, so a loss can stay finite while weights do not
        if not np.all(np.isfinite(variable.numpy())):
            raise CheckFailed(
                f"{variable.path} has weights that are NaN or infinite after {done} steps",
                f"look for NaN in the data, or lower the learning rate ({settings.learning_rate:g})",
            )
    summaries = tuple(transform.finish() for transform in transforms)
    return FitSummary(done, tuple(epoch_losses), time.monotonic() - started, summaries)


def seed_layers(model: Any, seed: int) -> None:
    """Set the state of every random layer (dropout, noise), so that the same seed gives the same fit."""
    states = [variable for variable in model.variables if variable.name == "seed_generator_state"]
    for index, state in enumerate(states):
        state.assign([seed % 2**32, index])


def _train_step(model: Any, loss: Loss, learning_rate: float, total_steps: int) -> Callable[[Batch], float]:
    """One optimizer step on one batch, as a compiled function that returns the loss.

    Not XLA: its depthwise convolution on a CPU takes about 25 times as long as TensorFlow's own kernel.
    """
    import keras
    import tensorflow as tf

    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(learning_rate, total_steps))
    optimizer.build(model.trainable_variables)
    loss_of = loss_function(loss, output_kind(model))
    names = [tensor.name for tensor in keras.tree.flatten(model.input)]

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]  # tensorflow is untyped
    def step(inputs: list[Any], labels: Any) -> Any:
        with tf.GradientTape() as tape:
            outputs = model(keras.tree.pack_sequence_as(model.input, inputs), training=True)
            value = tf.reduce_mean(loss_of(labels, outputs))
            value += sum(model.losses)  # the layers' own regularization
        gradients = tape.gradient(value, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return value

    def run(batch: Batch) -> float:
        inputs, labels = batch
        if len(inputs) == len(names) == 1:
            arrays = list(inputs.values())
        else:
            missing = [name for name in names if name not in inputs]
            if missing:
                raise BadData(f"the data has no input {missing[0]!r}; it has {', '.join(sorted(inputs))}")
            arrays = [inputs[name] for name in names]
        return float(step([tf.convert_to_tensor(array) for array in arrays], tf.convert_to_tensor(labels)))

    return run


def loss_function(loss: Loss, kind: Literal["softmax", "sigmoid", "logits"]) -> Callable[[Any, Any], Any]:
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
