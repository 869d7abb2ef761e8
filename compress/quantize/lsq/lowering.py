"""A Keras 3 model written as integer operations, by one rule for each type of layer in one literal table."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from compress.quantize.lsq.attention import multi_head_attention
from compress.quantize.lsq.graph import WIDE, Builder, Graph
from compress.quantize.lsq.recurrent import Untreatable, gru, lstm
from edge.errors import BadModel, CheckFailed

Rule = Callable[[Builder, Any, list[str], dict[str, Any]], str]
HINT = "quantize.int8 takes every layer that LiteRT or ONNX Runtime takes, without training"


def lower(model: Any) -> Graph:
    """The integer operations of a Keras 3 model of layers in `LAYERS`.

    Raises:
        BadModel: the model is no graph of layers, or an input has an open dimension.
        CheckFailed: it holds layers that cannot be treated; all are named, each with its reason. The file is written
            operation by operation from this graph, so that none of them can stay as it was.

    """
    import keras

    functional = _functional(model)
    if functional is None:
        raise BadModel(
            f"model {getattr(model, 'name', model)!r} is not a graph of layers: quantize.lsq cannot see its operations",
            "build it with keras.Model(inputs, outputs) or keras.Sequential with an Input",
        )
    builder = Builder()
    refused: dict[str, str] = {}
    values: dict[int, str | None] = {}
    for tensor in functional.inputs:
        shape = tuple(tensor.shape[1:])
        if None in shape:
            raise BadModel(
                f"input {tensor.name!r} has an open dimension behind the batch", "build it with fixed shapes"
            )
        values[id(tensor)] = builder.input(tensor.name, (1, *shape), integer=keras.backend.is_int_dtype(tensor.dtype))
    _walk(functional, builder, values, refused, "")
    if refused:
        told = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        raise CheckFailed(f"quantize.lsq cannot treat every layer of model {model.name!r}: {told}", HINT)
    for tensor in functional.outputs:
        made = values[id(tensor)]
        assert made is not None, "every layer was treated"
        builder.graph.outputs.append(made)
    return builder.graph


def _functional(model: Any) -> Any:
    """The graph of layers of a model, None where it has none. A Sequential keeps its own inside."""
    import keras

    inner = getattr(model, "_functional", model)
    return inner if isinstance(inner, keras.Model) and hasattr(inner, "_nodes_by_depth") else None


def _walk(model: Any, builder: Builder, values: dict[int, str | None], refused: dict[str, str], prefix: str) -> None:
    """The nodes of a model, and of models within it, in the order in which they run."""
    for depth in sorted(model._nodes_by_depth, reverse=True):  # noqa: SLF001 - Keras has no public way
        for node in model._nodes_by_depth[depth]:  # noqa: SLF001 - as above
            if node.is_input:
                continue
            operation, tensors = node.operation, node.arguments.keras_tensors
            given = [values.get(id(tensor)) for tensor in tensors]
            nested = _functional(operation)
            if nested is not None:
                inner = {id(t): name for t, name in zip(nested.inputs, given, strict=True)}
                _walk(nested, builder, inner, refused, f"{prefix}{operation.name}/")
                for inside, outside in zip(nested.outputs, node.outputs, strict=True):
                    values[id(outside)] = inner[id(inside)]
                continue
            made = None
            if all(given):
                builder.layer = prefix + operation.name
                made = _treated(operation, node, builder, [name for name in given if name], refused)
            for tensor in node.outputs:
                values[id(tensor)] = made


def _treated(operation: Any, node: Any, builder: Builder, given: list[str], refused: dict[str, str]) -> str | None:
    kind = type(operation)
    rule = LAYERS.get(kind.__name__) if kind.__module__.startswith("keras.") else None
    if rule is None:
        refused[builder.layer] = f"there is no rule for {kind.__name__}"
        return None
    if len(node.outputs) != 1:
        refused[builder.layer] = f"it gives {len(node.outputs)} tensors"
        return None
    try:
        return rule(builder, operation, given, node.arguments.kwargs)
    except Untreatable as error:
        refused[builder.layer] = str(error)
        return None


def activated(b: Builder, x: str, activation: Any) -> str:
    """The activation function of a layer. Raises Untreatable for one without an integer kernel."""
    name = getattr(activation, "__name__", str(activation))
    if name == "linear":
        return x
    if name == "silu":
        return b.mul(x, b.unary("sigmoid", x), what="silu")
    if name not in ("gelu", "relu", "sigmoid", "softmax", "tanh"):
        raise Untreatable(f"there is no integer kernel for the activation {name}")
    return b.unary(name, x)  # type: ignore[arg-type]  # the names are kinds


def _dense(b: Builder, layer: Any, given: list[str], _: Any) -> str:
    (x,) = given
    width = b.graph.shape(x)[-1]
    kernel = b.weight("kernel", "kernel", (width, layer.units), lambda: layer.kernel)
    bias = b.weight("bias", "bias", (layer.units,), lambda: layer.bias) if layer.use_bias else None
    relu = layer.activation.__name__ == "relu"
    made = b.dense(x, kernel, bias, relu=relu)
    return made if relu else activated(b, made, layer.activation)


def _einsum_dense(b: Builder, layer: Any, given: list[str], _: Any) -> str:
    """A dense layer over the last axis, its bias over the last axes: one for each position is a position embedding."""
    (x,) = given
    left, right = layer.equation.replace("...", "").split("->")
    source, kernel_axes = left.split(",")
    wanted = f"{source[:-1]}{kernel_axes[-1:]}"
    if len(kernel_axes) != 2 or source[-1:] != kernel_axes[0] or right != wanted:
        raise Untreatable(f"equation {layer.equation} is not a dense layer over the last axis")
    shape = tuple(layer.kernel.shape)
    kernel = b.weight("kernel", "kernel", shape, lambda: layer.kernel)
    flat = layer.bias is not None and len(layer.bias.shape) == 1
    bias = b.weight("bias", "bias", (shape[1],), lambda: layer.bias) if flat else None
    made = b.dense(x, kernel, bias)
    if layer.bias is not None and not flat:
        made = b.add(made, b.weight("bias", "value", tuple(layer.bias.shape), lambda: layer.bias))
    return activated(b, made, layer.activation)


def _embedding(b: Builder, layer: Any, given: list[str], _: Any) -> str:
    (ids,) = given
    if layer.mask_zero:
        raise Untreatable("mask_zero is set; integer kernels know no masks")
    if not b.graph.tensors[ids].integer:
        raise Untreatable("its input is not an integer input of the model")
    table = b.weight("embeddings", "table", (layer.input_dim, layer.output_dim), lambda: layer.embeddings)
    return b.gather(ids, table)


def _layer_normalization(b: Builder, layer: Any, given: list[str], _: Any) -> str:
    """Gamma (x - mean) / sqrt(variance + epsilon) + beta over the last axis (Ba et al., 2016); wide within."""
    (x,) = given
    rank = len(b.graph.shape(x))
    axes = [axis % rank for axis in (layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis])]
    if axes != [rank - 1]:
        raise Untreatable(f"it normalizes axes {layer.axis}, not the last one")
    width = b.graph.shape(x)[-1:]
    wide = b.wide(x)
    centred = b.sub(wide, b.mean(wide, rank - 1, keepdims=True, grid=WIDE), what="centred", grid=WIDE)
    square = b.mul(centred, centred, what="square", grid=WIDE)
    variance = b.mean(square, rank - 1, keepdims=True, what="variance", grid=WIDE)
    epsilon = b.weight("epsilon", "value", (1,), lambda: np.float32(layer.epsilon))
    spread = b.unary("rsqrt", b.add(variance, epsilon, what="above_zero", grid=WIDE), grid=WIDE)
    made = b.mul(centred, spread, what="normal", grid=WIDE)
    if layer.scale:
        made = b.mul(made, b.weight("gamma", "value", width, lambda: layer.gamma), what="scaled", grid=WIDE)
    if layer.center:
        made = b.add(made, b.weight("beta", "value", width, lambda: layer.beta), what="shifted", grid=WIDE)
    return b.unary("requantize", made, what="made")


def _batch_normalization(b: Builder, layer: Any, given: list[str], _: Any) -> str:
    """X scale + shift with the statistics that the layer has; they stand still while steps are learned."""
    import keras

    (x,) = given
    rank = len(b.graph.shape(x))
    if layer.axis % rank != rank - 1:
        raise Untreatable(f"it normalizes axis {layer.axis}, not the last one")

    def scale() -> Any:
        return (layer.gamma if layer.scale else 1.0) * keras.ops.rsqrt(layer.moving_variance + layer.epsilon)

    def shift() -> Any:
        return (layer.beta if layer.center else 0.0) - layer.moving_mean * scale()

    width = b.graph.shape(x)[-1:]
    return b.add(b.mul(x, b.weight("scale", "value", width, scale)), b.weight("shift", "value", width, shift))


def _activation(b: Builder, layer: Any, given: list[str], _: Any) -> str:
    return activated(b, given[0], layer.activation)


def _relu(b: Builder, layer: Any, given: list[str], _: Any) -> str:
    if layer.max_value is not None or layer.negative_slope or layer.threshold:
        raise Untreatable("only the plain ReLU has an integer kernel")
    return b.unary("relu", given[0])


def _softmax(b: Builder, layer: Any, given: list[str], _: Any) -> str:
    if layer.axis not in (-1, len(b.graph.shape(given[0])) - 1):
        raise Untreatable(f"softmax over axis {layer.axis}, not the last one")
    return b.unary("softmax", given[0])


def _add(b: Builder, _layer: Any, given: list[str], _: Any) -> str:
    total = _several(given)[0]
    for other in given[1:]:
        total = b.add(total, other)
    return total


def _multiply(b: Builder, _layer: Any, given: list[str], _: Any) -> str:
    total = _several(given)[0]
    for other in given[1:]:
        total = b.mul(total, other)
    return total


def _subtract(b: Builder, _layer: Any, given: list[str], _: Any) -> str:
    return b.sub(*_several(given)[:2])


def _several(given: Sequence[str]) -> Sequence[str]:
    if len(given) < 2:
        raise Untreatable("one side of it is a constant")
    return given


def _same(_b: Builder, _layer: Any, given: list[str], _: Any) -> str:
    return given[0]


def _flatten(b: Builder, _layer: Any, given: list[str], _: Any) -> str:
    size = 1
    for length in b.graph.shape(given[0])[1:]:
        size *= length
    return b.reshape(given[0], (size,))


def _reshape(b: Builder, layer: Any, given: list[str], _: Any) -> str:
    return b.reshape(given[0], tuple(int(n) for n in layer.compute_output_shape((1, *b.graph.shape(given[0])[1:]))[1:]))


def _permute(b: Builder, layer: Any, given: list[str], _: Any) -> str:
    return b.transpose(given[0], (0, *layer.dims))


def _average(b: Builder, layer: Any, given: list[str], _: Any) -> str:
    return b.mean(given[0], 1, keepdims=bool(layer.keepdims))


def _gru(b: Builder, layer: Any, given: list[str], keywords: dict[str, Any]) -> str:
    return gru(b, layer, _alone(given, keywords))


def _lstm(b: Builder, layer: Any, given: list[str], keywords: dict[str, Any]) -> str:
    return lstm(b, layer, _alone(given, keywords))


def _alone(given: list[str], keywords: dict[str, Any]) -> str:
    if len(given) != 1 or keywords.get("mask") is not None:
        raise Untreatable("it is given an initial state or a mask")
    return given[0]


# "Dropout" and its kind do nothing outside of training; a fine-tune of a few epochs does without them.
LAYERS: dict[str, Rule] = {
    "Activation": _activation,
    "Add": _add,
    "BatchNormalization": _batch_normalization,
    "Dense": _dense,
    "Dropout": _same,
    "EinsumDense": _einsum_dense,
    "Embedding": _embedding,
    "Flatten": _flatten,
    "GRU": _gru,
    "GaussianDropout": _same,
    "GaussianNoise": _same,
    "GlobalAveragePooling1D": _average,
    "LSTM": _lstm,
    "LayerNormalization": _layer_normalization,
    "MultiHeadAttention": multi_head_attention,
    "Multiply": _multiply,
    "Permute": _permute,
    "ReLU": _relu,
    "Reshape": _reshape,
    "Softmax": _softmax,
    "SpatialDropout1D": _same,
    "Subtract": _subtract,
}
