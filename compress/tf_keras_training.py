"""Training of tf_keras models, for tensorflow-model-optimization, which knows no others.

The same fit as `compress.training`: mini-batches, Adam (Kingma and Ba, 2015, arXiv:1412.6980), a learning rate that
falls to zero on half a cosine.
"""

import math
import os
from collections.abc import Callable, Iterator
from typing import Any

from compress.training import Batch, FineTune, Loss, OutputKind, Progress, exactly, loss_function, require_finite
from edge.errors import BadData, CheckFailed
from edge.quiet import quiet

_SWITCH = "TF_USE_LEGACY_KERAS"


def load_tfmot() -> Any:
    """tensorflow-model-optimization, without the switch that it sets: `tf.keras` of this process and of those that it
    starts stays what it was.
    """
    before = os.environ.get(_SWITCH)
    with quiet():
        import tensorflow_model_optimization as tfmot
    if before is None:
        os.environ.pop(_SWITCH, None)
    else:
        os.environ[_SWITCH] = before
    return tfmot


def fine_tune_tf_keras(
    model: Any,
    train: Callable[[int], Iterator[Batch]],
    steps_per_epoch: int,
    loss: tuple[Loss, OutputKind],
    settings: FineTune,
    progress: Progress,
    after_step: Callable[[], None] = lambda: None,
) -> None:
    """Train a tf_keras model with one output in place.

    Args:
        model: may hold the wrappers of tensorflow-model-optimization.
        train: epoch (0, 1, …) -> batches ({input name: [n, ...]}, labels [n, ...]), already shuffled.
        steps_per_epoch: batches taken of each epoch.
        loss: the loss and what the model's output is (`compress.training.output_kind`).
        settings: epochs, learning rate and seed.
        progress: called after each step with (steps done, steps in all, loss).
        after_step: called after each optimizer step; may change the weights.

    Raises:
        BadData: the batches end early, or lack one of the model's inputs.
        CheckFailed: the loss or a weight became NaN or infinite.

    """
    import tf_keras

    tf_keras.utils.set_random_seed(settings.seed)  # dropout and noise
    total = settings.epochs * steps_per_epoch
    run = _train_step(model, loss_function(*loss), settings.learning_rate, total)
    for epoch in range(settings.epochs):
        for done, batch in enumerate(exactly(train(epoch), steps_per_epoch, epoch), epoch * steps_per_epoch + 1):
            value = run(batch)
            if not math.isfinite(value):
                raise CheckFailed(
                    f"the loss became {value} at step {done} of {total}",
                    f"lower the learning rate ({settings.learning_rate:g}); the model before is kept",
                )
            after_step()
            progress(done, total, value)
    require_finite({v.name: v for v in model.trainable_variables}, total, settings.learning_rate)


def feeds(model: Any, batch: Batch) -> list[Any]:
    """The inputs of one batch as tensors, in the order of the model's.

    Raises:
        BadData: the batch lacks one.

    """
    import tensorflow as tf

    inputs, _ = batch
    names = [tensor.name.partition(":")[0] for tensor in model.inputs]
    if len(inputs) == len(names) == 1:
        return [tf.convert_to_tensor(next(iter(inputs.values())))]
    missing = [name for name in names if name not in inputs]
    if missing:
        raise BadData(f"the data has no input {missing[0]!r}; it has {', '.join(sorted(inputs))}")
    return [tf.convert_to_tensor(inputs[name]) for name in names]


def call(model: Any, tensors: list[Any], *, training: bool) -> Any:
    """The model on its inputs, given as a list whichever structure it was built with."""
    import tensorflow as tf

    structure = model._nested_inputs  # noqa: SLF001 -- tf_keras has no public way to ask
    return model(tf.nest.pack_sequence_as(structure, tensors), training=training)


def _train_step(model: Any, loss_of: Callable[[Any, Any], Any], learning_rate: float, total: int) -> Callable[..., Any]:
    import tensorflow as tf
    import tf_keras

    schedule = tf_keras.optimizers.schedules.CosineDecay(learning_rate, total)
    optimizer = tf_keras.optimizers.Adam(schedule)
    variables = model.trainable_variables
    optimizer.build(variables)

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]  # tensorflow is untyped
    def step(inputs: list[Any], labels: Any) -> Any:
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(loss_of(labels, call(model, inputs, training=True)))
            value += sum(model.losses)  # the layers' own regularization
        gradients = tape.gradient(value, variables)
        pairs = [(gradient, variable) for gradient, variable in zip(gradients, variables, strict=True)]
        optimizer.apply_gradients([pair for pair in pairs if pair[0] is not None])
        return value

    return lambda batch: float(step(feeds(model, batch), tf.convert_to_tensor(batch[1])))
