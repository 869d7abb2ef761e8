"""One step of a fit as a compiled function: forward, loss, gradients, optimizer."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from compress.distributed import Devices, computing_in
from edge.errors import BadData, UnknownName

if TYPE_CHECKING:
    from compress.training import Batch, FineTune, Objective, OutputKind


def train_step(
    model: Any,
    kind: "OutputKind",
    parts: "tuple[Callable[[Any, Any], Any], float, Sequence[Objective]]",
    settings: "FineTune",
    total_steps: int,
    devices: Devices,
    policy: str | None,
) -> "tuple[Callable[[Batch], float], list[Any]]":
    """One optimizer step on one batch, as a compiled function that returns the loss, and all variables it may change.

    `parts` are the loss of each example or element for (labels, outputs), its factor, and the other terms.

    Not XLA: its depthwise convolution on a CPU takes about 25 times as long as TensorFlow's own kernel.
    """
    import keras
    import tensorflow as tf

    loss_of, label_weight, objectives = parts
    watched = _watched(model, objectives)
    own = [
        variable
        for term, tensor in zip(objectives, watched.outputs[1:], strict=True)
        for variable in term.begin(tuple(tensor.shape), kind if term.layer is None else "logits")
    ]
    trained = [*model.trainable_variables, *own]
    falling = keras.optimizers.schedules.CosineDecay(settings.learning_rate, total_steps)
    kinds = {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD}
    optimizer = kinds[settings.optimizer](falling)
    if policy == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(trained)
    structure = _inputs(model)
    names = [tensor.name for tensor in keras.tree.flatten(structure)]

    def step(inputs: list[Any], labels: Any, targets: list[Any], share: Any) -> Any:
        with computing_in(policy, watched), tf.GradientTape() as tape:
            made = watched(keras.tree.pack_sequence_as(structure, inputs), training=True)
            outputs, *seen = keras.tree.flatten(made)
            value = label_weight * tf.reduce_mean(loss_of(labels, outputs))
            for term, output, target in zip(objectives, seen, targets, strict=True):
                value += term.weight * term.value(output, target)
            value += sum(model.losses)  # the layers' own regularization
            if share is not None:
                value *= share
            scaled = optimizer.scale_loss(value)
        *gradients, value = devices.summed([*tape.gradient(scaled, trained), value])
        optimizer.apply(gradients, trained)
        devices.settle(model.non_trainable_variables)
        return value

    compiled = devices.compiled(step)

    def run(batch: "Batch") -> float:
        inputs, labels = batch
        targets = [inputs[term.target] for term in objectives]
        given = {name: value for name, value in inputs.items() if name not in {term.target for term in objectives}}
        if len(given) == len(names) == 1:
            arrays = list(given.values())
        else:
            missing = [name for name in names if name not in given]
            if missing:
                raise BadData(f"the data has no input {missing[0]!r}; it has {', '.join(sorted(given))}")
            arrays = [given[name] for name in names]
        return compiled(arrays, labels, targets)

    return run, [*model.variables, *own, *optimizer.variables]


def _watched(model: Any, objectives: "Sequence[Objective]") -> Any:
    """The model with the output that each objective looks at beside its own."""
    import keras

    names = {layer.name for layer in model.layers}
    for term in objectives:
        if term.layer is not None and term.layer not in names:
            raise UnknownName(f"layer of model {model.name!r}", term.layer, names)
    seen = [model.outputs[0] if term.layer is None else model.get_layer(term.layer).output for term in objectives]
    return keras.Model(_inputs(model), [model.outputs[0], *seen])


def _inputs(model: Any) -> Any:
    """The inputs as the model is called with them: a tensor, a list or a dictionary."""
    import keras

    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input  # that of a Sequential may be unset
