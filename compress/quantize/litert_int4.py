"""int4 weights for the dense and embedding layers of a float .tflite; everything else stays float.

A dense layer whose inputs divide by 32 gets one scale for each block of 32 weights (Dettmers and Zettlemoyer, "The case
for 4-bit precision: k-bit inference scaling laws", ICML 2023, arXiv:2212.09720, section 2.1); LiteRT runs it on
activations that are quantized to int8 while running. Another gets one scale per output, an embedding one per row:
LiteRT turns those weights back into floats once, when the model is first run.
"""

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.quantize import Quantized
from compress.quantize.litert_compact import write_model
from compress.quantize.litert_model import (
    WeightedOperator,
    drop_unread,
    read_model,
    require_float,
    restore_names,
    stayed_float,
    upgrade,
    weighted_operators,
)
from edge.errors import BadModel, CheckFailed
from edge.quiet import quiet

BLOCK = 32
LARGEST = 7  # symmetric int4: -7 … 7
_DEQUANTIZE, _DEQUANTIZE_INT4_VERSION, _INT4 = 6, 6, 17


def quantize_int4(model: bytes) -> Quantized:
    """int4 weights for dense layers and embeddings; what stays float is named.

    Raises:
        BadModel: damaged, quantized already, or refused by the quantizer.
        CheckFailed: it has no dense layer or embedding with constant weights.

    """
    parsed = upgrade(read_model(model))
    require_float(parsed)
    layers = weighted_operators(parsed)
    dense = [layer for layer in layers if layer.kind == "FULLY_CONNECTED"]
    tables = [layer for layer in layers if layer.kind in ("GATHER", "EMBEDDING_LOOKUP")]
    if not dense and not tables:
        raise CheckFailed(
            "quantize.int4 has nothing to treat: no dense layer and no embedding with constant weights",
            "use quantize.int8, which also covers convolutions",
        )
    result = read_model(_dense(write_model(parsed), dense)) if dense else parsed
    for layer in tables:
        _table(result, layer)
    drop_unread(result)
    if dense:
        restore_names(result, parsed)
    content = write_model(result)
    # An embedding reads a table that was int4 a moment ago: its operation works on floats, its weights are treated.
    treated = {layer.kind for layer in tables}
    left = stayed_float(content, "int4 covers dense layers and embeddings")
    return Quantized(content, tuple(entry for entry in left if entry.what.split(" x ")[-1] not in treated))


def quantize_rows(weights: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Weights [rows, n] -> integers -7 … 7 [rows, n] and one scale per row: max |w| / 7."""
    scales = np.maximum(np.abs(weights).max(axis=1), np.finfo(np.float32).tiny * 2**24) / LARGEST
    integers = np.clip(np.rint(weights / scales[:, None]), -LARGEST, LARGEST)
    return integers.astype(np.int8), scales.astype(np.float32)


def pack_nibbles(integers: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    """Two 4-bit integers in a byte, the first in its low half."""
    flat = np.append(integers.ravel(), np.zeros(integers.size % 2, np.int8)).view(np.uint8) & 0xF
    return (flat[::2] | flat[1::2] << 4).astype(np.uint8)


def _dense(model: bytes, layers: list[WeightedOperator]) -> bytes:
    from litert_quantizer import qtyping, quantizer

    kind = qtyping.TFLOperationName.FULLY_CONNECTED
    with quiet():
        work = quantizer.Quantizer(model)
        for layer in layers:
            scope = f"^{re.escape(layer.name)}"
            if layer.shape[-1] % BLOCK == 0:
                work.add_dynamic_config(scope, kind, 4, qtyping.QuantGranularity.BLOCKWISE_32)
            else:
                work.add_weight_only_config(scope, kind, 4)
        try:
            return bytes(work.quantize(enable_progress_report=False).quantized_model)
        except (ValueError, RuntimeError, KeyError) as error:
            raise BadModel(f"int4 of this .tflite failed: {error}", "use quantize.dynamic") from error


def _table(model: Any, layer: WeightedOperator) -> None:
    """Store an embedding's table as int4 in place, with a DEQUANTIZE in front of its operation."""
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    place = next(
        n for n, entry in enumerate(graph.operators) if graph.tensors[entry.outputs[0]].name.decode() == layer.name
    )
    stored = graph.tensors[layer.weights]
    if stored.type == _INT4:
        return  # two operations read the same table
    data = np.asarray(model.buffers[stored.buffer].data, np.uint8)
    integers, scales = quantize_rows(data.view(np.float32).reshape(layer.shape[0], -1))
    floating = schema.TensorT()
    floating.shape, floating.type, floating.name = stored.shape, stored.type, stored.name + b"_float"
    floating.buffer = 0
    graph.tensors.append(floating)
    stored.type = _INT4
    stored.quantization = schema.QuantizationParametersT()
    stored.quantization.scale = scales
    stored.quantization.zeroPoint = np.zeros(len(scales), np.int64)
    stored.quantization.quantizedDimension = 0
    stored.buffer = len(model.buffers)  # another tensor may share the old one
    model.buffers.append(schema.BufferT())
    model.buffers[-1].data = pack_nibbles(integers)
    dequantize = schema.OperatorT()
    dequantize.opcodeIndex = _dequantize_code(model)
    dequantize.inputs = np.array([layer.weights], np.int32)
    dequantize.outputs = np.array([len(graph.tensors) - 1], np.int32)
    for reader in graph.operators:
        reader.inputs = np.where(reader.inputs == layer.weights, len(graph.tensors) - 1, reader.inputs)
    graph.operators.insert(place, dequantize)


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
