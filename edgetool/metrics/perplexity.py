"""Perplexity: exp of the mean negative log-probability of the true tokens.

Outputs [n, ..., vocabulary] are probabilities, or natural log-probabilities (told apart by their sign); labels
[n, ...] are token numbers, -1 where there is none. Jelinek et al., "Perplexity - a measure of the difficulty of
speech recognition tasks", 1977.
"""

import numpy as np

from edge.errors import BadData
from edgetool.metrics.metric import Array, Floats, Means, Metric
from edgetool.metrics.validate import PROBABILITY_SLACK, real, same_length, whole

# A quantized softmax gives exact zeros: Keras's cross-entropy clips at the same value.
LEAST_PROBABILITY = 1e-7


def _perplexity(outputs: Array, labels: Array) -> Means:
    same_length("perplexity", outputs, labels)
    if outputs.ndim < 2 or outputs.shape[:-1] != labels.shape:
        raise BadData(
            f"perplexity: outputs have shape {outputs.shape} and labels {labels.shape}",
            "outputs must be the labels' shape with the vocabulary as last axis",
        )
    scores, tokens = real("perplexity", "outputs", outputs), whole("perplexity", "labels", labels)
    vocabulary = outputs.shape[-1]
    if tokens.min() < -1 or tokens.max() >= vocabulary:
        wrong = tokens.min() if tokens.min() < -1 else tokens.max()
        raise BadData(f"perplexity: token {wrong} is outside -1 … {vocabulary - 1}")
    low, high = float(scores.min()), float(scores.max())
    are_logs = low < -PROBABILITY_SLACK
    if high > (0 if are_logs else 1) + PROBABILITY_SLACK:
        raise BadData(
            f"perplexity: outputs run from {low:.3g} to {high:.3g}: neither probabilities nor log-probabilities",
            "end the model with softmax or log-softmax",
        )
    counted = tokens >= 0
    if not counted.any():
        raise BadData("perplexity: the labels hold no token at all")
    own = np.take_along_axis(scores, np.maximum(tokens, 0)[..., None], axis=-1)[..., 0]
    least = np.log(LEAST_PROBABILITY)
    logs = np.maximum(own, least) if are_logs else np.log(np.maximum(own, LEAST_PROBABILITY))
    n = len(labels)
    surprise = np.where(counted, -logs, 0.0).reshape(n, -1).sum(axis=1)
    return Means(np.stack([surprise, counted.reshape(n, -1).sum(axis=1)], axis=1), _exp_ratio)


def _exp_ratio(means: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        perplexity: Floats = np.exp(means[..., 0] / means[..., 1])
    return np.where(means[..., 1] > 0, perplexity, np.nan)


PERPLEXITY = Metric("perplexity", "lower", "relative", "set", _perplexity)
