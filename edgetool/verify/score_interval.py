"""Intervals for proportions that hold their level at small counts and never have zero width.

Paired difference: Tango, "Equivalence test and confidence interval for the difference in proportions for the
paired-sample design", Statistics in Medicine 17, 1998. Single proportion: Wilson, "Probable inference, the law of
succession, and statistical inference", JASA 22, 1927.
"""

from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.report import Interval

# Enough halvings of [-1, 1] to reach the resolution of a float64.
HALVINGS = 60

Numbers = npt.NDArray[np.float64]


def wilson(successes: float, n: float, level: float = 0.95) -> Interval:
    """The two-sided score interval of a proportion: (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n)."""
    z = NormalDist().inv_cdf(0.5 + level / 2)
    p = successes / n
    centre, half = p + z * z / (2 * n), z * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)))
    return max(0.0, (centre - half) / (1 + z * z / n)), min(1.0, (centre + half) / (1 + z * z / n))


def score(worse: Any, better: Any, n: Any, difference: Any) -> Numbers:
    """Tango's statistic (b - c - n d) / √(n (2 q + d (1 - d))): standard normal where the difference is d.

    b = `worse` and c = `better` are the discordant counts, d = `difference` of the proportions (b - c) / n, q the
    maximum-likelihood probability of c where the difference is d. The arguments broadcast.
    """
    b, c, n, d = (np.asarray(x, dtype=np.float64) for x in (worse, better, n, difference))
    linear = -b - c + (2 * n - b + c) * d
    root = np.sqrt(np.maximum(linear**2 + 8 * n * c * d * (1 - d), 0.0))
    q = (root - linear) / (4 * n)
    variance = n * (2 * q + d * (1 - d))
    distance = b - c - n * d
    with np.errstate(divide="ignore", invalid="ignore"):
        z: Numbers = distance / np.sqrt(np.maximum(variance, 0.0))
    return np.where(distance == 0, 0.0, z)


def upper_bound(worse: Any, better: Any, n: Any, level: float = 0.95) -> Numbers:
    """The one-sided upper bound of the difference (b - c) / n: where `score` is -z. The arguments broadcast."""
    z = NormalDist().inv_cdf(level)
    b, c, n = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (worse, better, n)))
    low, high = (b - c) / n, np.ones(b.shape)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        inside = score(b, c, n, middle) > -z
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return high


def interval(worse: int, better: int, n: int, level: float = 0.95) -> Interval:
    """The two-sided interval of the paired difference (worse - better) / n."""
    one_sided = 0.5 + level / 2
    return -float(upper_bound(better, worse, n, one_sided)), float(upper_bound(worse, better, n, one_sided))
