"""Which trials go on to the race and the test data: few, since each one confirmed there costs certainty."""

from collections.abc import Sequence

import numpy as np

from edge.report import Limits
from edgetool.search.front import knee
from edgetool.search.order import front_of, observed
from edgetool.search.trial import Tried

MOST = 3


def finalists(trials: Sequence[Tried], limits: Limits) -> list[Tried]:
    """The knee of the front within the limits, then its fastest and its smallest: at most three points.

    Where nothing is within the limits, the trials that miss them by least, so that the report can name the nearest.
    """
    points = {one.point for one in observed(trials)}
    longest = {one.point: one for one in sorted(trials, key=lambda one: one.epochs) if one.objectives() is not None}
    made = [longest[point] for point in points if point in longest]
    within = [one for one in made if _excess(one, limits) <= 0]
    if not within:
        return sorted(made, key=lambda one: (_excess(one, limits), one.number))[:1]
    front = front_of(sorted(within, key=lambda one: one.number))
    values = np.array([one.objectives() for one in front], float)
    best = [knee(values), *(int(np.argmin(values[:, k])) for k in range(values.shape[1] - 1, 0, -1))]
    return [front[index] for index in dict.fromkeys(best)][:MOST]


def _excess(one: Tried, limits: Limits) -> float:
    """By how much the worst limit is missed, relative to it; at most 0 where all are met."""
    assert one.drop is not None
    assert one.artifact is not None
    misses = [0.0]
    if limits.max_drop:
        misses.append(one.drop / limits.max_drop - 1)
    if limits.max_size_bytes:
        misses.append(one.artifact.size_bytes / limits.max_size_bytes - 1)
    if limits.max_p95_ms and one.p50_ms is not None:
        misses.append(one.p50_ms / limits.max_p95_ms - 1)
    return max(misses)
