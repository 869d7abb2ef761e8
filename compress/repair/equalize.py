"""Cross-layer equalization: the channels between two layers get weights of equal range on both sides.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019 (arXiv:1906.04721),
section 4.1. ReLU(s x) = s ReLU(x) for s > 0, so a channel may be divided by s_i behind the first layer and multiplied
in front of the second without any change of the function; s_i = sqrt(r1_i / r2_i), equation 11, makes both ranges
sqrt(r1_i r2_i). It serves quantizations with one scale a tensor most.

A channel of weights near zero that is alive by its bias alone would get so small an s_i that b_i / s_i blows up the
range of the activations (the paper absorbs biases for that): here no bias becomes larger than the layer's largest was.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.quantize.litert_compact import write_model
from compress.quantize.litert_model import operator_kind, read_model, require_float
from compress.repair import Repaired
from compress.repair.litert_layers import Layer, constant, kernel_of, layers_of, put_constant, put_kernel
from edge.errors import CheckFailed
from edge.report import Skipped

Floats = npt.NDArray[np.float32]
NAME = "repair.equalize"
# ActivationFunctionType of the schema: those that let a positive factor through; ReLU6 is named to be replaced.
_NONE, _RELU, _RELU6 = 0, 1, 3
# Operations that let a positive factor of a channel through, where they leave the channels last and apart.
_TRANSPARENT = ("MAX_POOL_2D", "AVERAGE_POOL_2D", "MEAN", "SUM", "RELU", "RESHAPE", "PAD")
SWEEPS, CONVERGED = 50, 1e-3


@dataclass(frozen=True)
class Pair:
    """Two layers with nothing between their channels that a factor would not pass."""

    first: Layer
    second: Layer


def factors(first: Floats, second: Floats) -> Floats:
    """The ranges of channels behind one layer [C] and in front of the next [C] -> s = sqrt(first / second) [C].

    A channel that one side does not use (range 0) keeps 1.
    """
    used = (first > 0) & (second > 0)
    ratio = np.divide(first, second, out=np.ones_like(first), where=used)
    return np.asarray(np.sqrt(ratio), first.dtype)


def equalize(model: bytes, *, replace_relu6: bool = False) -> Repaired:
    """Equalize every pair of layers, over and over until the factors settle; the function stays as it is.

    `replace_relu6` makes ReLU6 between layers a ReLU first, as the paper does: the function then changes for inputs
    that it clipped. The figures are the largest factor of each first layer.

    Raises:
        BadModel: damaged or quantized already.
        CheckFailed: no two layers stand so that channels can be equalized.

    """
    parsed = read_model(model)
    require_float(parsed)
    layers, skipped = layers_of(parsed)
    pairs, reasons = _pairs(parsed, layers, replace_relu6=replace_relu6)
    if not pairs:
        why = "; ".join(sorted({entry.reason for entry in (*skipped, *reasons)})) or "it has no weights"
        raise CheckFailed(f"{NAME} has nothing to equalize: {why}", "leave the pass out, or try repair.adaround")
    kernels = {layer.name: kernel_of(parsed, layer) for layer in layers}
    biases = {layer.name: constant(parsed, layer.bias).copy() for layer in layers if layer.bias >= 0}
    largest = {name: float(np.abs(bias).max()) for name, bias in biases.items()}
    total = {pair.first.name: np.ones(_channels(kernels[pair.first.name]), np.float32) for pair in pairs}
    for _ in range(SWEEPS):
        moved = 0.0
        for pair in pairs:
            behind = np.abs(kernels[pair.first.name]).max(axis=2).ravel()
            factor = factors(behind, _front_ranges(kernels[pair.second.name], pair.second, len(behind)))
            if largest.get(pair.first.name, 0) > 0:
                factor = np.maximum(factor, np.abs(biases[pair.first.name]) / largest[pair.first.name])
                biases[pair.first.name] /= factor
            kernels[pair.first.name] /= factor.reshape(kernels[pair.first.name].shape[:2])[..., None]
            kernels[pair.second.name] *= _in_front(factor, kernels[pair.second.name], pair.second)
            total[pair.first.name] *= factor
            moved = max(moved, float(np.abs(np.log(factor)).max()))
        if moved < CONVERGED:
            break
    for layer in layers:
        if layer.name in biases:
            put_constant(parsed, layer.bias, biases[layer.name])
        put_kernel(parsed, layer, kernels[layer.name])
    for pair in pairs:
        if pair.first.activation == _RELU6:
            parsed.subgraphs[0].operators[pair.first.operator.place].builtinOptions.fusedActivationFunction = _RELU
    figures = {name: float(np.maximum(factor, 1 / factor).max()) for name, factor in total.items()}
    return Repaired(write_model(parsed), figures, (*skipped, *reasons))


def _channels(kernel: Floats) -> int:
    return int(kernel.shape[0] * kernel.shape[1])


def _front_ranges(kernel: Floats, layer: Layer, channels: int) -> Floats:
    # a convolution that is not depthwise has the input channels innermost
    ranges = np.abs(kernel).max(axis=(1, 2)) if layer.depthwise else np.abs(kernel).reshape(-1, channels).max(axis=0)
    return np.asarray(ranges, np.float32)


def _in_front(factor: Floats, kernel: Floats, layer: Layer) -> Floats:
    if layer.depthwise:
        return factor[:, None, None]
    return np.tile(factor, kernel.shape[2] // len(factor))[None, None]


def _pairs(model: Any, layers: list[Layer], *, replace_relu6: bool) -> tuple[list[Pair], tuple[Skipped, ...]]:
    readers: dict[int, list[int]] = {}
    graph = model.subgraphs[0]
    for place, operator in enumerate(graph.operators):
        for index in operator.inputs:
            readers.setdefault(int(index), []).append(place)
    at = {layer.operator.place: layer for layer in layers}
    pairs, skipped = [], []
    for layer in layers:
        found = _next(model, layer, at, readers, relu6=replace_relu6)
        if isinstance(found, str):
            skipped.append(Skipped(layer.name, found))
        else:
            pairs.append(Pair(layer, found))
    return pairs, tuple(skipped)


def _next(model: Any, layer: Layer, at: dict[int, Layer], readers: dict[int, list[int]], *, relu6: bool) -> Layer | str:
    """The layer that reads this one's channels, or why there is none that can be equalized with it."""
    graph = model.subgraphs[0]
    if layer.activation == _RELU6 and not relu6:
        return "its ReLU6 clips, so a factor does not pass it; replace_relu6 makes it a ReLU"
    if layer.activation not in (_NONE, _RELU, _RELU6):
        return "its activation lets no factor pass"
    current, channels = layer.target, int(graph.tensors[layer.target].shape[-1])
    while len(readers.get(current, [])) == 1 and current not in graph.outputs:
        (place,) = readers[current]
        if place in at:
            return at[place] if at[place].source == current else "its output is the weights of another"
        operator = graph.operators[place]
        if not _passes(model, operator, channels):
            return f"{operator_kind(model, operator)} follows, which lets no factor of a channel pass"
        current = int(operator.outputs[0])
    return "it is an output of the model" if current in graph.outputs else "several operations read its output"


def _passes(model: Any, operator: Any, channels: int) -> bool:
    """Whether a positive factor of a channel in front of an operation is the same factor behind it."""
    kind, graph = operator_kind(model, operator), model.subgraphs[0]
    before, after = (len(graph.tensors[index].shape) for index in (operator.inputs[0], operator.outputs[0]))
    if kind not in _TRANSPARENT or int(graph.tensors[operator.outputs[0]].shape[-1]) != channels or not before * after:
        return False
    if getattr(operator.builtinOptions, "fusedActivationFunction", _NONE) not in (_NONE, _RELU):
        return False
    if kind not in ("MEAN", "SUM"):
        return True
    axes = np.asarray(model.buffers[graph.tensors[operator.inputs[1]].buffer].data, np.uint8).view(np.int32)
    return all(axis % before != before - 1 for axis in axes.tolist())
