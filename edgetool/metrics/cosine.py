"""Cosine similarity of embeddings [n, d] to the vectors [n, d] that they should point at, averaged over examples.

1 is the same direction, 0 a right angle; the lengths do not count. For faces the label is the template of the person,
made of other pictures: what the similarity loses is what a threshold has less room for.
"""

import numpy as np

from edge.errors import BadData
from edgetool.metrics.metric import Array, Means, Metric, mean_of
from edgetool.metrics.validate import same_shape


def _cosine(outputs: Array, labels: Array) -> Means:
    found, wanted = same_shape("cosine", outputs, labels)
    lengths = np.linalg.norm(found, axis=1), np.linalg.norm(wanted, axis=1)
    for what, length in zip(("outputs", "labels"), lengths, strict=True):
        if not length.all():
            raise BadData(f"cosine: {int((length == 0).sum())} of the {what} are zero, which is in no direction")
    return mean_of((found * wanted).sum(axis=1) / (lengths[0] * lengths[1]))


COSINE = Metric("cosine", "higher", "points", "mean", _cosine)
