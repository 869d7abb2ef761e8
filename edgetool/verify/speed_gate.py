"""The speed gate: the ratio of two models' median times from interleaved blocks, and bounds of percentiles.

The unit of resampling is a pair of blocks, one of each model from the same round, so what slows the machine down for
both cancels; the median of a block, and the median over blocks, ignore single spikes. What stays the same between two
blocks is invisible to the interval: where a process is faster or slower for as long as it lives, a block must be all
calls of one process (`edgetool.verify.race` does that). Percentile bootstrap: Efron and
Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import lgamma, log

import numpy as np
import numpy.typing as npt

from edge.errors import BadRecipe
from edge.report import Interval, SpeedVerdict

RESAMPLES = 9999
# Design section 6: a dead band of 3 %, and what still counts as not slower.
FASTER_BELOW, SLOWER_ABOVE, NOT_SLOWER_BELOW = 0.97, 1.03, 1.05
# The median lies between the least and the largest of 8 blocks with 99.2 %, of 7 with only 98.4 %.
FEWEST_BLOCKS = 8

Seconds = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SpeedRatio:
    """Candidate time over baseline time (below 1 is faster), with bootstrap intervals over pairs of blocks."""

    value: float
    ci95: Interval
    ci99: Interval
    verdict: SpeedVerdict


def ratio(candidate: Sequence[Seconds] | Seconds, baseline: Sequence[Seconds] | Seconds, seed: int = 0) -> SpeedRatio:
    """The ratio of median times, from one entry a block: the calls of the block [calls], or their median, in seconds.

    Block i of both comes from the same round of the race. Fewer than 8 blocks are always `inconclusive`.

    Raises:
        BadRecipe: the two have no blocks, or not the same number of them.

    """
    if len(candidate) != len(baseline) or len(candidate) == 0:
        raise BadRecipe(f"{len(candidate)} blocks of the candidate and {len(baseline)} of the baseline are no pairs")
    pairs = np.array([[float(np.median(block)) for block in blocks] for blocks in (candidate, baseline)])
    drawn = np.random.default_rng(seed).integers(0, len(candidate), size=(RESAMPLES, len(candidate)))
    resampled = np.median(pairs[0][drawn], axis=1) / np.median(pairs[1][drawn], axis=1)
    low99, low95, high95, high99 = (float(q) for q in np.quantile(resampled, (0.005, 0.025, 0.975, 0.995)))
    value = float(np.median(pairs[0]) / np.median(pairs[1]))
    verdict = _verdict(low99, high99) if len(candidate) >= FEWEST_BLOCKS else "inconclusive"
    return SpeedRatio(value, (low95, high95), (low99, high99), verdict)


def _verdict(low99: float, high99: float) -> SpeedVerdict:
    if high99 < FASTER_BELOW:
        return "faster"
    if low99 > SLOWER_ABOVE:
        return "slower"
    return "not_slower" if high99 < NOT_SLOWER_BELOW else "inconclusive"


def percentile_upper(latencies: Seconds, fraction: float, level: float = 0.95) -> float:
    """The one-sided upper bound of a percentile: the order statistic that is above it with probability `level`.

    The k-th of n sorted calls is above the percentile p where Binomial(n, p) gives less than k. Conover, "Practical
    Nonparametric Statistics", 1999, section 3.2. `latencies` [n], the result in their unit.

    Raises:
        BadRecipe: too few calls: even the slowest is not above the percentile with that probability.

    """
    n = len(latencies)
    if n == 0 or 1 - fraction**n < level:
        fewest = int(np.ceil(np.log(1 - level) / np.log(fraction)))
        raise BadRecipe(
            f"{n} timed calls cannot bound p{fraction * 100:g}: {fewest} are needed", "race more or longer blocks"
        )
    successes = np.arange(n)
    choose = np.array([lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) for k in range(n)])
    fewer = np.cumsum(np.exp(choose + successes * log(fraction) + (n - successes) * log(1 - fraction)))
    k = int(np.searchsorted(fewer, level)) + 1
    return float(np.partition(latencies, k - 1)[k - 1])


def p95_upper(latencies: Seconds) -> float:
    """The one-sided 95 % upper bound of p95; at least 59 calls. See `percentile_upper`."""
    return percentile_upper(latencies, 0.95)
