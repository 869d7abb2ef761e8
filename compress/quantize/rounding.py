"""Few-bit weights with error feedback: the integers and scales whose outputs, not weights, are nearest.

A layer computes W x, so integers Q and scales s cost (sQ - W) E[x x'] (sQ - W)'. From rounding to nearest, each
integer in turn takes the value that is best given all the others (Behdin et al., "QuantEase: Optimization-based
Quantization for Language Models", 2023, arXiv:2309.01885, section 3), and the scale is fitted anew to the integers by
least squares. No step makes the cost larger. Below four bits the first scale is not that of the largest weight, but the
one of least square error, which clips.
"""

import numpy as np
import numpy.typing as npt

from compress.repair.adaround import damped

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
_SHRINK = np.linspace(1.0, 0.4, 25)  # a scale may clip the largest weights: so much of it is tried
_ROUNDS, _SWEEPS = 3, 4
FOUR_BITS = 7


def round_with_feedback(
    kernel: npt.NDArray[np.floating], second: Doubles | None, largest: int
) -> tuple[npt.NDArray[np.int8], Floats]:
    """Weights [groups, outputs, k] -> integers -largest … largest of the same shape and scales [groups, outputs].

    `second` [groups, k, k] is E[x x'] of what the layer reads; without it every input counts alike, which leaves the
    scale of least square error and rounding to nearest.
    """
    weights = kernel.astype(np.float64)
    widest = np.maximum(np.abs(weights).max(axis=2), np.finfo(np.float32).tiny * 2**24) / largest
    clips = second is None or largest < FOUR_BITS
    scales = _least_square(weights, widest, largest) if clips else widest
    integers = _nearest(weights, scales, largest)
    if second is not None:
        cost = damped(second)
        for _ in range(_ROUNDS):
            integers = _descend(weights, integers, scales, cost, largest)
            scales = _fitted(weights, integers, scales, cost)
    # the integers are of these float32 scales and no others
    return integers.astype(np.int8), scales.astype(np.float32)


def _nearest(weights: Doubles, scales: Doubles, largest: int) -> Doubles:
    return np.asarray(np.clip(np.rint(weights / scales[..., None]), -largest, largest))


def _least_square(weights: Doubles, widest: Doubles, largest: int) -> Doubles:
    scales, least = widest, np.full(widest.shape, np.inf)
    for shrink in _SHRINK:
        tried = widest * shrink
        error = np.square(_nearest(weights, tried, largest) * tried[..., None] - weights).sum(axis=2)
        scales, least = np.where(error < least, tried, scales), np.minimum(error, least)
    return scales


def _descend(weights: Doubles, integers: Doubles, scales: Doubles, second: Doubles, largest: int) -> Doubles:
    integers = integers.copy()
    slope = (integers * scales[..., None] - weights) @ second
    for _ in range(_SWEEPS):
        changed = False
        for place in range(weights.shape[2]):
            own = second[:, place, place][:, None]
            # along one integer the cost is a parabola: the best is the integer nearest to its lowest point
            best = np.clip(np.rint(integers[..., place] - slope[..., place] / (own * scales)), -largest, largest)
            moved = best - integers[..., place]
            if moved.any():
                changed = True
                integers[..., place] = best
                slope += (moved * scales)[..., None] * second[:, None, place, :]
        if not changed:
            break
    return integers


def _fitted(weights: Doubles, integers: Doubles, scales: Doubles, second: Doubles) -> Doubles:
    """The least-squares scale of each output; where all integers are 0, or it would turn around, the old one."""
    shaped = integers @ second
    own, along = (shaped * integers).sum(axis=2), (shaped * weights).sum(axis=2)
    fitted = np.divide(along, own, out=scales.copy(), where=own > 0)
    return np.asarray(np.where(fitted > 0, fitted, scales))
