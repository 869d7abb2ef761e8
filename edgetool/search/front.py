"""Pareto fronts: which points nothing beats, how much they dominate, and where the front bends.

Every objective is minimised; points are [n, m].
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.floating[Any]]


def nondominated(points: Points) -> npt.NDArray[np.bool_]:
    """Which points no other is at least as good as in everything and better in something: [n, m] -> [n].

    Of equal points all are on the front.
    """
    no_worse = (points[:, None, :] <= points[None, :, :]).all(axis=2)
    better = (points[:, None, :] < points[None, :, :]).any(axis=2)
    return np.logical_not((no_worse & better).any(axis=0))


def hypervolume(points: Points, reference: Points) -> float:
    """The volume that the points dominate below `reference` [m]: Zitzler and Thiele, 1998.

    Exact, by slicing along the last objective; for fronts of some hundred points with few objectives.
    """
    inside = points[(points < reference).all(axis=1)]
    if len(inside) == 0:
        return 0.0
    if points.shape[1] == 1:
        return float(reference[0] - inside[:, 0].min())
    order = np.argsort(inside[:, -1], kind="stable")
    levels = np.append(inside[order, -1], reference[-1])
    volume = 0.0
    for k in range(len(order)):
        height = float(levels[k + 1] - levels[k])
        if height > 0:
            volume += height * hypervolume(inside[order[: k + 1], :-1], reference[:-1])
    return volume


def knee(points: Points) -> int:
    """The point of a front that is farthest below the plane through its best points: Das, 1999.

    Objectives are scaled to 0 … 1 over the front; the plane is the one on which they sum to 1. Of equally far ones the
    first. A front that is flat in an objective has no bend there.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    scaled = (points - low) / np.where(high > low, high - low, 1.0)
    return int(np.argmin(scaled.sum(axis=1)))
