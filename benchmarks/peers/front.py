"""Whether a peer's file lies outside our Pareto front by more than the intervals.

A point (accuracy, cost) is inside a front where some point of the front dominates it weakly (Pareto's order). With
intervals: where one file of ours is not shown to be less accurate, and not shown to cost more. Every point is asked,
not only those of the front: what one that is dominated covers, its dominator covers too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from edge.report import Interval


@dataclass(frozen=True)
class Comparison:
    """One file of ours against one of a peer's.

    `gap` is how much less accurate ours is, in points, on the same examples; `cost` is ours over the peer's (bytes,
    or seconds in one race). An exact ratio has an interval of no width.
    """

    ours: str
    gap: float
    gap_ci95: Interval
    cost: float
    cost_ci95: Interval

    @property
    def as_accurate(self) -> bool:
        """Ours is not shown to be less accurate."""
        return self.gap_ci95[0] <= 0

    @property
    def as_cheap(self) -> bool:
        """Ours is not shown to cost more."""
        return self.cost_ci95[0] <= 1


@dataclass(frozen=True)
class Outside:
    """A peer's point that no file of ours covers, and how far away we are.

    `most_accurate` is our best file that is as cheap, `cheapest` our least that is as accurate; None: there is none.
    """

    most_accurate: Comparison | None
    cheapest: Comparison | None


def outside(comparisons: Sequence[Comparison]) -> Outside | None:
    """None where one file of ours is as accurate and as cheap as the peer's, else what is nearest.

    Raises ValueError: there is nothing to compare with.
    """
    if not comparisons:
        raise ValueError("no file of ours to compare with")
    if any(one.as_accurate and one.as_cheap for one in comparisons):
        return None
    cheap = [one for one in comparisons if one.as_cheap]
    accurate = [one for one in comparisons if one.as_accurate]
    return Outside(
        min(cheap, key=lambda one: one.gap, default=None),
        min(accurate, key=lambda one: one.cost, default=None),
    )
