"""Weights of a .tflite stored as integers, in place: int4 or int8 with one scale for each slice along an axis."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

INT8, INT4 = 9, 17  # TensorType of the schema
_DEQUANTIZE, _DEQUANTIZE_INT4_VERSION = 6, 6


def pack_nibbles(integers: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    """Two 4-bit integers in a byte, the first in its low half."""
    flat = np.append(integers.ravel(), np.zeros(integers.size % 2, np.int8)).view(np.uint8) & 0xF
    return (flat[::2] | flat[1::2] << 4).astype(np.uint8)


def store_integers(
    model: Any,
    tensor: int,
    integers: npt.NDArray[np.int8],
    scales: npt.NDArray[np.float32],
    *,
    axis: int,
    bits: Literal[4, 8],
) -> None:
    """Make a constant of the main graph int4 or int8: its values are `integers` times the scale of their slice."""
    from ai_edge_litert import schema_py_generated as schema

    stored = model.subgraphs[0].tensors[tensor]
    stored.type = INT4 if bits == 4 else INT8
    stored.quantization = schema.QuantizationParametersT()
    stored.quantization.scale = scales.ravel()
    stored.quantization.zeroPoint = np.zeros(scales.size, np.int64)
    stored.quantization.quantizedDimension = axis
    stored.buffer = len(model.buffers)  # another tensor may share the old one
    model.buffers.append(schema.BufferT())
    flat = np.ascontiguousarray(integers).ravel()
    model.buffers[-1].data = pack_nibbles(flat) if bits == 4 else flat.view(np.uint8)


def dequantize_first(model: Any, tensor: int) -> None:
    """Let all that reads a stored tensor read it as floats, through a DEQUANTIZE in front of its first reader.

    The runtime does that once, since the tensor is constant.
    """
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    place = next(n for n, entry in enumerate(graph.operators) if tensor in entry.inputs)
    stored = graph.tensors[tensor]
    floating = schema.TensorT()
    floating.shape, floating.name = stored.shape, stored.name + b"_float"
    floating.type, floating.buffer = 0, 0
    graph.tensors.append(floating)
    for reader in graph.operators:
        reader.inputs = np.where(reader.inputs == tensor, len(graph.tensors) - 1, reader.inputs).astype(np.int32)
    operator = schema.OperatorT()
    operator.opcodeIndex = _dequantize_code(model)
    operator.inputs = np.array([tensor], np.int32)
    operator.outputs = np.array([len(graph.tensors) - 1], np.int32)
    graph.operators.insert(place, operator)


def _dequantize_code(model: Any) -> int:
    from ai_edge_litert import schema_py_generated as schema

    for place, code in enumerate(model.operatorCodes):
        if code.builtinCode == _DEQUANTIZE:
            code.version = max(code.version, _DEQUANTIZE_INT4_VERSION)
            return place
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = _DEQUANTIZE
    code.version = _DEQUANTIZE_INT4_VERSION
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1
