"""The grid of symmetric int8 weights: the scales that the quantizers of this toolkit find, and weights put on them.

A float weight that is a multiple of its scale is quantized without an error. The largest weight of each scale stays
where it is, so the same scale is found again.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.quantize import Samples
from compress.quantize.litert_compact import write_model
from compress.quantize.litert_model import read_model, require_float
from compress.repair import Repaired
from compress.repair.litert_layers import constant, kernel_of, layers_of, put_constant, put_kernel
from compress.repair.moments import Moments, moments_of
from edge.errors import CheckFailed
from edge.report import Skipped

Doubles = npt.NDArray[np.float64]
LARGEST = 127
# Of E[x^2]: below is what the rounding of float32 activations and of these sums leaves of a constant.
STILL = 1e-9


def scales_of(kernel: npt.NDArray[np.floating], *, per_channel: bool) -> Doubles:
    """The largest |w| over 127, as [groups, outputs]: one an output, or the same for all."""
    largest = np.abs(kernel).max(axis=2) if per_channel else np.full(kernel.shape[:2], np.abs(kernel).max())
    return np.asarray(np.maximum(largest, np.finfo(np.float32).tiny), np.float64) / LARGEST


def nearest(kernel: Doubles, scales: Doubles) -> Doubles:
    """Weights [groups, outputs, k], each at the nearest multiple of its scale [groups, outputs]."""
    step = scales[..., None]
    return np.asarray(np.clip(np.rint(kernel / step), -LARGEST, LARGEST) * step)


def put_on_grid(
    model: bytes,
    calibration: Samples,
    rounding: Callable[[Doubles, Doubles, Moments, bool], tuple[Doubles, float]],
    name: str,
    *,
    per_channel: bool,
) -> Repaired:
    """Round the weights of every layer, and take the mean of what that does to its outputs out of its bias.

    Weights whose input is the same in all samples become 0 first: the bias takes all of it.

    `rounding` gives weights and a figure for weights, scales, moments, and whether there is a bias.

    Raises:
        BadModel: damaged or quantized already.
        BadData: the samples do not fit the inputs, or there are none.
        CheckFailed: there is no layer to treat.

    """
    parsed = read_model(model)
    require_float(parsed)
    layers, skipped = layers_of(parsed)
    moments = moments_of(model, layers, calibration) if layers else {}
    unseen = [layer.name for layer in layers if layer.name not in moments]
    skipped += tuple(Skipped(layer, "the runtime does not show what it reads") for layer in unseen)
    if not moments:
        why = "; ".join(sorted({entry.reason for entry in skipped})) or "it has no weights"
        raise CheckFailed(f"{name} has nothing to treat: {why}", "leave the pass out")
    figures = {}
    for layer in layers:
        if layer.name not in moments:
            continue
        seen = moments[layer.name]
        kernel = kernel_of(parsed, layer).astype(np.float64)
        moving = np.where(_still(seen, biased=layer.bias >= 0)[:, None, :], 0, kernel)
        chosen, figures[layer.name] = rounding(
            moving, scales_of(moving, per_channel=per_channel), seen, layer.bias >= 0
        )
        put_kernel(parsed, layer, chosen.astype(np.float32))
        if layer.bias >= 0:
            _shift_bias(parsed, layer.bias, np.einsum("gok,gk->go", chosen - kernel, seen.mean))
    return Repaired(write_model(parsed), figures, skipped)


def _still(seen: Moments, *, biased: bool) -> npt.NDArray[np.bool_]:
    """Which weights [groups, k] read what never changes, so that a bias can say it; where there is none, only zeros.

    ReLUs that died in training make such channels, and batch normalization with their variance of 0 makes the weights
    behind them huge, which stretches the scale of all others (Sheng et al., "A Quantization-Friendly Separable
    Convolution for MobileNets", 2018, arXiv:1803.08607, section 3).
    """
    power = np.diagonal(seen.second, axis1=1, axis2=2) / seen.n
    spread = power - np.square(seen.mean) if biased else power
    return np.asarray(spread <= STILL * power)


def _shift_bias(parsed: Any, index: int, shift: Doubles) -> None:
    put_constant(parsed, index, (constant(parsed, index) - shift.ravel()).astype(np.float32))
