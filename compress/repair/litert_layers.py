"""The convolutions and dense layers of a float .tflite in one form: kernels [groups, outputs, k], biases, inputs.

A depthwise convolution has a group for each input channel, the others have one. Output channel c stands at
[c // outputs, c % outputs]. k runs over kernel rows, kernel columns and the input channels of a group.
"""

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.quantize.litert_model import WeightedOperator, drop_unread, weighted_operators
from edge.report import Skipped

Floats = npt.NDArray[np.float32]
_KINDS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_SHARED = "several operations use its weights"


@dataclass(frozen=True)
class Layer:
    """One layer: where its operation stands, its tensors (input, output, bias) and its geometry.

    `kernel`, `strides` and `dilations` are (height, width); a dense layer has 1 everywhere. `bias` is -1 without one.
    """

    operator: WeightedOperator
    source: int
    target: int
    bias: int
    activation: int
    kernel: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    same: bool = False

    @property
    def name(self) -> str:
        """The name of its output."""
        return self.operator.name

    @property
    def depthwise(self) -> bool:
        """Whether each output reads one input channel only."""
        return self.operator.kind == "DEPTHWISE_CONV_2D"


def layers_of(model: Any) -> tuple[list[Layer], tuple[Skipped, ...]]:
    """The layers whose weights can be changed, in the order they run, and those that cannot be, with the reason.

    A bias that several layers share, as converters store zeros, becomes a tensor for each, in place.
    """
    graph = model.subgraphs[0]
    uses: dict[int, int] = {}
    for operator in graph.operators:
        for index in operator.inputs:
            uses[int(index)] = uses.get(int(index), 0) + 1
    found, skipped = [], []
    for operator in weighted_operators(model):
        if operator.kind not in _KINDS:
            skipped.append(Skipped(operator.name, f"repair covers {', '.join(_KINDS)}, not {operator.kind}"))
            continue
        layer = _layer(model, operator)
        if layer.bias >= 0 and uses[layer.bias] > 1:
            layer = replace(layer, bias=_own_bias(model, layer))
        if uses[operator.weights] > 1:
            skipped.append(Skipped(operator.name, _SHARED))
        elif operator.kind == "CONV_2D" and operator.shape[-1] != graph.tensors[layer.source].shape[-1]:
            skipped.append(Skipped(operator.name, "it is a grouped convolution"))
        else:
            found.append(layer)
    return found, tuple(skipped)


def _layer(model: Any, operator: WeightedOperator) -> Layer:
    entry = model.subgraphs[0].operators[operator.place]
    options, inputs = entry.builtinOptions, [int(index) for index in entry.inputs]
    common = (operator, inputs[0], int(entry.outputs[0]), inputs[2] if len(inputs) > 2 else -1)
    if operator.kind == "FULLY_CONNECTED":
        return Layer(*common, options.fusedActivationFunction)
    return Layer(
        *common,
        options.fusedActivationFunction,
        (operator.shape[1], operator.shape[2]),
        (options.strideH, options.strideW),
        (options.dilationHFactor, options.dilationWFactor),
        options.padding == 0,  # Padding.SAME
    )


def _own_bias(model: Any, layer: Layer) -> int:
    graph = model.subgraphs[0]
    own = copy.copy(graph.tensors[layer.bias])
    own.name += b"_%d" % len(graph.tensors)
    graph.tensors.append(own)
    inputs = np.array(graph.operators[layer.operator.place].inputs, np.int32)
    inputs[2] = len(graph.tensors) - 1
    graph.operators[layer.operator.place].inputs = inputs
    return len(graph.tensors) - 1


def kernel_of(model: Any, layer: Layer) -> Floats:
    """The weights as [groups, outputs, k], a copy."""
    stored = constant(model, layer.operator.weights)
    if not layer.depthwise:
        return stored.reshape(1, len(stored), -1).copy()
    groups = int(model.subgraphs[0].tensors[layer.source].shape[-1])
    rows, columns = layer.kernel
    return np.ascontiguousarray(stored.reshape(rows * columns, groups, -1).transpose(1, 2, 0))


def put_kernel(model: Any, layer: Layer, kernel: Floats) -> None:
    """Write weights [groups, outputs, k] into the model."""
    put_constant(model, layer.operator.weights, kernel.transpose(2, 0, 1) if layer.depthwise else kernel)


def constant(model: Any, index: int) -> Floats:
    """The values of a float constant in its own shape."""
    tensor = model.subgraphs[0].tensors[index]
    data = np.asarray(model.buffers[tensor.buffer].data, np.uint8)
    return data.view(np.float32).reshape(tuple(tensor.shape))


def put_constant(model: Any, index: int, values: Floats) -> None:
    """Write the values of a float constant into a buffer of its own: another tensor may share the old one."""
    from ai_edge_litert import schema_py_generated as schema

    tensor = model.subgraphs[0].tensors[index]
    tensor.buffer = len(model.buffers)
    model.buffers.append(schema.BufferT())
    model.buffers[-1].data = np.frombuffer(np.ascontiguousarray(values, np.float32).tobytes(), np.uint8)
    drop_unread(model)
