"""One use of a Keras layer in a graph, as the rules see it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from compress.prune.channels.structure import FIXED, Flow, Labels, Role, Structure, Term
from edge.report import Skipped

Flows = list[Flow | None]
Shape = tuple[int | None, ...]

# Functions of each value alone: what they make of a pruned channel is not used, so any of them will do.
# fmt: off
POINTWISE = frozenset([
    "celu", "elu", "exponential", "gelu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_tanh", "leaky_relu",
    "linear", "log_sigmoid", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "soft_shrink", "softplus",
    "softsign", "sparse_plus", "squareplus", "tanh", "tanh_shrink", "threshold",
])
# fmt: on


@dataclass(frozen=True)
class Resize:
    """A setting of a layer that counts channels: `path` in its configuration, `index` where that is a sequence."""

    layer: Any
    path: tuple[str, ...]
    labels: Labels
    index: int | None = None


@dataclass
class Use:
    """One call of a layer: its name in the model, the flows and shapes [batch, ...] of its inputs and outputs.

    `path` leads to the settings of a layer inside a wrapper, `times` is how often the wrapper runs it.
    """

    structure: Structure
    resizes: list[Resize]
    layer: Any
    owner: Any
    name: str
    inputs: Flows
    shapes: list[Shape]
    out_shapes: list[Shape]
    tensors: Sequence[Any] = ()
    arguments: Any = None
    path: tuple[str, ...] = ()
    times: int = 1

    def channels(self, i: int = 0, axis: int = -1) -> Labels:
        """The labels of input `i` along an axis. Channels along another one are kept from here on."""
        flow = self.inputs[i]
        size = self.shapes[i][axis]
        if flow is not None and flow.axis == axis:
            return flow.labels
        if flow is not None:
            self.stop(f"it takes channels along its last axis, not axis {flow.axis}")
        return np.full(size or 0, FIXED)

    def stop(self, reason: str) -> Flows:
        """Keep every channel that reaches this use, and say so."""
        kept = sum(
            self.structure.keep(flow.labels, f"{self.name} ({type(self.layer).__name__}) stops them")
            for flow in self.inputs
            if flow is not None
        )
        if kept:
            self.structure.skipped.append(
                Skipped(self.name, f"{type(self.layer).__name__}: {reason}; the {kept} channels that reach it stay")
            )
        return [None] * len(self.out_shapes)

    def makes(
        self, weight: Any, axis: int, size: int, setting: str, *, single: bool = False, role: Role = "makes"
    ) -> Labels:
        """The channels that the layer makes along an axis of `weight`; the same ones at every use."""
        known = self.structure.labels_of(id(weight), axis)
        if known is None:
            known = self.structure.make(self.name, size, single=single)
            self.resizes.append(Resize(self.owner, (*self.path, setting), known))
        return self.structure.slot(id(weight), axis, role, known)

    def slot(self, weight: Any, axis: int, role: Role, labels: Labels) -> None:
        """Note the channels along an axis of `weight`, where the layer has that weight."""
        if weight is not None:
            self.structure.slot(id(weight), axis, role, labels)

    def costs(self, each: int, *axes: Labels) -> None:
        """Add `each` MACs for every combination of channels along `axes`."""
        self.structure.terms.append(Term(self.times * each, axes))

    def out(self, labels: Labels) -> Flows:
        """The channels of the only output; kept where the layer's activation mixes channels."""
        activation = getattr(self.layer, "activation", None)
        name = "linear" if activation is None else getattr(activation, "__name__", type(activation).__name__)
        if name not in POINTWISE:
            self.structure.keep(labels, f"the activation {name} of {self.name} mixes them")
        return [Flow(-1, labels)]


Rule = Callable[[Use], Flows]
