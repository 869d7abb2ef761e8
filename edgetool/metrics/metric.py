"""What a metric is: a statistic of weighted examples, with the influence of every example on it.

Everything the gates need follows from those two: the value (all weights 1), a bootstrap resample (weights are
counts), the standard error by the infinitesimal jackknife (Efron, "Nonparametric estimates of standard error:
the jackknife, the bootstrap and other methods", Biometrika 68, 1981).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from edge.errors import BadData

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.floating[Any]]

Direction = Literal["higher", "lower"]
DropUnit = Literal["points", "relative", "dB"]
Kind = Literal["binary", "mean", "set"]


class Statistic(Protocol):
    """A number computed from n weighted examples."""

    @property
    def terms(self) -> Floats:
        """What each example contributes, [n, k]: where two models' rows are equal, it counts alike in both."""
        ...

    def __call__(self, weights: Floats) -> tuple[Floats, Floats]:
        """Weights [B, n] to values [B] and influences [B, n].

        The influence of an example is the derivative of the value by that example's share of the weight; the
        influences of one row, weighted, sum to 0. A value is NaN where the weights leave it undefined.
        """
        ...


class Means:
    """A smooth function of weighted means: terms [n, k] -> means [B, k] -> `finish` -> values [B].

    The influence is the gradient of `finish` times the centred terms (delta method).
    """

    def __init__(self, terms: Floats, finish: Callable[[Floats], Floats]) -> None:
        """`terms` [n, k]; `finish` maps means [..., k] to values [...] and is 0/0-safe."""
        self.terms = terms
        self._finish = finish
        self._centre = terms.mean(axis=0, dtype=np.float64)
        self._centred = np.ascontiguousarray((terms - self._centre).T)
        self._narrow = self._centred.astype(np.float32)
        spread = terms.std(axis=0, dtype=np.float64) + np.abs(self._centre)
        # Central differences: 1e-6 of the term's own size leaves about nine good digits in float64.
        self._step = 1e-6 * np.where(spread > 0, spread, 1.0)

    def __call__(self, weights: Floats) -> tuple[Floats, Floats]:
        """See `Statistic`."""
        centred = self._narrow if weights.dtype == np.float32 else self._centred
        shift = (weights @ centred.T) / weights.sum(axis=1, keepdims=True)
        means = self._centre + shift.astype(np.float64)
        gradient = np.empty_like(means)
        for j, step in enumerate(self._step):
            offset = np.zeros(means.shape[1])
            offset[j] = step
            gradient[:, j] = (self._finish(means + offset) - self._finish(means - offset)) / (2 * step)
        slope = gradient.astype(weights.dtype)
        influence = slope @ centred
        influence -= np.einsum("bk,bk->b", slope, shift)[:, None]
        return self._finish(means), influence


def mean_of(scores: Floats) -> Means:
    """The plain mean of per-example scores [n]."""
    return Means(scores[:, None], lambda means: means[..., 0])


@dataclass(frozen=True)
class Metric:
    """How good a model's outputs are, and how a loss of it is counted.

    `kind`: "binary" metrics are the mean of 0/1 scores, "mean" metrics the mean of real scores, "set" metrics
    need the whole set. `drop_unit` says how a drop is counted: "points" is the plain difference of fractions
    (0.01 is one point), "relative" is divided by the baseline's value, "dB" is the plain difference.
    `statistic(outputs, labels)` checks both and raises `BadData` where they do not fit.
    """

    name: str
    direction: Direction
    drop_unit: DropUnit
    kind: Kind
    statistic: Callable[[Array, Array], Statistic]

    def check(self, outputs: Array, labels: Array) -> None:
        """Raises `BadData`, with the thing and its value, where outputs or labels do not fit the metric."""
        self.statistic(outputs, labels)

    def value(self, outputs: Array, labels: Array) -> float:
        """The metric of a model's first output [n, ...] against labels [n, ...].

        Raises:
            BadData: shapes, dtypes, label range or content do not fit.

        """
        return float(self.statistic(outputs, labels)(np.ones((1, len(labels))))[0][0])

    def scores(self, outputs: Array, labels: Array) -> Floats | None:
        """The per-example scores [n] whose mean is the metric; None for a metric of the whole set."""
        statistic = self.statistic(outputs, labels)
        if self.kind == "set" or not isinstance(statistic, Means):
            return None
        return statistic.terms[:, 0]

    def drop(self, baseline: float, candidate: float) -> float:
        """How much worse the candidate's value is, in `drop_unit`. Positive is worse.

        Raises:
            BadData: the drop is relative and the baseline's value is 0.

        """
        worse = baseline - candidate if self.direction == "higher" else candidate - baseline
        if self.drop_unit != "relative":
            return worse
        if baseline == 0:
            raise BadData(
                f"the baseline's {self.name} is 0: a drop relative to it is undefined",
                "check that the test labels are not the model's own outputs",
            )
        return worse / baseline
