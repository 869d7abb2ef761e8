"""Word error rate: edits (substitutions, deletions, insertions) over the words of the reference.

Outputs [n, any length] and labels [n, any length]: whole token numbers, each row padded at its end with -1.
Levenshtein, "Binary codes capable of correcting deletions, insertions, and reversals", 1966; the distance is
computed for all rows at once by dynamic programming.
"""

import numpy as np
import numpy.typing as npt

from edge.errors import BadData
from edgetool.metrics.metric import Array, Floats, Means, Metric
from edgetool.metrics.validate import same_length, whole

PADDING = -1


def edit_distances(hypotheses: npt.NDArray[np.int64], references: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The edit distance of every pair of rows: [n, a], [n, b], padded with -1 -> [n]."""
    rows = np.arange(len(references))
    spoken, words = (hypotheses != PADDING).sum(axis=1), (references != PADDING).sum(axis=1)
    width = references.shape[1]
    previous = np.broadcast_to(np.arange(width + 1), (len(rows), width + 1)).copy()
    distances: npt.NDArray[np.int64] = previous[rows, words]
    for i in range(hypotheses.shape[1]):
        current = np.empty_like(previous)
        current[:, 0] = i + 1
        for j in range(width):
            swapped = previous[:, j] + (hypotheses[:, i] != references[:, j])
            current[:, j + 1] = np.minimum(np.minimum(previous[:, j + 1], current[:, j]) + 1, swapped)
        distances = np.where(spoken == i + 1, current[rows, words], distances)
        previous = current
    return distances


def _tokens(what: str, sequences: Array) -> npt.NDArray[np.int64]:
    if sequences.ndim != 2:
        raise BadData(f"wer: {what} have shape {sequences.shape}, expected (n, tokens) padded with -1")
    tokens = whole("wer", what, sequences)
    if tokens.size and tokens.min() < PADDING:
        raise BadData(f"wer: a token of the {what} is {tokens.min()}, below the padding -1")
    ended = np.cumsum(tokens == PADDING, axis=1) > 0
    if (ended & (tokens != PADDING)).any():
        raise BadData(f"wer: a row of the {what} has a token after its padding -1")
    return tokens


def _wer(outputs: Array, labels: Array) -> Means:
    same_length("wer", outputs, labels)
    hypotheses, references = _tokens("outputs", outputs), _tokens("labels", labels)
    words = (references != PADDING).sum(axis=1)
    if words.sum() == 0:
        raise BadData("wer: the labels hold no word at all")
    return Means(np.stack([edit_distances(hypotheses, references), words], axis=1).astype(np.float64), _ratio)


def _ratio(means: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Floats = means[..., 0] / means[..., 1]
    return np.where(means[..., 1] > 0, ratio, np.nan)


WER = Metric("wer", "lower", "points", "set", _wer)
