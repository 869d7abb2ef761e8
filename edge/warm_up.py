"""Running a model until its time is stationary: clocks, caches and thread pools have settled."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge.runtime_process import RuntimeProcess

# warm-up ends when the medians of this many stretches in a row agree this well
STATIONARY_STRETCHES = 3
STATIONARY_WITHIN = 0.03


@dataclass(frozen=True)
class WarmUp:
    """`calls` made, the median of the last stretch, and whether the last stretches agreed."""

    calls: int
    median_s: float
    stationary: bool


def warm_up(
    process: RuntimeProcess, *, stretch_seconds: float, min_calls: int, max_seconds: float, slowdown: float = 0.0
) -> WarmUp:
    """Run the loaded model until its median is stationary, or for `max_seconds`."""
    medians: list[float] = []
    calls = 0
    end = time.monotonic() + max_seconds
    while len(medians) < STATIONARY_STRETCHES or (time.monotonic() < end and not _stationary(medians)):
        stretch = process.time(seconds=stretch_seconds, min_calls=min_calls, slowdown=slowdown)
        medians.append(float(np.median(stretch)))
        calls += len(stretch)
    return WarmUp(calls, medians[-1], _stationary(medians))


def _stationary(medians: Sequence[float]) -> bool:
    last = medians[-STATIONARY_STRETCHES:]
    return max(last) <= min(last) * (1 + STATIONARY_WITHIN)
