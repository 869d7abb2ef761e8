"""What a set of timed calls says: percentiles with intervals that know how the calls hang together.

Calls of one process are alike for as long as it lives (decision 4), so a launch is the unit that is resampled:
percentile bootstrap over launches, Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13. With
one launch only, the calls are taken as independent and the interval is that of order statistics (Conover, "Practical
Nonparametric Statistics", 1999, section 3.2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from edge.report import Interval

Seconds = npt.NDArray[np.float64]

RESAMPLES = 1000
SKETCH = 101  # quantiles 0, 0.01, ..., 1: what a picture of the distribution needs
PERCENTILES = (50, 90, 95, 99)
NORMAL_95 = 1.959964


@dataclass(frozen=True)
class Percentile:
    """One percentile with its 95 % interval, in milliseconds."""

    percent: int
    ms: float
    ci95: Interval


@dataclass(frozen=True)
class Latency:
    """Time of one inference. `sketch_ms` are the quantiles 0 %, 1 %, ..., 100 %; `unit` is what was resampled."""

    n: int
    launches: int
    seconds: float
    min_ms: float
    mean_ms: float
    std_ms: float
    max_ms: float
    percentiles: tuple[Percentile, ...]
    sketch_ms: tuple[float, ...]
    unit: str

    def at(self, percent: int) -> Percentile:
        """The percentile `percent`, one of 50, 90, 95 and 99."""
        return next(one for one in self.percentiles if one.percent == percent)


def latency(launches: Sequence[Seconds], seed: int = 0) -> Latency:
    """The summary of all calls of all launches, each [calls] in seconds."""
    calls = np.concatenate(launches) * 1e3
    bounds = _over_launches(launches, seed) if len(launches) > 1 else _over_calls(calls)
    values = np.percentile(calls, PERCENTILES)
    return Latency(
        n=len(calls),
        launches=len(launches),
        seconds=float(calls.sum() / 1e3),
        min_ms=float(calls.min()),
        mean_ms=float(calls.mean()),
        std_ms=float(calls.std(ddof=1)) if len(calls) > 1 else 0.0,
        max_ms=float(calls.max()),
        percentiles=tuple(
            # a percentile of few calls may lie a hair outside its resampled bounds
            Percentile(percent, float(value), (min(low, float(value)), max(high, float(value))))
            for percent, value, (low, high) in zip(PERCENTILES, values, bounds, strict=True)
        ),
        sketch_ms=tuple(float(q) for q in np.percentile(calls, np.linspace(0, 100, SKETCH))),
        unit="launches" if len(launches) > 1 else "calls",
    )


def _over_launches(launches: Sequence[Seconds], seed: int) -> list[Interval]:
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(launches), (RESAMPLES, len(launches)))
    # a weighted percentile of the sorted pool is the percentile of the resampled calls, without copying them
    values = np.concatenate(launches) * 1e3
    owner = np.repeat(np.arange(len(launches)), [len(one) for one in launches])
    order = np.argsort(values, kind="stable")
    values, owner = values[order], owner[order]
    found = np.empty((RESAMPLES, len(PERCENTILES)))
    for row, picks in enumerate(drawn):
        weight = np.cumsum(np.bincount(picks, minlength=len(launches))[owner])
        at = np.searchsorted(weight, np.asarray(PERCENTILES) / 100 * weight[-1])
        found[row] = values[np.minimum(at, len(values) - 1)]
    low, high = np.quantile(found, (0.025, 0.975), axis=0)
    return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def _over_calls(calls: Seconds) -> list[Interval]:
    """Order statistics around the percentile, by the normal approximation of the binomial."""
    ordered, n = np.sort(calls), len(calls)
    bounds = []
    for percent in PERCENTILES:
        share = percent / 100
        reach = NORMAL_95 * sqrt(n * share * (1 - share))
        low = int(np.clip(np.floor(n * share - reach), 0, n - 1))
        high = int(np.clip(np.ceil(n * share + reach), 0, n - 1))
        bounds.append((float(ordered[low]), float(ordered[high])))
    return bounds
