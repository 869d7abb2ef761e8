"""Low-rank factorization of a Keras 3 model: one energy for all layers, given or found by a budget of MACs.

Kim et al., "Compression of Deep Convolutional Neural Networks for Fast and Low Power Mobile Applications", ICLR 2016
(arXiv:1511.06530). They choose ranks by variational Bayes; here each layer keeps the same fraction of its weights' sum
of squares, and the budget moves that fraction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compress.keras_outputs import difference, drawn_inputs, outputs
from compress.lowrank.factors import Floats
from compress.lowrank.layers import Target, targets, thin
from compress.prune.channels.keras_trace import graph_of, require_graph, trace
from compress.prune.channels.rebuild import TOLERANCE, anew
from compress.prune.channels.structure import macs
from edge.errors import CheckFailed
from edge.report import Skipped

NAME = "lowrank.svd"
# Energies nearer than this give the same ranks in kernels of up to some thousand rows.
FINENESS = 1e-4


@dataclass(frozen=True)
class LowRank:
    """How far to go.

    Attributes:
        macs: the fraction of the model's MACs that may be left, in (0, 1); not looked at where `energy` is given.
        energy: the fraction of each kernel's sum of squares that stays, in (0, 1]; None finds it by the budget.
        multiple: ranks are multiples of this; kernels work on 4 to 16 channels at a time.

    """

    macs: float = 0.7
    energy: float | None = None
    multiple: int = 4

    def __post_init__(self) -> None:
        if not 0 < self.macs < 1:
            raise ValueError(f"macs must be above 0 and below 1, not {self.macs}")
        if self.energy is not None and not 0 < self.energy <= 1:
            raise ValueError(f"energy must be above 0 and at most 1, not {self.energy}")
        if self.multiple < 1:
            raise ValueError(f"multiple must be at least 1, not {self.multiple}")


@dataclass(frozen=True)
class Factorized:
    """The model of thin layers; the ranks (towards inputs, towards outputs) by layer; MACs before and after."""

    model: Any
    ranks: Mapping[str, tuple[int, int]]
    energy: float
    macs: tuple[int, int]
    difference: float
    skipped: tuple[Skipped, ...]


def factorize(model: Any, settings: LowRank) -> Factorized:
    """A new Keras 3 model with thin layers in place of those where that saves MACs. The model given is not changed.

    Raises:
        BadModel: not a graph of layers, or shapes that are not fixed.
        CheckFailed: no layer gains, the budget cannot be reached, or the outputs are not those of the kernels that the
            factors stand for.

    """
    require_graph(model)
    graph = graph_of(model)
    found, skipped = targets(graph)
    structure = trace(model).structure
    whole = macs(structure, structure.everything())
    energy = settings.energy or _energy_within(found, settings, whole)
    ranks = _ranks(found, energy, settings.multiple)
    if not ranks:
        reasons = "; ".join(f"{entry.what}: {entry.reason}" for entry in skipped)
        others = f" ({reasons})" if reasons else ""
        raise CheckFailed(
            f"{NAME}: at an energy of {energy:.3f} thin layers save no MACs anywhere{others}",
            "lower energy or multiple, or leave the pass out",
        )
    for target in found:
        if id(target) not in ranks:
            into, out = target.ranks(energy, settings.multiple)
            why = f"at its ranks of {into} and {out} of {list(target.kernel.shape)} thin layers save no MACs"
            skipped.append(Skipped(target.layer.name, why))
    made, stood_for = _rebuild(graph, found, ranks)
    kept = trace(made).structure
    return Factorized(
        made,
        {target.layer.name: ranks[id(target)] for target in found if id(target) in ranks},
        energy,
        (whole, macs(kept, kept.everything())),
        _check(model, made, stood_for),
        tuple(skipped),
    )


def _ranks(found: Sequence[Target], energy: float, multiple: int) -> dict[int, tuple[int, int]]:
    """The ranks of those layers where they save MACs."""
    proposed = {id(target): (target, target.ranks(energy, multiple)) for target in found}
    return {key: ranks for key, (target, ranks) in proposed.items() if target.cost(ranks) < target.macs}


def _energy_within(found: Sequence[Target], settings: LowRank, whole: int) -> float:
    """The largest energy at which the model costs no more than its budget."""

    def saved(energy: float) -> int:
        ranks = _ranks(found, energy, settings.multiple)
        return sum(target.macs - target.cost(ranks[id(target)]) for target in found if id(target) in ranks)

    needed = whole - settings.macs * whole
    most = saved(FINENESS)
    if most < needed:
        raise CheckFailed(
            f"{NAME} cannot reach {settings.macs:g} of the MACs: least ranks everywhere leave {1 - most / whole:.3g}",
            "raise macs or lower multiple; prune.channel goes further",
        )
    low, high = FINENESS, 1.0
    while high - low > FINENESS:
        middle = (low + high) / 2
        low, high = (middle, high) if saved(middle) >= needed else (low, middle)
    return low


def _rebuild(
    graph: Any, found: Sequence[Target], ranks: Mapping[int, tuple[int, int]]
) -> tuple[Any, list[tuple[Any, Floats]]]:
    """The new model, and for every layer that was replaced the kernel that its factors stand for."""
    import keras

    chosen = [target for target in found if id(target) in ranks]
    thinned = {id(target.layer): (target.layer, *thin(target, ranks[id(target)])) for target in chosen}
    before = {id(made[-1]): made[:-1] for _, made, _, _ in thinned.values()}
    copies: dict[int, Any] = {}

    def clone(layer: Any) -> Any:
        """The last of the thin layers, or a copy; the same one wherever a layer is used again."""
        if id(layer) in thinned:
            return thinned[id(layer)][1][-1]
        if id(layer) not in copies:
            copies[id(layer)] = anew(layer)
        return copies[id(layer)]

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        for first in before.get(id(layer), ()):
            args = (first(*args), *args[1:])
        return layer(*args, **kwargs)

    model = keras.models.clone_model(graph, clone_function=clone, call_function=call)
    for layer in graph.layers:
        if id(layer) in copies:
            copies[id(layer)].set_weights(layer.get_weights())
    for layer, made, factors, _ in thinned.values():
        _carry(layer, made, factors)
    return model, [(layer, together) for layer, _, _, together in thinned.values()]


def _carry(layer: Any, made: Sequence[Any], factors: Sequence[Floats]) -> None:
    """Give thin layers their kernels, and the last one the bias of the layer they stand for."""
    for one, kernel in zip(made, factors, strict=True):
        one.kernel.assign(kernel)
    if layer.use_bias:
        made[-1].bias.assign(layer.bias.numpy())


def _check(model: Any, made: Any, stood_for: Sequence[tuple[Any, Floats]]) -> float:
    """The largest difference from the original with the kernels that the factors stand for, as a fraction of the
    largest output.
    """
    feeds = drawn_inputs(model)
    kernels = [layer.kernel.numpy() for layer, _ in stood_for]
    try:
        for layer, together in stood_for:
            layer.kernel.assign(together)
        expected = outputs(model, feeds)
    finally:
        for (layer, _), kernel in zip(stood_for, kernels, strict=True):
            layer.kernel.assign(kernel)
    worst = difference(expected, outputs(made, feeds))
    if not worst <= TOLERANCE:
        raise CheckFailed(
            f"{NAME}: the thin layers differ from the kernels they stand for by {worst:.2g} of the largest output, "
            f"more than {TOLERANCE:g}",
            "please report it with the model's summary",
        )
    return worst
