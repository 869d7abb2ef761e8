"""How channels pass through each ONNX operation: one rule a kind, one literal table of them.

As `keras_rules`, with the weights of a model being its initializers by name. Shapes are those of batch 1.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.prune.channels.structure import (
    FIXED,
    Flow,
    Labels,
    Role,
    Structure,
    Term,
    along_one_axis,
    elementwise,
)
from edge.report import Skipped

Flows = list[Flow | None]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Recount:
    """A number in the graph that counts channels: the attribute of a node, or (`index`) an entry of its new shape."""

    node: Any
    attribute: str
    labels: Labels
    index: int | None = None


@dataclass
class Use:
    """One operation: its inputs' flows by name, all initializers, and all shapes; `known` are the weights whose
    channels it has told.
    """

    structure: Structure
    recounts: list[Recount]
    node: Any
    flows: Mapping[str, Flow | None]
    weights: Mapping[str, npt.NDArray[Any]]
    shapes: Mapping[str, Shape]
    known: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        """The operation's name, or that of its output."""
        return str(self.node.name or self.node.output[0])

    def attribute(self, name: str, default: Any = None) -> Any:
        """The value of an attribute of the node."""
        import onnx

        found = next((entry for entry in self.node.attribute if entry.name == name), None)
        return default if found is None else onnx.helper.get_attribute_value(found)

    def weight(self, i: int) -> npt.NDArray[Any] | None:
        """Input `i` where it is an initializer."""
        return self.weights.get(self.node.input[i]) if i < len(self.node.input) else None

    def shape(self, i: int = 0) -> Shape:
        """The shape of input `i`."""
        return self.shapes[self.node.input[i]]

    def out_shape(self) -> Shape:
        """The shape of the first output."""
        return self.shapes[self.node.output[0]]

    def flow(self, i: int = 0) -> Flow | None:
        """Where input `i` has its channels."""
        return self.flows.get(self.node.input[i]) if i < len(self.node.input) else None

    def channels(self, axis: int, i: int = 0) -> Labels:
        """The labels of input `i` along an axis, counted from the end; channels along another one are kept."""
        flow = self.flow(i)
        if flow is not None and flow.axis == axis:
            return flow.labels
        if flow is not None:
            self.stop("it takes channels along another axis")
        return np.full(self.shape(i)[axis], FIXED)

    def stop(self, reason: str) -> Flows:
        """Keep every channel that reaches this operation, and say so."""
        found = (self.flows.get(name) for name in self.node.input)
        why = f"{self.name} ({self.node.op_type}) stops them"
        kept = sum(self.structure.keep(flow.labels, why) for flow in found if flow is not None)
        if kept:
            text = f"{self.node.op_type}: {reason}; the {kept} channels that reach it stay"
            self.structure.skipped.append(Skipped(self.name, text))
        return [None] * len(self.node.output)

    def makes(self, i: int, axis: int, *, single: bool = False) -> Labels:
        """The channels that weight `i` makes along an axis; the same ones wherever that weight is used."""
        name = self.node.input[i]
        known = self.structure.labels_of(name, axis)
        if known is None:
            known = self.structure.make(self.name, self.weights[name].shape[axis], single=single)
        return self.slot(i, axis, "makes", known)

    def slot(self, i: int, axis: int, role: Role, labels: Labels) -> Labels:
        """Note the channels along an axis of weight `i`, where the operation has that weight."""
        if i >= len(self.node.input) or not self.node.input[i]:
            return labels
        name = self.node.input[i]
        if name not in self.weights:
            self.structure.keep(labels, f"a weight of {self.name} is computed")
            return labels
        self.known.add(name)
        return self.structure.slot(name, axis, role, labels)

    def costs(self, each: int, *axes: Labels) -> None:
        """Add `each` MACs for every combination of channels along `axes`."""
        self.structure.terms.append(Term(each, axes))


Rule = Callable[[Use], Flows]


def convolution(use: Use) -> Flows:
    """Conv: [N, C, ...] -> [N, M, ...]; weight [M, C / group, ...]."""
    weight, group = use.weight(1), use.attribute("group", 1)
    if weight is None:
        return use.stop("its kernel is computed")
    axis = 1 - len(use.shape())
    sites = prod(use.out_shape()[2:]) * prod(weight.shape[2:])
    if group == 1:
        into = use.channels(axis)
        made = use.makes(1, 0)
        use.slot(1, 1, "uses", into)
        use.slot(2, 0, "makes", made)
        use.costs(sites, into, made)
        return [Flow(axis, made)]
    if weight.shape[1] != 1 or group != use.shape()[1]:
        use.costs(sites * prod(weight.shape[:2]))
        return use.stop(f"it has {group} groups of channels")
    into = use.channels(axis)
    made = np.repeat(into, weight.shape[0] // group)
    use.slot(1, 0, "scales", made)
    use.slot(2, 0, "follows", made)
    use.recounts.append(Recount(use.node, "group", into))
    use.costs(sites, made)
    return [Flow(axis, made)]


def transposed_convolution(use: Use) -> Flows:
    """ConvTranspose: weight [C, M / group, ...]."""
    weight = use.weight(1)
    if weight is None or use.attribute("group", 1) != 1:
        return use.stop("its kernel is computed or has groups of channels")
    axis = 1 - len(use.shape())
    into = use.channels(axis)
    made = use.makes(1, 1)
    use.slot(1, 0, "uses", into)
    use.slot(2, 0, "makes", made)
    use.costs(prod(use.shape()[2:]) * prod(weight.shape[2:]), into, made)
    return [Flow(axis, made)]


def dense(use: Use) -> Flows:
    """Gemm and MatMul by a matrix of weights: [..., in] -> [..., out]."""
    weight = use.weight(1)
    if weight is None or weight.ndim != 2 or use.attribute("transA", 0):
        return use.stop("it does not multiply by a matrix of weights from the right")
    out_axis = 0 if use.attribute("transB", 0) else 1
    into = use.channels(-1)
    made = use.makes(1, out_axis)
    use.slot(1, 1 - out_axis, "uses", into)
    bias = use.weight(2)
    if bias is not None and bias.size == len(made):
        use.slot(2, bias.ndim - 1, "makes", made)
    elif bias is not None and bias.size > 1:
        use.structure.keep(made, f"the bias of {use.name} is a matrix")
    use.costs(prod(use.out_shape()[:-1]), into, made)
    return [Flow(-1, made)]


def embedding(use: Use) -> Flows:
    """Gather of rows of a matrix of weights: [...] of indices -> [..., columns]."""
    weight = use.weight(0)
    if weight is None or weight.ndim != 2 or use.attribute("axis", 0) != 0:
        return use.stop("it gathers from something else than the rows of a matrix of weights")
    return [Flow(-1, use.makes(0, 1))]


def batch_norm(use: Use) -> Flows:
    """[N, C, ...]: scale, bias, mean and variance [C]."""
    axis = 1 - len(use.shape())
    into = use.channels(axis)
    use.slot(1, 0, "scales", into)
    for i in (2, 3, 4):
        use.slot(i, 0, "follows", into)
    return [Flow(axis, into)] + [None] * (len(use.node.output) - 1)


def layer_norm(use: Use) -> Flows:
    """Mean and variance over the channels left, so they change a little."""
    if use.attribute("axis", -1) not in (-1, len(use.shape()) - 1):
        return use.stop("it normalizes along other axes than the last alone")
    into = use.channels(-1)
    use.slot(1, 0, "scales", into)
    use.slot(2, 0, "follows", into)
    if not use.structure.is_kept(into).all():
        use.structure.exact = False
    return [Flow(-1, into)] + [None] * (len(use.node.output) - 1)


def same(use: Use) -> Flows:
    """Each value, or each channel, alone: the channels stay where they were."""
    return [use.flow()] + [None] * (len(use.node.output) - 1)


def softmax(use: Use) -> Flows:
    """`same` where it goes along another axis than the channels."""
    flow, axis = use.flow(), use.attribute("axis", -1)
    along = axis if axis < 0 else axis - len(use.shape())
    return use.stop("it mixes channels") if flow is not None and flow.axis == along else [flow]


def pooling(use: Use) -> Flows:
    """[N, C, ...]: every channel alone."""
    flow = use.flow()
    if flow is not None and flow.axis != 1 - len(use.shape()):
        return use.stop("its channels are not along the second axis")
    return [flow] + [None] * (len(use.node.output) - 1)


def reduction(use: Use) -> Flows:
    """Mean, sum, maximum over axes that are not the channels'."""
    flow, rank = use.flow(), len(use.shape())
    given = use.weight(1)
    axes = use.attribute("axes") if given is None else given.ravel().tolist()
    if flow is None:
        return [None]
    if axes is None or rank + flow.axis in [axis % rank for axis in axes]:
        return use.stop("it mixes channels")
    if use.attribute("keepdims", 1):
        return [flow]
    gone = sum(axis % rank > rank + flow.axis for axis in axes)
    return [Flow(flow.axis + gone, flow.labels)]


def together(use: Use) -> Flows:
    """Element by element, with broadcasting: what meets is pruned together; constants of a channel go with it."""
    flows = [flow for flow in map(use.flow, range(len(use.node.input))) if flow is not None]
    if not flows:
        return [None]
    axis = flows[0].axis
    size = use.out_shape()[axis]
    if any(flow.axis != axis for flow in flows):
        return use.stop("its inputs have their channels along different axes")
    into: Labels | None = None
    constants = []
    for i in range(len(use.node.input)):
        shape = use.shape(i)
        along = shape[axis] if len(shape) >= -axis else 1
        flow = use.flow(i)
        if along == 1 and size != 1:
            if flow is not None:
                use.structure.keep(flow.labels, f"{use.name} spreads it over all channels")
            continue
        if use.weight(i) is not None:
            constants.append((i, len(shape) + axis))
            continue
        labels = use.channels(axis, i)
        if into is not None:
            use.structure.join(into, labels)
        into = labels if into is None else into
    if into is None:
        return [None]
    for i, where in constants:
        use.slot(i, where, "scales" if use.node.op_type == "Mul" else "follows", into)
    return [Flow(axis, into)]


def concatenate(use: Use) -> Flows:
    """Along the channels their labels are concatenated; along another axis the channels of all inputs are joined."""
    axes = {flow.axis for flow in map(use.flow, range(len(use.node.input))) if flow is not None}
    if not axes:
        return [None]
    if len(axes) > 1:
        return use.stop("its inputs have their channels along different axes")
    (along,) = axes
    axis = use.attribute("axis")
    axis = axis if axis < 0 else axis - len(use.shape())
    parts = [use.channels(along, i) for i in range(len(use.node.input))]
    return [use.structure.concatenated(parts, along, axis)]


def reshape(use: Use) -> Flows:
    """Reshape, Flatten, Squeeze, Unsqueeze: labels of all elements, which must change along one axis alone again."""
    flow = use.flow()
    if flow is None:
        return [None]
    after = use.out_shape()
    made = along_one_axis(elementwise(flow, use.shape()).reshape(after))
    if made is None:
        return use.stop("it spreads channels over several axes")
    if use.node.op_type == "Reshape":
        target = use.weight(1)
        if target is None:
            return use.stop("its new shape is computed")
        index = len(after) + made.axis
        if target.ravel()[index] > 0:
            use.recounts.append(Recount(use.node, "shape", made.labels, index))
    return [made]


def transpose(use: Use) -> Flows:
    """The channels move with their axis."""
    flow, rank = use.flow(), len(use.shape())
    if flow is None:
        return [None]
    order: Sequence[int] = use.attribute("perm") or list(range(rank))[::-1]
    return [Flow(list(order).index(rank + flow.axis) - rank, flow.labels)]


def untouched(use: Use) -> Flows:
    """Slice, Pad, Resize, Split where the axis of the channels keeps its size."""
    flow = use.flow()
    if flow is None:
        return [None] * len(use.node.output)
    sizes = [use.shapes[name][flow.axis] for name in use.node.output]
    if any(size != len(flow.labels) for size in sizes):
        return use.stop("it takes some of the channels")
    if use.node.op_type == "Resize" and len(use.node.input) > 3 and use.node.input[3]:
        return use.stop("its new size counts the channels")
    if use.node.op_type == "Slice" and _slices(use, flow.axis):
        return use.stop("it takes the channels in another order or by number")
    return [flow] * len(use.node.output)


def _slices(use: Use, axis: int) -> bool:
    """Whether a Slice names an axis; one whose bounds are computed counts as naming all."""
    axes, rank = use.weight(3), len(use.shape())
    return axes is None or rank + axis in [int(entry) % rank for entry in axes.ravel()]


def recurrent(use: Use) -> Flows:
    """GRU, LSTM, RNN: W [directions, gates * hidden, in], R [..., hidden]; Y [time, directions, N, hidden]."""
    weight, hidden = use.weight(1), use.attribute("hidden_size")
    if weight is None or use.weight(2) is None or any(use.node.input[5:]) or use.attribute("layout", 0):
        return use.stop("its weights or first states are computed, or its batch comes first")
    gates = weight.shape[1] // hidden
    into = use.channels(-1)
    units = use.structure.labels_of(use.node.input[2], 2)
    units = use.structure.make(use.name, hidden) if units is None else units
    use.slot(1, 1, "makes", np.tile(units, gates))
    use.slot(1, 2, "uses", into)
    use.slot(2, 1, "makes", np.tile(units, gates))
    use.slot(2, 2, "uses", units)
    use.slot(3, 1, "makes", np.tile(units, 2 * gates))
    use.recounts.append(Recount(use.node, "hidden_size", units))
    steps = use.shape()[0] * weight.shape[0]
    use.costs(steps, into, np.tile(units, gates))
    use.costs(steps, units, np.tile(units, gates))
    return [Flow(-1, units)] * len(use.node.output)


# fmt: off
POINTWISE = (
    "Abs", "Cast", "Celu", "Clip", "Dropout", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Identity",
    "LeakyRelu", "Log", "Mish", "Neg", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sin", "Softplus", "Softsign",
    "Sqrt", "Tanh", "ThresholdedRelu",
)
# fmt: on
RULES: dict[str, Rule] = {
    "Conv": convolution,
    "ConvTranspose": transposed_convolution,
    **dict.fromkeys(("Gemm", "MatMul"), dense),
    "Gather": embedding,
    "BatchNormalization": batch_norm,
    "LayerNormalization": layer_norm,
    **dict.fromkeys(POINTWISE, same),
    **dict.fromkeys(("Softmax", "LogSoftmax"), softmax),
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool"), pooling),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2"), reduction),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Max", "Min", "Mean", "Sum", "PRelu", "Pow"), together),
    "Concat": concatenate,
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), reshape),
    "Transpose": transpose,
    **dict.fromkeys(("Slice", "Pad", "Resize", "Split"), untouched),
    **dict.fromkeys(("GRU", "LSTM", "RNN"), recurrent),
}
