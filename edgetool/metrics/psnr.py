"""Peak signal-to-noise ratio of pictures, in dB: 10 log10(peak² / mean squared error), averaged over pictures.

Outputs and labels have one shape [n, ...]. The peak is 255 where the labels are uint8, else 1.
"""

import numpy as np

from edge.errors import BadData
from edgetool.metrics.metric import Array, Means, Metric, mean_of
from edgetool.metrics.validate import same_shape

# An exact copy would be infinitely good and drown every other picture in the mean.
MOST_DB = 100.0


def _psnr(outputs: Array, labels: Array) -> Means:
    predicted, target = same_shape("psnr", outputs, labels)
    peak = 255.0 if labels.dtype == np.uint8 else 1.0
    low, high = float(target.min()), float(target.max())
    if low < 0 or high > peak:
        raise BadData(
            f"psnr: labels run from {low:.3g} to {high:.3g}, expected 0 to {peak:g}",
            "give pictures as uint8, or as floats from 0 to 1",
        )
    error = ((predicted - target) ** 2).mean(axis=1) / peak**2
    return mean_of(-10 * np.log10(np.maximum(error, 10 ** (-MOST_DB / 10))))


PSNR = Metric("psnr", "higher", "dB", "mean", _psnr)
