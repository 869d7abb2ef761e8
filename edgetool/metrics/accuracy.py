"""Accuracy and top-k accuracy: the fraction of examples whose class is (among the k) predicted."""

import functools

import numpy as np

from edge.errors import BadData
from edgetool.metrics.metric import Array, Means, Metric, mean_of
from edgetool.metrics.validate import class_labels, class_scores, predicted_classes, same_length


def _accuracy(outputs: Array, labels: Array) -> Means:
    same_length("accuracy", outputs, labels)
    predicted, classes = predicted_classes("accuracy", outputs)
    return mean_of((predicted == class_labels("accuracy", labels, classes)).astype(np.float64))


ACCURACY = Metric("accuracy", "higher", "points", "binary", _accuracy)


def _topk(k: int, outputs: Array, labels: Array) -> Means:
    name = f"top{k}"
    same_length(name, outputs, labels)
    scores = class_scores(name, outputs)
    if scores.ndim != 2 or scores.shape[1] <= k:
        raise BadData(f"{name} needs more than {k} classes, the model's output has shape {outputs.shape}")
    classes = scores.shape[1]
    truth = class_labels(name, labels, classes)
    own = scores[np.arange(len(truth)), truth][:, None]
    earlier = np.arange(classes) < truth[:, None]
    better = (scores > own) | ((scores == own) & earlier)
    return mean_of((better.sum(axis=1) < k).astype(np.float64))


def topk(k: int) -> Metric:
    """Top-k accuracy: outputs [n, classes], labels [n]. Of tied scores the lower class number comes first.

    On use it raises `BadData` where the model has no more than k classes: the answer would always be 1.

    Raises:
        ValueError: k is below 1.

    """
    if k < 1:
        raise ValueError(f"k must be at least 1, it is {k}")
    return Metric(f"top{k}", "higher", "points", "binary", functools.partial(_topk, k))
