"""Equal error rate: where the false accept rate equals the false reject rate on the (interpolated) ROC curve.

ISO/IEC 19795-1, "Biometric performance testing and reporting". Scores [n] or [n, 1], larger is more genuine;
labels 1 (genuine) and 0 (impostor).
"""

import math

import numpy as np
import numpy.typing as npt

from edge.errors import BadData
from edgetool.metrics.metric import Array, Floats, Metric
from edgetool.metrics.validate import class_labels, class_scores, same_length


class EqualErrorRate:
    """The rate for scores [n] and genuine examples [n]."""

    def __init__(self, scores: Floats, genuine: npt.NDArray[np.bool_]) -> None:
        """Sorts once, falling scores; equal scores are accepted together."""
        self._order = np.argsort(-scores, kind="stable")
        ranked = scores[self._order]
        self._genuine = genuine[self._order]
        self._ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
        self._step = np.searchsorted(self._ends, np.arange(len(ranked)))
        # The slope of the curve is measured over a window that shrinks against n and still holds many scores.
        self._window = max(1, math.isqrt(len(self._ends)))
        accepted = np.empty((len(ranked), 1))
        accepted[self._order, 0] = self._at_the_crossing(np.ones((1, len(ranked))))[2]
        self.terms = accepted

    def __call__(self, weights: Floats) -> tuple[Floats, Floats]:
        """See `Statistic`. NaN where one of the two classes has no weight.

        With F and R the false accept and reject rates at the threshold, and f, g the densities of impostor and
        genuine scores there, the rate moves by (f dR + g dF) / (f + g): both curves slide along the threshold.
        """
        ranked = weights[:, self._order]
        rate, on_frr, accepted = self._at_the_crossing(ranked)
        genuine = (ranked @ self._genuine.astype(weights.dtype))[:, None]
        total = ranked.sum(axis=1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            as_genuine = on_frr[:, None] * (1 - accepted - rate[:, None]) * (total / genuine)
            as_impostor = (1 - on_frr[:, None]) * (accepted - rate[:, None]) * (total / (total - genuine))
        influence = np.empty_like(weights)
        influence[:, self._order] = np.where(self._genuine, as_genuine, as_impostor)
        return rate, influence

    def _at_the_crossing(self, ranked: Floats) -> tuple[Floats, Floats, Floats]:
        """Where FAR and FRR cross: the rate [B], f / (f + g) [B], and how far each example is accepted [B, n]."""
        rows = np.arange(len(ranked))
        with np.errstate(divide="ignore", invalid="ignore"):
            accepts = np.cumsum(ranked * self._genuine, axis=1, dtype=np.float64)
            false_accepts = np.cumsum(ranked * ~self._genuine, axis=1, dtype=np.float64)
            start = np.zeros((len(ranked), 1))
            far = np.concatenate([start, false_accepts[:, self._ends] / false_accepts[:, -1:]], axis=1)
            frr = np.concatenate([start + 1, 1 - accepts[:, self._ends] / accepts[:, -1:]], axis=1)
            after = np.maximum((far >= frr).argmax(axis=1), 1)
            before = after - 1
            gap_before, gap_after = frr[rows, before] - far[rows, before], far[rows, after] - frr[rows, after]
            part = gap_before / (gap_before + gap_after)
            rate = far[rows, before] + part * (far[rows, after] - far[rows, before])
        low, high = np.maximum(before - self._window, 0), np.minimum(after + self._window, len(self._ends))
        impostors, genuines = far[rows, high] - far[rows, low], frr[rows, low] - frr[rows, high]
        both = impostors + genuines
        on_frr = np.where(both > 0, impostors / np.where(both > 0, both, 1.0), 0.5)
        accepted = (self._step < before[:, None]) + np.where(self._step == before[:, None], part[:, None], 0.0)
        return rate, on_frr, accepted


def _eer(outputs: Array, labels: Array) -> EqualErrorRate:
    same_length("eer", outputs, labels)
    scores = class_scores("eer", outputs)
    if scores.ndim == 2:
        if scores.shape[1] != 2:
            raise BadData(f"eer needs one score per example, outputs have shape {outputs.shape}")
        scores = scores[:, 1]
    truth = class_labels("eer", labels, 2)
    for number, what in ((0, "impostor"), (1, "genuine")):
        if not (truth == number).any():
            raise BadData(f"eer: no example has label {number} ({what})", "EER needs examples of both")
    return EqualErrorRate(scores, truth == 1)


EER = Metric("eer", "lower", "points", "set", _eer)
