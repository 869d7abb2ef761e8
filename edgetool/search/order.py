"""Which trial comes next: a pure function of those before it, so that a search that was killed asks the same again.

A trial sees only what is at least `LAG` trials old. Up to that many run side by side without changing what is asked,
whatever their number and whoever ends first. Where time is what runs out, points that train are first trained shortly;
the front of those is trained in full, one in `REDUCTION` of them (successive halving without waiting: Li et al., "A
system for massively parallel hyperparameter tuning", MLSys 2020). Where trials are counted, a short one costs as much
as a whole one, so all are whole.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgetool.search.front import nondominated
from edgetool.search.sampling import Observed, suggest
from edgetool.search.space import Point, Space, trained
from edgetool.search.trial import Tried

LAG = 4
WAY = 2  # another number wherever the same trials before would be followed by another one: it names the study
SHORT = 0.34
REDUCTION = 3


@dataclass(frozen=True)
class Asked:
    """A point to try with this fraction of its epochs."""

    point: Point
    epochs: float


def known_to(number: int) -> range:
    """The numbers of the trials that trial `number` knows of."""
    return range(max(0, number - LAG))


def next_trial(space: Space, seen: Sequence[Tried], asked: Sequence[Asked], study: str, *, halve: bool) -> Asked | None:
    """What trial number `len(asked)` tries; None where nothing is left. `halve`: short fits first."""
    promoted = _promotion(seen, asked) if halve else None
    if promoted is not None:
        return promoted
    digest = hashlib.sha256(f"{study}/{len(asked)}".encode()).digest()
    taken = [one.point for one in asked]
    point = suggest(space, observed(seen), taken, int.from_bytes(digest[:4]) % 2**31)
    if point is None:
        return None
    return Asked(point, SHORT if halve and trained(space.sequence(point)) else 1.0)


def observed(seen: Sequence[Tried]) -> list[Observed]:
    """Every point once, with what its longest training gave."""
    longest: dict[Point, Tried] = {}
    for one in seen:
        if one.point not in longest or one.epochs >= longest[one.point].epochs:
            longest[one.point] = one
    return [Observed(point, one.objectives()) for point, one in longest.items()]


def front_of(tried: Sequence[Tried]) -> list[Tried]:
    """The trials that no other beats, in the order of their numbers."""
    made = [one for one in tried if one.objectives() is not None]
    if not made:
        return []
    on_front = nondominated(np.array([one.objectives() for one in made], float))
    return [one for one, is_on in zip(made, on_front, strict=True) if is_on]


def _promotion(seen: Sequence[Tried], asked: Sequence[Asked]) -> Asked | None:
    """The first point of the front that was trained shortly only, while fewer than one in REDUCTION were promoted."""
    whole = {one.point for one in asked if one.epochs == 1.0}
    short = [one for one in asked if one.epochs < 1.0]
    promoted = sum(1 for one in short if one.point in whole)
    if promoted >= len(short) // REDUCTION:
        return None
    waiting = (one for one in front_of(seen) if one.epochs < 1.0 and one.point not in whole)
    best = next(waiting, None)
    return None if best is None else Asked(best.point, 1.0)
