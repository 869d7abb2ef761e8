"""Channel pruning of a Keras 3 model: trace, rank, choose under a budget, rebuild, check."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from compress.prune.channels.importance import Importance, Scores, bn_scale, is_scaled, l1, taylor
from compress.prune.channels.keras_trace import Traced, graph_of, trace
from compress.prune.channels.ranking import choose, normalised
from compress.prune.channels.rebuild import check, rebuild
from compress.prune.channels.structure import Alive, Group, Structure, macs, saving
from compress.training import Batch, Loss, loss_function, output_kind
from edge.errors import BadData, BadModel, CheckFailed
from edge.report import Skipped

NAME = "prune.channel"


@dataclass(frozen=True)
class ChannelPruning:
    """How far to prune and what decides.

    Attributes:
        macs: the fraction of the cost (MACs, where no other is given) that may be left, in (0, 1].
        importance: "l1", "bn_scale" or "taylor"; the last needs batches and a loss.
        multiple: every layer keeps a multiple of this many channels; kernels work on 4 to 16 at a time. Heads of
            attention are counted one by one.
        keep: the fraction of each group's channels that always stays.

    """

    macs: float = 0.5
    importance: Importance = "taylor"
    multiple: int = 8
    keep: float = 0.125

    def __post_init__(self) -> None:
        if not 0 < self.macs <= 1:
            raise ValueError(f"macs must be above 0 and at most 1, not {self.macs}")
        if self.importance not in ("l1", "bn_scale", "taylor"):
            raise ValueError(f"importance must be l1, bn_scale or taylor, not {self.importance!r}")
        if self.multiple < 1:
            raise ValueError(f"multiple must be at least 1, not {self.multiple}")
        if not 0 <= self.keep <= 1:
            raise ValueError(f"keep must be in [0, 1], not {self.keep}")


@dataclass(frozen=True)
class Pruned:
    """The smaller model and what was done: channels left and before by group, MACs before and after.

    `difference` is the largest between it and the masked original (`rebuild.check`).
    """

    model: Any
    left: Mapping[str, tuple[int, int]]
    macs: tuple[int, int]
    difference: float | None
    skipped: tuple[Skipped, ...]


def prune_channels(
    model: Any,
    settings: ChannelPruning,
    batches: Iterable[Batch] = (),
    loss: Loss = "crossentropy",
    cost: Callable[[Any], float] | None = None,
) -> Pruned:
    """A new, smaller Keras 3 model without the least important channels. The model given is not changed.

    Args:
        model: functional or Sequential, any number of inputs and outputs ("taylor": one output).
        settings: how far, and what decides.
        batches: for "taylor": ({input name: [n, ...]}, labels [n, ...]), some thousand examples in all.
        loss: of those batches.
        cost: what the budget is a fraction of, as a function of the smaller model (its measured latency, say); None
            counts MACs. It is called about log2(channels) times and must not rise when channels go.

    Raises:
        BadModel: not a graph of layers, or shapes that are not fixed.
        CheckFailed: no channel can be pruned, the budget cannot be reached, or the smaller model is not the masked
            original.

    """
    traced = trace(model)
    structure = traced.structure
    everything = structure.everything()
    groups, left_alone = _prunable(model, structure, settings.importance)
    require_groups(groups, left_alone)
    scores = _scores(model, traced, groups, settings.importance, batches, loss)

    def macs_of(alive: Alive) -> float:
        return macs(structure, alive)

    def cost_of(alive: Alive) -> float:
        assert cost is not None, "cost_of is only used where a cost is given"
        return cost(rebuild(model, traced, alive))

    measure = macs_of if cost is None else cost_of
    alive, small = choose(
        groups, scores, everything, measure, settings.macs * measure(everything),
        multiple=settings.multiple, keep=settings.keep,
    )  # fmt: skip
    if alive.all() and settings.macs < 1:
        raise CheckFailed(f"{NAME} left every channel at a budget of {settings.macs:g}", "lower macs")
    made = rebuild(model, traced, alive)
    left = {group.name: (int(alive[group.classes].sum()), len(group.classes)) for group in groups}
    counted = macs(structure, everything), macs(structure, alive)
    return Pruned(made, left, counted, check(model, made, traced, alive), (*left_alone, *small))


def _prunable(model: Any, structure: Structure, importance: Importance) -> tuple[list[Group], list[Skipped]]:
    """The groups that can be ranked, and everything that is left alone with the reason."""
    groups, skipped = structure.groups(), structure.left_alone()
    if importance != "bn_scale":
        return groups, skipped
    able, others = scaled_alone(structure, groups, _values(model).__getitem__)
    return able, [*skipped, *others]


def scaled_alone(
    structure: Structure, groups: list[Group], weight: Callable[[Hashable], npt.NDArray[Any]]
) -> tuple[list[Group], list[Skipped]]:
    """The groups whose channels a batch normalization scales, and the others with the reason."""
    scaled = is_scaled(structure, weight)
    able = [group for group in groups if scaled[group.classes].all()]
    why = "no batch normalization scales its channels; another importance can rank them"
    return able, [Skipped(group.name, why) for group in groups if group not in able]


def require_groups(groups: list[Group], skipped: list[Skipped]) -> None:
    """Raise CheckFailed where there is nothing to prune."""
    if not groups:
        reasons = "; ".join(f"{entry.what}: {entry.reason}" for entry in skipped) or "no layer makes channels"
        raise CheckFailed(f"{NAME}: no channel of this model can be pruned: {reasons}")


def _scores(
    model: Any,
    traced: Traced,
    groups: list[Group],
    importance: Importance,
    batches: Iterable[Batch],
    loss: Loss,
) -> list[Scores]:
    """A score for each channel of each group, comparable between groups."""
    structure, weight = traced.structure, _values(model).__getitem__
    if importance != "taylor":
        found = l1(structure, weight) if importance == "l1" else bn_scale(structure, weight)
        return [normalised(found[group.classes]) for group in groups]
    found = taylor(structure, _products(model, batches, loss))
    # Losses are of one scale in all groups, unlike norms: what counts is the loss for what is saved.
    return [found[group.classes] / max(saving(structure, group), 1) for group in groups]


def _values(model: Any) -> dict[Hashable, npt.NDArray[Any]]:
    return {id(weight): weight.numpy() for weight in model.weights}


def _products(model: Any, batches: Iterable[Batch], loss: Loss) -> Iterator[dict[Hashable, npt.NDArray[Any]]]:
    """For each batch: gradient times value of every weight that can have one.

    Raises BadData where there is no batch, BadModel where the model has several outputs.
    """
    import keras
    import tensorflow as tf

    if len(model.outputs) != 1:
        raise BadModel(
            f"model {model.name!r} has {len(model.outputs)} outputs; importance by Taylor takes one",
            "set importance = l1 or bn_scale",
        )
    weights = [weight for weight in model.weights if len(weight.shape) > 1 and weight.dtype.startswith("float")]
    loss_of = loss_function(loss, output_kind(model))
    given = graph_of(model).input
    names = [tensor.name for tensor in keras.tree.flatten(given)]

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]  # tensorflow is untyped
    def gradients(inputs: list[Any], labels: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([weight.value for weight in weights])
            outputs = model(keras.tree.pack_sequence_as(given, inputs), training=False)
            value = tf.reduce_mean(loss_of(labels, outputs))
        found = tape.gradient(value, [weight.value for weight in weights], unconnected_gradients="zero")
        return [tf.convert_to_tensor(gradient) * weight.value for gradient, weight in zip(found, weights, strict=True)]

    n = 0
    for inputs, labels in batches:
        n += 1
        arrays = list(inputs.values()) if len(inputs) == len(names) == 1 else [inputs[name] for name in names]
        products = gradients([tf.convert_to_tensor(array) for array in arrays], tf.convert_to_tensor(labels))
        yield {id(weight): product.numpy() for weight, product in zip(weights, products, strict=True)}
    if n == 0:
        raise BadData("importance by Taylor needs examples, and there is none", "give data, or set importance = l1")
