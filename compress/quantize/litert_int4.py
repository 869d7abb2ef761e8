"""int4 weights for the dense and embedding layers of a float .tflite, and for its convolutions on request.

A dense layer whose inputs divide by 32 gets one scale for each block of 32 weights (Dettmers and Zettlemoyer, "The case
for 4-bit precision: k-bit inference scaling laws", ICML 2023, arXiv:2212.09720, section 2.1); LiteRT runs it on
activations that are quantized to int8 while running. Another gets one scale per output, an embedding one per row:
LiteRT turns those weights back into floats once, when the model is first run.
"""

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.quantize import Quantized, Samples
from compress.quantize.litert_compact import write_model
from compress.quantize.litert_convolutions import CONVOLUTIONS, quantize_convolutions
from compress.quantize.litert_integers import INT4, dequantize_first, store_integers
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
_REST = "int4 covers dense layers and embeddings"


def quantize_int4(
    model: bytes, *, convolutions: bool = False, bits: int = 4, calibration: Samples | None = None
) -> Quantized:
    """int4 weights for dense layers and embeddings; what stays float is named.

    `convolutions` treats those, too, with `bits`, as `litert_convolutions` says; `calibration` gives
    {input name: [1, ...]} and chooses how their weights are rounded.

    Raises:
        BadModel: damaged, quantized already, or refused by the quantizer.
        BadData: the samples do not fit the inputs, or there are none.
        CheckFailed: it has no layer to treat with constant weights.

    """
    parsed = upgrade(read_model(model))
    require_float(parsed)
    layers = weighted_operators(parsed)
    dense = [layer for layer in layers if layer.kind == "FULLY_CONNECTED"]
    tables = [layer for layer in layers if layer.kind in ("GATHER", "EMBEDDING_LOOKUP")]
    spatial = [layer for layer in layers if convolutions and layer.kind in CONVOLUTIONS]
    if not dense and not tables and not spatial:
        raise CheckFailed(
            "quantize.int4 has nothing to treat: no dense layer and no embedding with constant weights",
            "set convolutions = true for a .tflite, or use quantize.int8",
        )
    source = write_model(parsed)
    result = read_model(_dense(source, dense)) if dense else parsed
    _scale_zero_blocks(result)
    for layer in tables:
        _table(result, layer)
    skipped = quantize_convolutions(result, source, calibration, bits) if spatial else ()
    drop_unread(result)
    if dense:
        restore_names(result, parsed)
    content = write_model(result)
    # An embedding reads a table that was int4 a moment ago: its operation works on floats, its weights are treated.
    treated = {layer.kind for layer in (*tables, *spatial)}
    left = stayed_float(content, f"{_REST}{' and convolutions' if convolutions else ''}")
    return Quantized(content, (*skipped, *(entry for entry in left if entry.what.split(" x ")[-1] not in treated)))


def quantize_rows(weights: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Weights [rows, n] -> integers -7 … 7 [rows, n] and one scale per row: max |w| / 7."""
    scales = np.maximum(np.abs(weights).max(axis=1), np.finfo(np.float32).tiny * 2**24) / LARGEST
    integers = np.clip(np.rint(weights / scales[:, None]), -LARGEST, LARGEST)
    return integers.astype(np.int8), scales.astype(np.float32)


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


def _scale_zero_blocks(model: Any) -> None:
    """Give blocks of zeros a scale: LiteRT refuses one of zero, and any other says the same."""
    from ai_edge_litert import schema_py_generated as schema

    for graph in model.subgraphs:
        for tensor in graph.tensors:
            found = tensor.quantization
            if found is None or found.detailsType != schema.QuantizationDetails.BlockwiseQuantization:
                continue
            buffer = model.buffers[graph.tensors[found.details.scales].buffer]
            scales = np.asarray(buffer.data, np.uint8).view(np.float16)
            buffer.data = np.where(scales == 0, np.float16(1), scales).view(np.uint8)


def _table(model: Any, layer: WeightedOperator) -> None:
    """Store an embedding's table as int4 in place, with a DEQUANTIZE in front of its operation."""
    graph = model.subgraphs[0]
    stored = graph.tensors[layer.weights]
    if stored.type == INT4:
        return  # two operations read the same table
    data = np.asarray(model.buffers[stored.buffer].data, np.uint8)
    integers, scales = quantize_rows(data.view(np.float32).reshape(layer.shape[0], -1))
    store_integers(model, layer.weights, integers, scales, axis=0, bits=4)
    dequantize_first(model, layer.weights)
