"""What is tried next, as a pure function of what was found: the same history and seed give the same point.

Optuna's tree-structured Parzen estimator for several objectives (Ozaki et al., "Multiobjective tree-structured Parzen
estimator", JAIR 2022) suggests; what was tried before is not tried again.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgetool.search.space import Point, Space

STARTUP = 6  # points at random before the estimator has something to go by
TRIES = 12  # suggestions that may repeat what was tried before a random new point is taken


@dataclass(frozen=True)
class Observed:
    """A point with its objectives, all minimised; None where it could not be made."""

    point: Point
    objectives: tuple[float, ...] | None


def suggest(space: Space, history: Sequence[Observed], taken: Sequence[Point], seed: int) -> Point | None:
    """The next point: one of `space.start()`, else a suggestion; None when every point was taken.

    `taken` are all points asked for so far, those included whose result is not in `history` yet.
    """
    seen = set(taken)
    for point in space.start():
        if point not in seen:
            return point
    if len(seen) >= space.size:
        return None
    for attempt in range(TRIES):
        point = _estimated(space, history, seed + attempt)
        if point not in seen:
            return point
    left = [point for point in space.points() if point not in seen]
    return left[int(np.random.default_rng(seed).integers(len(left)))]


def _estimated(space: Space, history: Sequence[Observed], seed: int) -> Point:
    import optuna

    found = [one for one in history if one.objectives is not None]
    axes = {axis.name: optuna.distributions.IntDistribution(0, len(axis.choices) - 1) for axis in space.axes}
    optuna.logging.set_verbosity(logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=STARTUP)
    study = optuna.create_study(
        sampler=sampler, directions=["minimize"] * (len(found[0].objectives or ()) if found else 1)
    )
    for one in found:
        parameters = dict(zip(axes, one.point, strict=True))
        study.add_trial(
            optuna.trial.create_trial(params=parameters, distributions=dict(axes), values=list(one.objectives or ()))
        )
    suggested = study.ask(dict(axes)).params
    return tuple(int(suggested[name]) for name in axes)
