"""Accuracy and top-k accuracy: the fraction of examples whose class is (among the k) predicted."""

import numpy as np

from edge.errors import BadData
from edgetool.metrics.metric import Array, Means, Metric, mean_of
from edgetool.metrics.validate import class_labels, class_scores, predicted_classes, same_length


def _accuracy(outputs: Array, labels: Array) -> Means:
    same_length("accuracy", outputs, labels)
    predicted, classes = predicted_classes("accuracy", outputs)
    return mean_of((predicted == class_labels("accuracy", labels, classes)).astype(np.float64))


ACCURACY = Metric("accuracy", "higher", "points", "binary", _accuracy)


def topk(k: int) -> Metric:
    """Top-k accuracy: outputs [n, classes], labels [n]. Of tied scores the lower class number comes first.

    Raises:
        BadData: on use, where the model has fewer than k + 1 classes (the answer would always be 1).

    """
    if k < 1:
        raise ValueError(f"k must be at least 1, it is {k}")
    name = f"top{k}"

    def statistic(outputs: Array, labels: Array) -> Means:
        same_length(name, outputs, labels)
        scores = class_scores(name, outputs)
        classes = scores.shape[1] if scores.ndim == 2 else 2
        if scores.ndim != 2 or classes <= k:
            raise BadData(f"{name} needs more than {k} classes, the model's output has shape {outputs.shape}")
        truth = class_labels(name, labels, classes)
        own = scores[np.arange(len(truth)), truth][:, None]
        earlier = np.arange(classes) < truth[:, None]
        better = (scores > own) | ((scores == own) & earlier)
        return mean_of((better.sum(axis=1) < k).astype(np.float64))

    return Metric(name, "higher", "points", "binary", statistic)
