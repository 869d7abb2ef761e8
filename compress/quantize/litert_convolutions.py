"""Few-bit weights for the convolutions of a .tflite, rounded with error feedback.

A convolution whose outputs read at least 32 values each becomes int4 with one scale an output: LiteRT runs it on
activations that it quantizes to int8 while running. Depthwise and other small kernels are few bytes and lose most by
four bits, so they become int8, which LiteRT turns back into floats once.
"""

from typing import Any, Literal

import numpy as np

from compress.quantize import Samples
from compress.quantize.litert_integers import dequantize_first, store_integers
from compress.quantize.litert_model import weighted_operators
from compress.quantize.rounding import round_with_feedback
from compress.repair.litert_layers import constant, kernel_of, layers_of, put_constant
from compress.repair.moments import moments_of
from edge.report import Skipped

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
FEWEST = 32


def quantize_convolutions(model: Any, source: bytes, calibration: Samples | None, bits: int = 4) -> tuple[Skipped, ...]:
    """Treat the convolutions of `model` in place; those left float are named.

    `model` may have other layers quantized; `source` is the same model all in float, in which `calibration` shows what
    each layer reads. Then the bias of a layer takes up the mean of what rounding does to its outputs. Without it the
    scales are those of least square error. Fewer `bits` than 4 are stored in 4 all the same, and pack smaller.

    Raises:
        BadData: the samples do not fit the inputs, or there are none.

    """
    kinds = {operator.name: operator.kind for operator in weighted_operators(model)}
    layers, skipped = layers_of(model)
    layers = [layer for layer in layers if layer.operator.kind in CONVOLUTIONS]
    moments = moments_of(source, layers, calibration) if calibration is not None else {}
    # from the last, since a DEQUANTIZE moves the operations behind it
    for layer in layers[::-1]:
        kernel, seen = kernel_of(model, layer), moments.get(layer.name)
        stored: Literal[4, 8] = 8 if layer.depthwise or kernel.shape[2] < FEWEST else 4
        second = None if seen is None else seen.covariance() if layer.bias >= 0 else seen.second / seen.n
        integers, scales = round_with_feedback(kernel, second, 127 if stored == 8 else 2 ** (bits - 1) - 1)
        if seen is not None and layer.bias >= 0:
            change = integers * scales[..., None].astype(np.float64) - kernel
            shift = np.einsum("gok,gk->go", change, seen.mean).ravel()
            put_constant(model, layer.bias, (constant(model, layer.bias) - shift).astype(np.float32))
        ordered = integers.transpose(2, 0, 1) if layer.depthwise else integers
        axis = 3 if layer.depthwise else 0
        store_integers(model, layer.operator.weights, ordered, scales, axis=axis, bits=stored)
        if stored == 8:
            dequantize_first(model, layer.operator.weights)
    return tuple(entry for entry in skipped if kinds.get(entry.what) in CONVOLUTIONS)
