"""The accuracy gate: a paired non-inferiority test on the same examples (design section 6).

A candidate passes where the one-sided 95 % upper bound of its drop is within the limit. 0/1 outcomes go through
Tango's paired score interval, everything else (and everything in groups) through a paired bootstrap-t.
Where k candidates are confirmed on the same examples, each is tested at 0.05/k, so that the chance that any of them
passes whose true drop is over the limit stays within 0.05 (Bonferroni; Dunn, "Multiple comparisons among means",
JASA 56, 1961).
benchmarks/gate_calibration.py measures how often a model whose true drop equals the limit passes.
"""

import math
from statistics import NormalDist

import numpy as np

from edge.errors import BadData
from edge.report import Drop, DropVerdict, Interval
from edgetool.metrics import Metric
from edgetool.metrics.metric import Array, Floats, Statistic
from edgetool.verify import bootstrap, score_interval
from edgetool.verify.bootstrap import Groups

SCORE = "paired score interval (Tango 1998)"
BOOTSTRAP = "paired bootstrap-t"
ERROR = 0.05
# No test set is larger: beyond it a drop that all but equals the limit counts as one that no number would decide.
MOST_EXAMPLES = 10**9
CLUSTERED = "paired bootstrap-t over groups"


class _PairedDrop:
    """The drop between two models on the same weighted examples, as a statistic of the weights."""

    def __init__(self, metric: Metric, baseline: Statistic, candidate: Statistic) -> None:
        self._baseline, self._candidate = baseline, candidate
        self._sign = 1.0 if metric.direction == "higher" else -1.0
        self._relative = metric.drop_unit == "relative"
        self.terms = np.concatenate([baseline.terms, candidate.terms], axis=1)

    def __call__(self, weights: Floats) -> tuple[Floats, Floats]:
        before, influence = self._baseline(weights)
        after, after_influence = self._candidate(weights)
        # In place: these arrays are the gate's working set.
        if not self._relative:
            influence -= after_influence
            influence *= weights.dtype.type(self._sign)
            return self._sign * (before - after), influence
        with np.errstate(divide="ignore", invalid="ignore"):
            quotient = after / before
            influence *= quotient.astype(weights.dtype)[:, None]
            influence -= after_influence
            influence *= (self._sign / before).astype(weights.dtype)[:, None]
        return self._sign * (1 - quotient), influence


def interval(
    metric: Metric, outputs: Array, labels: Array, groups: Groups | None = None, seed: int = 0
) -> tuple[float, Interval]:
    """A model's metric with its two-sided 95 % interval: outputs [n, ...], labels [n, ...], groups [n].

    0/1 outcomes without groups: Wilson's interval; else the bootstrap-t.

    Raises:
        BadData: outputs, labels or groups do not fit.

    """
    statistic = metric.statistic(outputs, labels)
    n = len(labels)
    if metric.kind == "binary" and groups is None:
        right = float(metric.value(outputs, labels)) * n
        return right / n, score_interval.wilson(round(right), n)
    value = metric.value(outputs, labels)
    largest = max(1.0 if metric.drop_unit == "points" else abs(value), _range_of_influence(statistic, n))
    found = bootstrap.bounds(statistic, n, groups, seed, largest=largest)
    low, high = found.ci95
    if metric.direction == "lower" or metric.drop_unit == "points":
        low = max(0.0, low)
    if metric.drop_unit == "points" and metric.direction == "higher":
        high = min(1.0, high)
    return value, (low, high)


def drop(
    metric: Metric,
    baseline_outputs: Array,
    candidate_outputs: Array,
    labels: Array,
    max_drop: float,
    groups: Groups | None = None,
    seed: int = 0,
    confirmed: int = 1,
) -> Drop:
    """How much worse the candidate is on the same examples, and whether that is proven to be within `max_drop`.

    Outputs [n, ...] of both models, labels [n, ...], groups [n] where examples hang together (persons, speakers):
    whole groups are resampled then. `max_drop` is in the unit of the metric's drop, as a fraction (or dB).
    `n_needed` scales these rates to more examples; None where no number of them would do. `confirmed` is how many
    candidates are confirmed on these examples, this one included.

    Raises:
        BadData: outputs, labels, groups or the limit do not fit.

    """
    if not math.isfinite(max_drop):
        raise BadData(f"the limit of the drop is {max_drop}, not a number", "0.01 is one point, or one percent")
    n, level = len(labels), 1 - ERROR / confirmed
    before, after = metric.statistic(baseline_outputs, labels), metric.statistic(candidate_outputs, labels)
    baseline, candidate = metric.scores(baseline_outputs, labels), metric.scores(candidate_outputs, labels)
    if metric.kind == "binary" and groups is None and baseline is not None and candidate is not None:
        worse, better = int((baseline > candidate).sum()), int((candidate > baseline).sum())
        value = (worse - better) / n
        upper, ci95 = float(score_interval.upper_bound(worse, better, n)), score_interval.interval(worse, better, n)
        of_all = float(score_interval.upper_bound(worse, better, n, level))
        verdict = _verdict(value, of_all, max_drop)
        needed = _score_n(worse / n, better / n, n, max_drop, level) if verdict == "unresolved" else None
        together = of_all if confirmed > 1 else None
        return Drop(value, metric.drop_unit, upper, ci95, SCORE, n, verdict, needed, confirmed, together)
    start = metric.value(baseline_outputs, labels)
    value = metric.drop(start, metric.value(candidate_outputs, labels))
    # What an example that was not seen to differ may cost: all that one example counts in either model, and at least
    # one example's share of the whole, since a model without any error has no influence to measure it by.
    reach = max(_range_of_influence(before, n), _range_of_influence(after, n))
    largest = max(reach, abs(start)) / abs(start) if metric.drop_unit == "relative" else max(reach, 1.0, abs(start))
    differing = (before.terms != after.terms).any(axis=1)
    found = bootstrap.bounds(_PairedDrop(metric, before, after), n, groups, seed, differing, largest, level=level)
    verdict = _verdict(value, found.upper, max_drop)
    needed = _scaled_n(found.upper - value, max_drop - value, n) if verdict == "unresolved" else None
    method = BOOTSTRAP if groups is None else CLUSTERED
    together = found.upper if confirmed > 1 else None
    return Drop(value, metric.drop_unit, found.upper95, found.ci95, method, n, verdict, needed, confirmed, together)


def _range_of_influence(statistic: Statistic, n: int) -> float:
    return float(np.ptp(statistic(np.ones((1, n)))[1]))


def _verdict(value: float, upper: float, max_drop: float) -> DropVerdict:
    if upper <= max_drop:
        return "pass"
    return "fail" if value > max_drop else "unresolved"


def _score_n(worse: float, better: float, n: int, max_drop: float, level: float) -> int | None:
    """The smallest number of examples at which these rates of discordance would pass; None where none would."""
    low, high = n, 2 * n
    while _score_fails(worse, better, high, max_drop, level):
        if high > MOST_EXAMPLES:
            return None
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _score_fails(worse, better, middle, max_drop, level) else (low, middle)
    return high


def _scaled_n(reach: float, room: float, n: int) -> int | None:
    """The number of examples at which a bound this far from the value, shrinking as 1/√n, would be within the limit."""
    if room <= 0 or n * (reach / room) ** 2 > MOST_EXAMPLES:
        return None
    return max(n + 1, math.ceil(n * (reach / room) ** 2))


def _score_fails(worse: float, better: float, n: int, max_drop: float, level: float) -> bool:
    # The bound is within the limit where the statistic at the limit is at most -z.
    return float(score_interval.score(worse * n, better * n, n, max_drop)) > -NormalDist().inv_cdf(level)
