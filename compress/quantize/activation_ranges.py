"""Ranges of activations over any number of samples in constant memory: exact extremes and an exact histogram.

The histogram has bins of equal width over [-limit, limit]. A value beyond the limit doubles it, which merges the
bins two by two: every count stays exact, nothing is seen twice and no sample is kept.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from compress.quantize.entropy import entropy_threshold
from compress.quantize.percentile import percentile_range
from edge.errors import BadData

Method = Literal["minmax", "entropy", "percentile"]
Range = tuple[float, float]

# NVIDIA counts |x| in 2048 bins; here both signs are counted, in bins of the same width.
BINS = 4096


@dataclass
class ActivationRange:
    """What has been seen of one tensor. `counts` is [BINS] over [-limit, limit]; limit 0 means only zeros so far."""

    name: str
    with_histogram: bool = True
    low: float = np.inf
    high: float = -np.inf
    limit: float = 0.0
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def add(self, values: npt.NDArray[np.floating]) -> None:
        """See one more tensor, of any shape.

        Raises:
            BadData: it holds NaN or infinity.

        """
        if values.size == 0:
            return
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise BadData(
                f"activation {self.name!r} became NaN or infinite on a calibration sample",
                "check the model and the preprocessing of the calibration data",
            )
        self.low, self.high = min(self.low, low), max(self.high, high)
        if self.with_histogram:
            self._count(values, max(-low, high))

    def _count(self, values: npt.NDArray[np.floating], peak: float) -> None:
        if self.limit == 0.0 and peak > 0.0:
            self.limit = peak
            # Zeros seen before the first other value belong into the bin just above zero.
        while peak > self.limit > 0.0:
            self.limit *= 2.0
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.zeros(BINS, np.int64)
            self.counts[BINS // 4 : BINS - BINS // 4] = merged
        if self.limit == 0.0:
            self.counts[BINS // 2] += values.size
            return
        scaled = (np.ravel(values).astype(np.float64) + self.limit) * (BINS / (2.0 * self.limit))
        index = np.minimum(scaled.astype(np.int64), BINS - 1)
        self.counts += np.bincount(index, minlength=BINS)

    def range(self, method: Method) -> Range:
        """The range to quantize over, always with zero inside: minmax, or clipped by the method.

        Raises:
            BadData: nothing has been seen.

        """
        if self.low > self.high:
            raise BadData(f"activation {self.name!r} was never seen", "calibrate with at least one sample")
        low, high = min(self.low, 0.0), max(self.high, 0.0)
        if method == "minmax" or self.limit == 0.0:
            return low, high
        if method == "entropy":
            folded = self.counts[BINS // 2 :] + self.counts[: BINS // 2][::-1]
            threshold = entropy_threshold(folded) * self.limit
            return max(low, -threshold), min(high, threshold)
        clipped = percentile_range(self.counts, self.limit)
        return min(max(low, clipped[0]), 0.0), max(min(high, clipped[1]), 0.0)
