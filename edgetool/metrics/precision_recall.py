"""Precision, recall and F1 from confusion counts.

Binary (one sigmoid output, or two columns): of class 1. More classes: the unweighted mean over the classes that
occur in the labels (macro average). A ratio 0/0 counts as 0, as in scikit-learn's `zero_division=0`.
van Rijsbergen, "Information Retrieval", 1979: F1 = 2 TP / (2 TP + FP + FN).
"""

import functools
from collections.abc import Callable

import numpy as np

from edgetool.metrics.metric import Array, Floats, Means, Metric
from edgetool.metrics.validate import class_labels, predicted_classes, same_length

# (true positives, predicted, actual) -> ratio, each [..., classes] and a fraction of the examples.
Ratio = Callable[[Floats, Floats, Floats], Floats]


def _divide(top: Floats, bottom: Floats) -> Floats:
    positive = bottom > 0
    return np.where(positive, top / np.where(positive, bottom, 1.0), 0.0)


def _precision(hits: Floats, called: Floats, _: Floats) -> Floats:
    return _divide(hits, called)


def _recall(hits: Floats, _: Floats, actual: Floats) -> Floats:
    return _divide(hits, actual)


def _f1(hits: Floats, called: Floats, actual: Floats) -> Floats:
    return _divide(2 * hits, called + actual)


def _statistic(name: str, ratio: Ratio, outputs: Array, labels: Array) -> Means:
    same_length(name, outputs, labels)
    predicted, classes = predicted_classes(name, outputs)
    truth = class_labels(name, labels, classes)
    counted = np.array([1]) if classes == 2 else np.arange(classes)
    is_predicted, is_actual = predicted[:, None] == counted, truth[:, None] == counted
    terms = np.concatenate([is_predicted & is_actual, is_predicted, is_actual], axis=1).astype(np.float32)

    def finish(means: Floats) -> Floats:
        hits, called, actual = np.split(means, 3, axis=-1)
        values = ratio(hits, called, actual)
        if classes == 2:
            return values[..., 0]
        # Half of the smallest possible count, so that the steps of a numerical gradient change nothing.
        present = actual > 0.5 / len(truth)
        average: Floats = _divide(np.where(present, values, 0.0).sum(axis=-1), present.sum(axis=-1))
        return average

    return Means(terms, finish)


PRECISION, RECALL, F1 = (
    Metric(name, "higher", "points", "set", functools.partial(_statistic, name, ratio))
    for name, ratio in (("precision", _precision), ("recall", _recall), ("f1", _f1))
)
