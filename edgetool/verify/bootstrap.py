"""Studentized (bootstrap-t) bounds of any statistic that also gives the influence of every example.

Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, sections 12.5 and 15; standard errors by the
infinitesimal jackknife, recomputed in every resample, which makes one-sided bounds second-order accurate (Hall,
"The Bootstrap and Edgeworth Expansion", 1992). Percentile and BCa bounds let a model at the limit pass 7 to 20 %
of the time on the settings of benchmarks/gate_calibration.py.

Two guards keep the bound from being too small where resampling cannot know better:
- it is never below the normal-theory bound of the same standard error;
- where fewer than `FEW` units differ at all, the units not seen to differ may: their share is bounded by Clopper and
  Pearson (3/n where none differs, the "rule of three"), each with the largest influence that an example has.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import comb
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from edge.errors import BadData
from edge.report import Interval
from edgetool.metrics.metric import Floats, Statistic

# (1,999 + 1) x 5 % and x 2.5 % are whole, so that both bounds are order statistics.
RESAMPLES = 1999
# Below this many differing units a resample holds too few kinds of difference for its quantiles to mean anything
# (found by benchmarks/gate_calibration.py: F1 with 2 to 20 differing examples).
FEW = 20
# Weights are made in chunks of about this many numbers: they stay in the processor's cache.
CHUNK = 1 << 17

Groups = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Bounds:
    """A statistic's value, its one-sided 95 % upper bound, its two-sided 95 % interval, and its one-sided upper bound
    of the level that was asked for.
    """

    value: float
    upper95: float
    ci95: Interval
    upper: float


@lru_cache(maxsize=512)
def _counts(units: int, rows: int, seed: int, chunk: int) -> npt.NDArray[np.uint8]:
    """How often every unit is drawn, [rows, units]. Kept, since the candidates of a run share their examples."""
    rng = np.random.default_rng((seed, chunk))
    drawn = rng.integers(0, units, size=(rows, units), dtype=np.uint32)
    counts = np.empty((rows, units), np.uint8)
    for row in range(rows):
        counts[row] = np.minimum(np.bincount(drawn[row], minlength=units), np.iinfo(np.uint8).max)
    return counts


def _resamples(units: int, resamples: int, seed: int) -> Iterator[npt.NDArray[np.float32]]:
    rows = max(1, CHUNK // units)
    for chunk, start in enumerate(range(0, resamples, rows)):
        yield _counts(units, min(rows, resamples - start), seed, chunk).astype(np.float32)


@dataclass(frozen=True)
class _Units:
    """What is resampled: examples, or whole groups of them."""

    order: npt.NDArray[np.int64] | None
    starts: npt.NDArray[np.int64] | None
    index: npt.NDArray[np.int64] | None
    n: int

    @classmethod
    def of(cls, n: int, groups: Groups | None) -> "_Units":
        if groups is None:
            return cls(None, None, None, n)
        if groups.shape != (n,):
            raise BadData(f"groups have shape {groups.shape}, expected ({n},)")
        names, index = np.unique(groups, return_inverse=True)
        if len(names) < 2:
            raise BadData(
                f"all {n} examples are of one group: nothing says how groups differ",
                "give test data of several people, speakers or sources",
            )
        order = np.argsort(index, kind="stable")
        return cls(order, np.searchsorted(index[order], np.arange(len(names))), index, len(names))

    def to_examples(self, counts: Floats) -> Floats:
        return counts if self.index is None else counts[:, self.index]

    def summed(self, influence: Floats) -> Floats:
        """Influences of examples [B, n] to sums over units [B, units]."""
        if self.order is None or self.starts is None:
            return influence
        sums: Floats = np.add.reduceat(influence[:, self.order], self.starts, axis=1)
        return sums

    def heaviest(self) -> float:
        """The size of the largest unit over the average size."""
        if self.index is None:
            return 1.0
        sizes = np.bincount(self.index)
        return float(sizes.max() / sizes.mean())

    def count(self, marked: npt.NDArray[np.bool_]) -> int:
        """How many units hold a marked example."""
        return int(marked.sum()) if self.index is None else len(np.unique(self.index[marked]))


def _unlike_most(influence: Floats) -> int:
    """How many influences are not the most common one, up to rounding."""
    size = float(np.abs(influence).max())
    if size == 0:
        return 0
    counts = np.unique(np.round(influence / size, 9), return_counts=True)[1]
    return len(influence) - int(counts.max())


def _standard_errors(counts: Floats, influence: Floats, n_examples: npt.NDArray[np.float64]) -> Floats:
    units = counts.shape[1]
    squares = np.einsum("bu,bu->b", influence * influence, counts).astype(np.float64)
    errors: Floats = np.sqrt(squares * units / (units - 1)) / n_examples
    return errors


def bounds(
    statistic: Statistic,
    n: int,
    groups: Groups | None = None,
    seed: int = 0,
    differing: npt.NDArray[np.bool_] | None = None,
    largest: float = 1.0,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> Bounds:
    """Bootstrap-t bounds of `statistic` on n examples, resampling whole groups where `groups` [n] are given.

    `differing` [n] marks the examples that can move the statistic away from where it would be without any; where it
    is not given, those whose influence is not the most common one. `largest` is how far one example can move the
    statistic, times n: what an example not seen to differ counts. `level` is that of `Bounds.upper`.

    Raises:
        BadData: fewer than 2 examples or groups, or the statistic is undefined in more than half of the resamples.

    """
    if n < 2:
        raise BadData(f"{n} example says nothing about the next one", "give a test split with more examples")
    units = _Units.of(n, groups)
    observed, influences = statistic(np.ones((1, n)))
    value, own = float(observed[0]), units.summed(influences)
    error = float(_standard_errors(np.ones((1, units.n)), own, np.array([float(n)]))[0])
    studentized = []
    for counts in _resamples(units.n, resamples, seed):
        weights = units.to_examples(counts)
        values, influence = statistic(weights)
        errors = _standard_errors(counts, units.summed(influence), weights.sum(axis=1, dtype=np.float64))
        # A resample of (almost) equal units has next to no spread: a tenth of the real one keeps the ratio finite.
        with np.errstate(divide="ignore", invalid="ignore"):
            studentized.append((values - value) / np.maximum(errors, error / 10))
    ratios = np.concatenate(studentized)
    ratios = np.sort(ratios[np.isfinite(ratios)])
    differ = units.count(differing) if differing is not None else _unlike_most(own[0])
    few = differ < FEW or error <= 1e-12 * largest
    if not few and len(ratios) < resamples / 2:
        raise BadData(
            f"the metric is undefined in {resamples - len(ratios)} of {resamples} resamples of {units.n} examples",
            "give a test split with more examples of every class",
        )

    def reach(level: float, sign: int) -> float:
        """How far the bound of this one-sided level lies from the value; sign +1 above, -1 below."""
        far = NormalDist().inv_cdf(level) * error
        if not few:
            rank = round((1 - level) * (len(ratios) + 1)) - 1
            rank = min(max(rank, 0), len(ratios) - 1)
            quantile = ratios[rank] if sign > 0 else ratios[len(ratios) - 1 - rank]
            far = max(far, -sign * float(quantile) * error)
        else:
            unseen = _share_upper(differ, units.n, level) - differ / units.n
            far = max(far, unseen * largest * units.heaviest())
        return far

    ci95 = (value - reach(0.975, -1), value + reach(0.975, 1))
    return Bounds(value, value + reach(0.95, 1), ci95, value + reach(level, 1))


def _share_upper(seen: int, n: int, level: float) -> float:
    """The upper bound of a proportion of which `seen` of n were observed (Clopper and Pearson, Biometrika 26, 1934)."""
    if seen >= n:
        return 1.0
    low, high = seen / n, 1.0
    for _ in range(60):
        p = (low + high) / 2
        at_most = sum(comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(seen + 1))
        low, high = (p, high) if at_most > 1 - level else (low, p)
    return high
