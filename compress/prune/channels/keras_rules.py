"""How channels pass through each Keras 3 layer that is not a sequence's own: one rule a kind of layer.

A rule gets a use of a layer (one call of it in the graph) and gives where each output has its channels. On the way it
notes which axes of the weights carry channels, what the layer costs, and which of its settings count channels.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from compress.prune.channels.keras_use import Flows, Resize, Use
from compress.prune.channels.structure import Flow, Labels, along_one_axis, elementwise, positions


def dense(use: Use) -> Flows:
    """[..., in] -> [..., units]; kernel [in, units]."""
    kernel = use.layer.kernel
    into = use.channels()
    made = use.makes(kernel, 1, use.layer.units, "units")
    use.slot(kernel, 0, "uses", into)
    use.slot(use.layer.bias, 0, "makes", made)
    use.costs(positions(use.out_shapes[0][1:-1], use.name), into, made)
    return use.out(made)


def convolution(use: Use) -> Flows:
    """[..., in] -> [..., filters]; kernel [..., in / groups, filters]."""
    layer = use.layer
    refusal = _refused_convolution(layer)
    if refusal:
        use.costs(positions(use.out_shapes[0][1:], use.name) * prod(layer.kernel.shape[:-1]))
        return use.stop(refusal)
    axis = len(layer.kernel.shape) - 1
    into = use.channels()
    made = use.makes(layer.kernel, axis, layer.filters, "filters")
    use.slot(layer.kernel, axis - 1, "uses", into)
    use.slot(layer.bias, 0, "makes", made)
    use.costs(positions(use.out_shapes[0][1:-1], use.name) * prod(layer.kernel.shape[:-2]), into, made)
    return use.out(made)


def transposed_convolution(use: Use) -> Flows:
    """[..., in] -> [..., filters]; kernel [..., filters, in]."""
    layer = use.layer
    if layer.data_format != "channels_last":
        return use.stop("it has its channels first")
    axis = len(layer.kernel.shape) - 1
    into = use.channels()
    made = use.makes(layer.kernel, axis - 1, layer.filters, "filters")
    use.slot(layer.kernel, axis, "uses", into)
    use.slot(layer.bias, 0, "makes", made)
    use.costs(positions(use.shapes[0][1:-1], use.name) * prod(layer.kernel.shape[:-2]), into, made)
    return use.out(made)


def depthwise(use: Use) -> Flows:
    """[..., in] -> [..., in * multiplier]: each channel makes `multiplier` neighbours; kernel [..., in, multiplier]."""
    layer = use.layer
    if layer.data_format != "channels_last":
        return use.stop("it has its channels first")
    into = use.channels()
    made = np.repeat(into, layer.depth_multiplier)
    use.slot(layer.kernel, len(layer.kernel.shape) - 2, "scales", into)
    use.slot(layer.bias, 0, "follows", made)
    use.costs(positions(use.out_shapes[0][1:-1], use.name) * prod(layer.kernel.shape[:-2]), made)
    return use.out(made)


def separable(use: Use) -> Flows:
    """A depthwise and a 1x1 convolution in one layer."""
    layer = use.layer
    if layer.data_format != "channels_last":
        return use.stop("it has its channels first")
    into = use.channels()
    middle = np.repeat(into, layer.depth_multiplier)
    axis = len(layer.pointwise_kernel.shape) - 1
    made = use.makes(layer.pointwise_kernel, axis, layer.filters, "filters")
    use.slot(layer.depthwise_kernel, axis - 1, "scales", into)
    use.slot(layer.pointwise_kernel, axis - 1, "uses", middle)
    use.slot(layer.bias, 0, "makes", made)
    outside = positions(use.out_shapes[0][1:-1], use.name)
    use.costs(outside * prod(layer.depthwise_kernel.shape[:-2]), middle)
    use.costs(outside, middle, made)
    return use.out(made)


def embedding(use: Use) -> Flows:
    """[...] of indices -> [..., output_dim]; one vector a row."""
    made = use.makes(use.layer.embeddings, 1, use.layer.output_dim, "output_dim")
    return [Flow(-1, made)]


def batch_norm(use: Use) -> Flows:
    """Each channel alone: gamma, beta and the moving statistics [channels]."""
    layer = use.layer
    if _axis(layer.axis, use) != -1:
        return use.stop("it normalizes along another axis than the last")
    into = use.channels()
    use.slot(layer.gamma, 0, "scales", into)
    for weight in (layer.beta, layer.moving_mean, layer.moving_variance):
        use.slot(weight, 0, "follows", into)
    return use.inputs[:1]


def layer_norm(use: Use) -> Flows:
    """Gamma and beta [channels]; mean and variance are over the channels left, so they change a little."""
    layer = use.layer
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    if [_axis(axis, use) for axis in axes] != [-1]:
        return use.stop("it normalizes along other axes than the last alone")
    into = use.channels()
    use.slot(getattr(layer, "gamma", getattr(layer, "scale", None)), 0, "scales", into)
    use.slot(getattr(layer, "beta", None), 0, "follows", into)
    if not use.structure.is_kept(into).all():
        use.structure.exact = False
    return use.inputs[:1]


def prelu(use: Use) -> Flows:
    """One slope for each element, except along the shared axes: alpha has the shape of the input without the batch."""
    into = use.channels()
    alpha = use.layer.alpha
    if alpha.shape[-1] == len(into):
        use.slot(alpha, len(alpha.shape) - 1, "follows", into)
        return use.inputs[:1]
    return use.stop("its slopes are shared along the channels")


def same(use: Use) -> Flows:
    """The output has the channels of the input where they were (dropout, activations of each value alone)."""
    return use.inputs[:1]


def activation(use: Use) -> Flows:
    """An activation as a layer: as `same` where it knows each value alone."""
    flow = use.inputs[0]
    return [None] if flow is None else [replace(flow, labels=use.out(flow.labels)[0].labels)]  # type: ignore[union-attr]  # out gives one flow


def scaled(use: Use) -> Flows:
    """Rescaling: `same` for a number; for a vector the channels must stay."""
    if np.ndim(use.layer.scale) or np.ndim(use.layer.offset):
        return use.stop("it has a constant of its own for each channel")
    return use.inputs[:1]


def spatial(use: Use) -> Flows:
    """Pooling, padding, cropping, up-sampling: every channel alone, the channels last before and after."""
    flow = use.inputs[0]
    if flow is None:
        return [None]
    if getattr(use.layer, "data_format", "channels_last") != "channels_last":
        return use.stop("it has its channels first")
    if flow.axis != -1:
        return use.stop("its channels are not along the last axis")
    return [flow]


def together(use: Use) -> Flows:
    """Element by element (sum, product, maximum, …): what meets is pruned together. Shapes may broadcast.

    A gate [1, 1, channels] has the channels of what it multiplies; one number for all channels leaves them as they are.
    """
    if any(np.ndim(value) for value in _constants(use)):
        return use.stop("it has a constant of its own for each channel")
    flows = [(i, flow) for i, flow in enumerate(use.inputs) if flow is not None]
    if not flows:
        return [None]
    axis = flows[0][1].axis
    size = use.out_shapes[0][axis]
    if any(flow.axis != axis for _, flow in flows):
        return use.stop("its inputs have their channels along different axes")
    into: Labels | None = None
    for i, shape in enumerate(use.shapes):
        along = shape[axis] if len(shape) > -axis else 1
        if along == 1 and size != 1:
            flow = use.inputs[i]
            if flow is not None:
                use.structure.keep(flow.labels, f"{use.name} spreads it over all channels")
            continue
        labels = use.channels(i, axis)
        if into is not None:
            use.structure.join(into, labels)
        into = labels if into is None else into
    return [None] if into is None else [Flow(axis, into)]


def concatenate(use: Use) -> Flows:
    """Along the channels their labels are concatenated; along another axis the channels of all inputs are joined."""
    axis = getattr(use.layer, "axis", -1)
    axis = axis if axis < 0 else axis - len(use.shapes[0])
    axes = {flow.axis for flow in use.inputs if flow is not None}
    if not axes:
        return [None]
    if len(axes) > 1:
        return use.stop("its inputs have their channels along different axes")
    (along,) = axes
    parts = [use.channels(i, along) for i in range(len(use.inputs))]
    return [use.structure.concatenated(parts, along, axis)]


def reshape(use: Use) -> Flows:
    """Flatten and Reshape: the labels of all elements are reshaped; they must change along one axis alone again."""
    flow = use.inputs[0]
    if flow is None:
        return [None]
    resizable = hasattr(use.layer, "target_shape")
    if not resizable and type(use.layer).__name__ != "Flatten":
        return use.stop("its new shape is fixed; a Reshape layer's can change")
    before, after = use.shapes[0][1:], use.out_shapes[0][1:]
    sizes = [size for size in (*before, *after) if size is not None]
    if len(sizes) != len(before) + len(after):
        return use.stop("its shape is not fixed")
    made = along_one_axis(elementwise(flow, sizes[: len(before)]).reshape(sizes[len(before) :]))
    if made is None:
        return use.stop("it spreads channels over several axes")
    if resizable:
        index = len(after) + made.axis
        use.resizes.append(Resize(use.owner, (*use.path, "target_shape"), made.labels, index))
    return [made]


def permute(use: Use) -> Flows:
    """The channels move with their axis."""
    flow = use.inputs[0]
    if flow is None:
        return [None]
    dims = list(use.layer.dims)
    return [replace(flow, axis=dims.index(len(dims) + 1 + flow.axis) - len(dims))]


def repeat_vector(use: Use) -> Flows:
    """[channels] -> [n, channels]."""
    return use.inputs[:1]


def _refused_convolution(layer: Any) -> str | None:
    if layer.data_format != "channels_last":
        return "it has its channels first"
    return f"it has {layer.groups} groups of channels" if layer.groups != 1 else None


def _axis(axis: int, use: Use) -> int:
    return axis if axis < 0 else axis - len(use.shapes[0])


def _constants(use: Use) -> list[Any]:
    """The arguments of an operation that are values, not tensors of the model."""
    if use.arguments is None:
        return []
    from keras import KerasTensor

    given: Sequence[Any] = [*use.arguments.args, *use.arguments.kwargs.values()]
    flat = [value for entry in given for value in (entry if isinstance(entry, (list, tuple)) else [entry])]
    return [value for value in flat if value is not None and not isinstance(value, KerasTensor)]
