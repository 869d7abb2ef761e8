"""What is tried next, as a pure function of what was found: the same history and seed give the same point.

Spaces are small enough to look at every point that is left, and trials dear enough to make it worth while. Each
objective has a surrogate, Gaussian process regression whose kernel says what passes do: every step along an axis adds
its own amount, to the logarithm of bytes and of time and to that of the drop (Duvenaud et al., "Additive Gaussian
processes", 2011), and how choices go together is a smooth rest. The next point is the one whose expected improvement of
the hypervolume is largest (Emmerich et al., "Single- and multiobjective evolutionary optimization assisted by Gaussian
random field metamodels", 2006), over joint draws in which the points that are being tried take part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgetool.search.front import nondominated
from edgetool.search.space import Point, Space

Floats = npt.NDArray[np.float64]

DRAWS = 32
MOST = 256  # points that are looked at; of a larger space a random part
INTERACTION_LENGTH = 1.2  # in steps along an axis


@dataclass(frozen=True)
class Observed:
    """A point with its objectives, all minimised; None where it could not be made."""

    point: Point
    objectives: tuple[float, ...] | None


@dataclass(frozen=True)
class Prior:
    """What is believed of an objective's logarithm before anything was tried.

    A step along an axis that comes before the last adds `step` with standard deviation `spread`; one along the last
    axis, which has choices in no order of strength, adds nothing with deviation `last`. `together` is the deviation of
    what choices do together, `noise` that of a trial.
    """

    step: float
    spread: float
    last: float
    together: float
    noise: float


# Chosen on drawn fronts and on the development pair of benchmarks/search_front.py
DROP = Prior(0.3, 0.4, 0.4, 0.3, 0.1)
BYTES = Prior(-0.35, 0.15, 0.5, 0.12, 0.03)
TIME = Prior(-0.15, 0.2, 0.5, 0.12, 0.05)
LEVEL = 10.0  # the deviation of the level, which nothing is known of


def suggest(space: Space, history: Sequence[Observed], taken: Sequence[Point], seed: int) -> Point | None:
    """The next point: one of `space.start()`, else the most promising; None when every point was taken.

    `taken` are all points asked for so far, those included whose result is not in `history` yet.
    """
    seen = set(taken)
    for point in space.start():
        if point not in seen:
            return point
    left = [point for point in space.points() if point not in seen]
    if not left:
        return None
    rng = np.random.default_rng(seed)
    if len(left) > MOST:
        left = [left[index] for index in rng.choice(len(left), MOST, replace=False)]
    made = [one for one in history if one.objectives is not None]
    if not made:
        return left[int(rng.integers(len(left)))]
    known = {one.point for one in history}
    pending = [point for point in dict.fromkeys(taken) if point not in known]
    found = np.array([one.objectives for one in made], float)
    drawn = _drawn(space, [one.point for one in made], found, [*pending, *left], rng)
    gains = sum(_gains(found, draw[: len(pending)], draw[len(pending) :]) for draw in drawn)
    return left[int(np.argmax(gains * _chance(space, history, left)))]


def _drawn(
    space: Space, points: Sequence[Point], found: Floats, others: Sequence[Point], rng: np.random.Generator
) -> Floats:
    """Joint draws of the objectives of `others` [k] given what was `found` [n, m]: [DRAWS, k, m]."""
    before, after = _steps(space, points), _steps(space, others)
    positive = found[:, 0][found[:, 0] > 0]
    scale = float(np.median(positive)) if len(positive) else 1.0
    drawn = [scale * np.expm1(_posterior(space, before, np.log1p(found[:, 0] / scale), after, DROP, rng))]
    for values, prior in zip(found.T[1:], (BYTES, TIME), strict=False):
        drawn.append(np.exp(_posterior(space, before, np.log(values), after, prior, rng)))
    drawn[0] = np.maximum(drawn[0], 0.0)
    return np.stack(drawn, axis=-1)


def _steps(space: Space, points: Sequence[Point]) -> Floats:
    """Which steps along the axes a point has taken, 0 or 1: [n, steps of all axes]."""
    sizes = [len(axis.choices) for axis in space.axes]
    rows = [[index >= step for index, size in zip(p, sizes, strict=True) for step in range(1, size)] for p in points]
    return np.array(rows, float).reshape(len(points), -1)


def _posterior(
    space: Space, before: Floats, values: Floats, after: Floats, prior: Prior, rng: np.random.Generator
) -> Floats:
    """Draws of a Gaussian process at `after` [k, s] given `values` [n] at `before` [n, s]: [DRAWS, k].

    Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, equations 2.23 and 2.24.
    """
    last = len(space.axes[-1].choices) - 1
    ordered = before.shape[1] - last
    mean = np.repeat([prior.step, 0.0], [ordered, last])
    variance = np.repeat([prior.spread**2, prior.last**2], [ordered, last])

    def kernel(a: Floats, b: Floats) -> Any:
        distance = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
        smooth = prior.together**2 * np.exp(-distance / (2 * INTERACTION_LENGTH**2))
        return LEVEL**2 + (a * variance) @ b.T + smooth

    offset = float(np.mean(values - before @ mean))
    lower = np.linalg.cholesky(kernel(before, before) + prior.noise**2 * np.eye(len(before)))
    crossed = np.linalg.solve(lower, kernel(before, after))
    centre = crossed.T @ np.linalg.solve(lower, values - before @ mean - offset) + after @ mean + offset
    spread = np.linalg.cholesky(kernel(after, after) - crossed.T @ crossed + 1e-6 * np.eye(len(after)))
    return np.asarray(centre + rng.normal(size=(DRAWS, len(after))) @ spread.T)


def _gains(found: Floats, pending: Floats, left: Floats) -> Floats:
    """By how much each point of one draw enlarges the hypervolume below the worst of all points: [n, m] -> [k].

    The space below the worst is cut into cells at the front's coordinates; a point gains its part of every cell that
    the front leaves.
    """
    everyone = np.concatenate([found, pending, left])
    worst = np.maximum(everyone.max(axis=0) * 1.001, 1e-12)
    front = np.concatenate([found, pending]) / worst
    front = front[nondominated(front)]
    dimensions = range(front.shape[1])
    edges = [np.concatenate([[0.0], np.sort(front[:, d]), [1.0]]) for d in dimensions]
    gained = np.ones((len(left), *(1 for _ in dimensions)))
    beaten = np.ones((*(1 for _ in dimensions), len(front)), bool)
    for d in dimensions:
        shape = [1] * front.shape[1]
        shape[d] = -1
        low, high = edges[d][:-1], edges[d][1:]
        part = np.maximum(0.0, high - np.maximum(low, left[:, d, None] / worst[d]))
        gained = gained * part.reshape(len(left), *shape)
        beaten = beaten & (low[:, None] >= front[:, d]).reshape(*shape, len(front))
    return np.asarray((gained * np.logical_not(beaten.any(axis=-1))).sum(axis=tuple(d + 1 for d in dimensions)))


def _chance(space: Space, history: Sequence[Observed], left: Sequence[Point]) -> Floats:
    """How likely a point can be made, by those around it that could or could not: [k], 1 where none has failed."""
    before, after = _steps(space, [one.point for one in history]), _steps(space, left)
    near = np.exp(-((after[:, None] - before) ** 2).sum(axis=2))
    made = np.array([one.objectives is not None for one in history], float)
    return np.asarray((1 + near @ made) / (1 + near.sum(axis=1)))
