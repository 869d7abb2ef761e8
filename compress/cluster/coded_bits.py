"""How many bits the kernels take when coded, and which weights and values a budget of bits has room for.

Wiedemann et al., "DeepCABAC: a universal compression algorithm for deep neural networks", IEEE JSTSP 2020
(arXiv:1907.11900).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]

# Pseudo-elements of the mean density in each row and column, so that an empty one can be entered again.
PRIOR = 4.0
PROBABILITIES = (1e-4, 1 - 1e-4)
LLOYD_ROUNDS = 20


def budget_bits(step: float, last: float, ratio: float, weights: int, start: float) -> float:
    """The bits that `weights` weights may take at `step`: from `start` bits each down to 32 / ratio from `last` on.

    They fall with the cube of what is left of the schedule (Zhu and Gupta, 2017, equation 1).
    """
    left = 1 - min(step / last, 1.0)
    end = 32 / ratio
    return weights * (end + max(start - end, 0.0) * left**3)


def density(kept: Mask) -> Floats:
    """The probability that an element is kept, by its row and its column: [..., rows, columns] -> the same shape.

    A row's density times its column's over the mean one, each smoothed. Leading axes (of convolutions) are rows.
    """
    flat = kept.reshape(-1, kept.shape[-1])
    mean = (flat.sum() + 1) / (flat.size + 2)
    rows = (flat.sum(axis=1) + PRIOR * mean) / (flat.shape[1] + PRIOR)
    columns = (flat.sum(axis=0) + PRIOR * mean) / (flat.shape[0] + PRIOR)
    p: Floats = np.clip(np.outer(rows, columns) / mean, *PROBABILITIES)
    return p.reshape(kept.shape)


def coded_bits(kept: Mask, value_bits: float) -> float:
    """What a kernel takes: -log2 p for a kept weight with the bits of its value, -log2(1 - p) for a zero."""
    p = density(kept)
    return float(-np.log2(np.where(kept, p, 1 - p)).sum() + value_bits * np.count_nonzero(kept))


def keep_within(gains: Sequence[Floats], before: Sequence[Mask], value_bits: float, bits: float) -> list[Mask]:
    """The weights that are kept, those of the largest gain per bit first, as many as `bits` have room for.

    A weight's bits are those it takes over a zero among the weights `before`; all kernels share the budget.
    """
    flat = np.concatenate([gain.ravel() for gain in gains])
    p = np.concatenate([density(kept).ravel() for kept in before])
    # Where zeros are the rarer word a weight seems free; it still costs its value.
    extra = value_bits + np.maximum(np.log2(1 - p) - np.log2(p), 0)
    order = np.argsort(-flat / extra, kind="stable")
    ends = np.cumsum([gain.size for gain in gains])[:-1]

    def first(n: int) -> list[Mask]:
        kept = np.zeros(flat.size, np.bool_)
        kept[order[:n]] = True
        return [part.reshape(gain.shape) for part, gain in zip(np.split(kept, ends), gains, strict=True)]

    fits, beyond = 0, int(np.count_nonzero(flat > 0)) + 1
    while beyond - fits > max(1, fits // 500):
        middle = (fits + beyond) // 2
        if sum(coded_bits(kept, value_bits) for kept in first(middle)) <= bits:
            fits = middle
        else:
            beyond = middle
    return first(fits)


def codebook(values: Floats, clusters: int, start: Floats | None = None, rounds: int = LLOYD_ROUNDS) -> Floats:
    """Lloyd's algorithm in one dimension: values [n] -> sorted centres [clusters], first spread over quantiles.

    Lloyd, "Least squares quantization in PCM", 1982. Centres that no value is nearest to stay where they are.
    """
    ordered = np.sort(np.asarray(values, np.float64).ravel())
    spread = (np.arange(clusters) + 0.5) / clusters
    centres = np.quantile(ordered, spread) if start is None else np.sort(np.asarray(start, np.float64))
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    for _ in range(rounds):
        bounds = np.concatenate([[0], np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2), [len(ordered)]])
        counts = np.diff(bounds)
        centres = np.where(counts > 0, np.diff(sums[bounds]) / np.maximum(counts, 1), centres)
    return np.sort(centres)


def nearest(values: Floats, centres: Floats) -> Floats:
    """Each value's nearest centre; centres are sorted."""
    return centres[np.searchsorted((centres[1:] + centres[:-1]) / 2, values)]


def short_floats(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rounded to bfloat16, half to even: 8 significant bits, of which a packed file stores no more than two bytes."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return rounded.astype(np.uint32).view(np.float32)


def entropy_bits(symbols: npt.NDArray[np.integer[Any]]) -> float:
    """Mean bits of a symbol for an ideal code."""
    counts = np.unique(symbols, return_counts=True)[1]
    p = counts / counts.sum()
    return float(-(p * np.log2(p)).sum())
