"""Learned step size quantization: the maths, in plain numpy.

Esser et al., "Learned step size quantization", ICLR 2020 (arXiv:1902.08153). Equations 1 and 2 quantize,
v_bar = round(clip(v / s, -Q_N, Q_P)) and v_hat = v_bar * s; equation 3 is the gradient of the step s, equation 5 that
of v. Here v_bar is shifted by a fixed zero point, as integer activations are (Jacob et al., CVPR 2018, equation 1).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Integers = npt.NDArray[np.int32]

# The paper starts from 2 <|v|> / sqrt(Q_P), which suits training from scratch for 90 epochs. A short fine-tune starts
# from the step of least squared error, looked for on this many fractions of the range.
FRACTIONS = np.linspace(0.2, 1.0, 41)
SEARCHED = 20_000  # values at most: the error's mean is stable long before


@dataclass(frozen=True)
class Grid:
    """The numbers that an integer tensor stands for: scale * (q - zero_point), low <= q <= high.

    `narrow` leaves out the lowest integer, as the integer kernels ask of weights.
    """

    scale: float
    zero_point: int = 0
    bits: int = 8
    narrow: bool = False

    def __post_init__(self) -> None:
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"a step must be positive and finite, not {self.scale}")
        if not self.low <= self.zero_point <= self.high:
            raise ValueError(f"zero point {self.zero_point} is outside of {self.low} to {self.high}")

    @property
    def low(self) -> int:
        """The lowest integer."""
        return -(1 << (self.bits - 1)) + self.narrow

    @property
    def high(self) -> int:
        """The highest integer."""
        return (1 << (self.bits - 1)) - 1


def quantize(values: Floats, grid: Grid) -> Integers:
    """The nearest integers of the grid; ties go to even, values outside to its ends."""
    moved = np.rint(np.asarray(values, np.float64) / grid.scale) + grid.zero_point
    held: Integers = np.clip(moved, grid.low, grid.high).astype(np.int32)
    return held


def dequantize(integers: npt.NDArray[Any], grid: Grid) -> npt.NDArray[np.float32]:
    """What the integers stand for."""
    return ((np.asarray(integers, np.float64) - grid.zero_point) * grid.scale).astype(np.float32)


def fake_quantize(values: Floats, grid: Grid) -> npt.NDArray[np.float32]:
    """Equations 1 and 2: the nearest real numbers of the grid."""
    return dequantize(quantize(values, grid), grid)


def gradients(values: Floats, grid: Grid, upstream: Floats) -> tuple[npt.NDArray[np.float64], float]:
    """The gradients by the values (equation 5) and by the step (equation 3), for the gradient of what came out.

    Inside of the grid the step's is round(v/s) - v/s, outside it is the end of the grid; the values' is 1 and 0.
    """
    u = np.asarray(values, np.float64) / grid.scale
    low, high = grid.low - grid.zero_point, grid.high - grid.zero_point
    inside = (u >= low) & (u <= high)
    by_step = np.where(inside, np.rint(u) - u, np.clip(u, low, high))
    return np.where(inside, upstream, 0.0), float(np.sum(by_step * upstream))


def first_grid(values: Floats, *, symmetric: bool, bits: int = 8) -> Grid:
    """The grid of least squared error for some values: where training starts.

    A symmetric grid has zero point 0 and is narrow; others have the zero point of their range for good.
    """
    flat = np.asarray(values, np.float64).ravel()
    low, high = min(0.0, float(flat.min(initial=0.0))), max(0.0, float(flat.max(initial=0.0)))
    levels = 2**bits - 1
    if low == high:
        return Grid(2.0 ** -(bits - 1), 0, bits, narrow=symmetric)
    if symmetric:
        widest = Grid(max(-low, high) / (levels // 2), 0, bits, narrow=True)
    else:
        scale = (high - low) / levels
        zero_point = int(np.clip(np.rint(-(2 ** (bits - 1)) - low / scale), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1))
        widest = Grid(scale, zero_point, bits)
    flat = flat[:: max(1, len(flat) // SEARCHED)]
    tried = [Grid(widest.scale * f, widest.zero_point, bits, widest.narrow) for f in FRACTIONS]
    errors = [float(np.mean(np.square(fake_quantize(flat, grid) - flat))) for grid in tried]
    return tried[int(np.argmin(errors))]
