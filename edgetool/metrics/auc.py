"""Area under the ROC curve, as the probability that a positive scores above a negative (ties count half).

Binary for one score or two columns; macro average of one class against the rest for more.
Influence: the placement values of DeLong, DeLong and Clarke-Pearson, "Comparing the areas under two or more
correlated receiver operating characteristic curves", Biometrics 44, 1988.
"""

import numpy as np
import numpy.typing as npt

from edge.errors import BadData
from edgetool.metrics.metric import Array, Floats, Metric, Statistic
from edgetool.metrics.validate import class_labels, class_scores, same_length


class RankAuc:
    """The area for scores [n] and positives [n]."""

    def __init__(self, scores: Floats, positive: npt.NDArray[np.bool_]) -> None:
        """Sorts once; every call then costs two cumulative sums."""
        order = np.argsort(scores, kind="stable")
        ranked, truth = scores[order], positive[order]
        self._positives, self._negatives = order[truth], order[~truth]
        positive_scores, negative_scores = ranked[truth], ranked[~truth]
        # How many of the other class lie below, and below or level with, each example.
        self._negatives_below = np.searchsorted(negative_scores, positive_scores, side="left")
        self._negatives_level = np.searchsorted(negative_scores, positive_scores, side="right")
        self._positives_below = np.searchsorted(positive_scores, negative_scores, side="left")
        self._positives_level = np.searchsorted(positive_scores, negative_scores, side="right")
        self.terms = np.empty((len(scores), 1))
        self.terms[self._positives, 0] = self._negatives_below + self._negatives_level
        self.terms[self._negatives, 0] = self._positives_below + self._positives_level

    def __call__(self, weights: Floats) -> tuple[Floats, Floats]:
        """See `Statistic`. NaN where one of the two classes has no weight."""
        of_positives, of_negatives = weights[:, self._positives], weights[:, self._negatives]
        positive_up_to, negative_up_to = _running(of_positives), _running(of_negatives)
        all_positive, all_negative = positive_up_to[:, -1:], negative_up_to[:, -1:]
        with np.errstate(divide="ignore", invalid="ignore"):
            beaten = (negative_up_to[:, self._negatives_below] + negative_up_to[:, self._negatives_level]) / (
                2 * all_negative
            )
            lost = 1 - (positive_up_to[:, self._positives_below] + positive_up_to[:, self._positives_level]) / (
                2 * all_positive
            )
            area = np.einsum("bn,bn->b", of_positives, beaten) / all_positive[:, 0]
            total = all_positive + all_negative
            influence = np.empty_like(weights)
            influence[:, self._positives] = (beaten - area[:, None]) * (total / all_positive)
            influence[:, self._negatives] = (lost - area[:, None]) * (total / all_negative)
        return area.astype(np.float64), influence


class MacroAuc:
    """The mean of the areas of every class against the rest."""

    def __init__(self, parts: list[RankAuc]) -> None:
        self._parts = parts
        self.terms = np.concatenate([part.terms for part in parts], axis=1)

    def __call__(self, weights: Floats) -> tuple[Floats, Floats]:
        """See `Statistic`."""
        values = np.zeros(len(weights))
        influence = np.zeros_like(weights)
        for part in self._parts:
            area, shares = part(weights)
            values += area / len(self._parts)
            influence += shares / len(self._parts)
        return values, influence


def _running(weights: Floats) -> Floats:
    sums = np.zeros((len(weights), weights.shape[1] + 1), weights.dtype)
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums


def _auc(outputs: Array, labels: Array) -> Statistic:
    same_length("auc", outputs, labels)
    scores = class_scores("auc", outputs)
    classes = scores.shape[1] if scores.ndim == 2 else 2
    truth = class_labels("auc", labels, classes)
    for number in range(classes):
        if not (truth == number).any():
            raise BadData(f"auc: no example has label {number}", "AUC needs examples of every class")
    if scores.ndim == 1:
        return RankAuc(scores, truth == 1)
    if classes == 2:
        return RankAuc(scores[:, 1], truth == 1)
    return MacroAuc([RankAuc(scores[:, number], truth == number) for number in range(classes)])


AUC = Metric("auc", "higher", "points", "set", _auc)
