"""Mean absolute error and root mean squared error: outputs and targets of one shape [n, ...].

Both average over every value of an example first. Their drop is relative to the baseline's value.
"""

import numpy as np

from edgetool.metrics.metric import Array, Floats, Means, Metric, mean_of
from edgetool.metrics.validate import same_shape


def _mae(outputs: Array, labels: Array) -> Means:
    predicted, target = same_shape("mae", outputs, labels)
    return mean_of(np.abs(predicted - target).mean(axis=1))


def _rmse(outputs: Array, labels: Array) -> Means:
    predicted, target = same_shape("rmse", outputs, labels)
    return Means(((predicted - target) ** 2).mean(axis=1)[:, None], _root)


def _root(means: Floats) -> Floats:
    roots: Floats = np.sqrt(np.maximum(means[..., 0], 0.0))
    return roots


MAE = Metric("mae", "lower", "relative", "mean", _mae)
RMSE = Metric("rmse", "lower", "relative", "set", _rmse)
