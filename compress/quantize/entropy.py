"""The clipping threshold that loses the least information.

Migacz, "8-bit Inference with TensorRT", NVIDIA GTC 2017, slides 35 to 39: of all thresholds, take the one whose
quantized distribution has the least Kullback-Leibler divergence from the distribution of the activations.
"""

import numpy as np
import numpy.typing as npt

LEVELS = 128  # the non-negative half of int8
# Thresholds are tried every 16 bins of 2048: the result is within 1/128 of the full scale of the best one.
STRIDE = 16


def entropy_threshold(counts: npt.NDArray[np.int64]) -> float:
    """The threshold as a fraction of the histogram's end: |x| counts [bins] -> (0, 1].

    For each candidate: P is the histogram up to it with everything beyond in its last bin; Q is the histogram up
    to it (without what is beyond) merged into 128 levels and spread back evenly over the bins that are not empty;
    the divergence is sum P log(P / Q) over normalised P and Q.
    """
    bins = len(counts)
    if not counts.any():
        return 1.0
    top = int(np.flatnonzero(counts)[-1]) + 1
    if top <= LEVELS:
        return top / bins
    weights = counts.astype(np.float64)
    # The bin at zero is left out: ReLU fills it with exact zeros, which every scale represents exactly.
    weights[0] = min(weights[0], weights[1])
    beyond = np.concatenate([np.cumsum(weights[::-1])[::-1], [0.0]])
    candidates = np.unique(np.append(np.arange(LEVELS, top, STRIDE), top))
    divergences = [_divergence(weights[:end], float(beyond[end])) for end in candidates]
    return float(candidates[int(np.argmin(divergences))]) / bins


def _divergence(inside: npt.NDArray[np.float64], outliers: float) -> float:
    level = np.arange(len(inside)) * LEVELS // len(inside)
    filled = inside > 0
    totals = np.bincount(level, weights=inside, minlength=LEVELS)
    used = np.bincount(level, weights=filled, minlength=LEVELS)
    spread = np.divide(totals, used, out=np.zeros(LEVELS), where=used > 0)
    q = np.where(filled, spread[level], 0.0)
    p = inside.copy()
    p[-1] += outliers
    total_p, total_q = p.sum(), q.sum()
    if total_p == 0 or total_q == 0:
        return np.inf
    # A last bin that holds only outliers has Q = 0 there: a small probability keeps the divergence finite and large.
    q = np.where((p > 0) & (q == 0), 1e-4 * total_q / len(q), q)
    p, q = p / total_p, q / q.sum()
    kept = p > 0
    return float(np.sum(p[kept] * np.log(p[kept] / q[kept])))
