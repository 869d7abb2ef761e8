"""A float .tflite with a precision for each layer: int8, int16x8 (16-bit activations) or float32.

The flatbuffer is rewritten by litert_quantizer with one rule an operation. Where two precisions meet it puts a
QUANTIZE or DEQUANTIZE. Ranges of activations are those of compress.quantize.litert_static.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from compress.quantize import Quantized, Samples
from compress.quantize.litert_compact import write_model
from compress.quantize.litert_model import (
    is_constant,
    read_model,
    require_float,
    require_static_graph,
    restore_names,
    upgrade,
    weighted_operators,
)
from compress.quantize.litert_static import collect_ranges, rewrite_wide_biases
from compress.quantize.mixable import BITS, PRECISIONS, Chosen, Layer, Mixable, Operation, follow
from edge.errors import BadModel
from edge.quiet import quiet
from edge.report import Skipped

# What litert_quantizer has integer rules with calibrated activations for.
_KINDS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "GATHER")


def mixable(model: bytes, calibration: Samples, *, per_channel: bool = True) -> Mixable:
    """Calibrate a float .tflite, so that its layers can be quantized in any combination.

    `calibration` gives {input name: [1, ...]}. `per_channel=False` gives the weights of every layer one scale.

    Raises:
        BadModel: damaged, quantized already, or with loops.
        BadData: the samples do not fit the inputs, there are none, or they make an activation NaN.

    """
    parsed = read_model(model)
    require_float(parsed)
    require_static_graph(parsed, "mixed precision")
    model = write_model(upgrade(parsed))
    limits = {
        name: {"min": np.array([low], np.float32), "max": np.array([high], np.float32)}
        for name, seen in collect_ranges(model, calibration, with_histogram=False).items()
        for low, high in [seen.range("minmax")]
    }
    graph = parsed.subgraphs[0]
    layers, skipped = [], []
    for entry in weighted_operators(parsed):
        if entry.kind not in _KINDS:
            skipped.append(Skipped(entry.name, f"the quantizer has no rule with integer activations for {entry.kind}"))
            continue
        channels = int(graph.tensors[graph.operators[entry.place].outputs[0]].shape[-1])
        biased = 0 if entry.kind == "GATHER" else channels
        layers.append(Layer(entry.name, entry.kind, math.prod(entry.shape), biased))

    def build(chosen: Chosen) -> Quantized:
        return _built(model, limits, chosen, per_channel=per_channel)

    return Mixable(model, "tflite", tuple(layers), PRECISIONS, build, tuple(skipped))


def _built(model: bytes, limits: Mapping[str, Any], chosen: Chosen, *, per_channel: bool) -> Quantized:
    from litert_quantizer import qtyping, quantizer

    parsed = read_model(model)
    precisions = {name: given for name, given in follow(_operations(parsed), chosen).items() if given != "float32"}
    if not precisions:
        return Quantized(model)
    kinds = qtyping.QuantGranularity
    with quiet():
        work = quantizer.Quantizer(model)
        for name, precision in precisions.items():
            weight_bits, activation_bits = BITS[precision]
            work.add_static_config(
                f"^{re.escape(name)};",  # the quantizer puts a semicolon behind each output of an operation
                qtyping.TFLOperationName.ALL_SUPPORTED,
                activation_num_bits=activation_bits,
                weight_num_bits=weight_bits,
                weight_granularity=kinds.CHANNELWISE if per_channel else kinds.TENSORWISE,
            )
        try:
            result = bytes(work.quantize(dict(limits), enable_progress_report=False).quantized_model)
        except (ValueError, RuntimeError, KeyError) as error:
            raise BadModel(f"mixed precision of this .tflite failed: {error}", "use quantize.int8") from error
    return Quantized(write_model(rewrite_wide_biases(restore_names(read_model(result), parsed), parsed)))


def _operations(model: Any) -> list[Operation]:
    """The operations of the main graph by the name of their first output, with the tensors that are computed."""
    graph = model.subgraphs[0]
    names = [tensor.name.decode() for tensor in graph.tensors]
    return [
        Operation(
            names[operator.outputs[0]],
            tuple(names[i] for i in operator.inputs if i >= 0 and not is_constant(model, graph.tensors[i])),
            tuple(names[i] for i in operator.outputs),
        )
        for operator in graph.operators
        if operator.outputs is not None and len(operator.outputs)
    ]
