"""Unstructured magnitude pruning: the weights of smallest magnitude go.

Zhu and Gupta, "To prune, or not to prune: exploring the efficacy of pruning for model compression", 2017
(arXiv:1710.01878), section 3.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from compress.prune.pruner import Mask, Pruner, Schedule, Weights

Scope = Literal["global", "per_layer"]

NAME = "prune.magnitude"


def magnitude_pruner(schedule: Schedule, scope: Scope = "global") -> Pruner:
    """A transform for one fit. `scope` "global" ranks the weights of all kernels together, "per_layer" each alone."""
    return Pruner(NAME, schedule, lambda kernels, sparsity: masks(kernels, sparsity, scope))


def mask(weights: Weights, sparsity: float) -> Mask:
    """False for the round(sparsity * size) weights of smallest magnitude, True for the rest. Any shape."""
    kept = np.ones(weights.size, np.bool_)
    count = round(sparsity * weights.size)
    if count:
        kept[np.argpartition(np.abs(weights), count - 1, axis=None)[:count]] = False
    return kept.reshape(weights.shape)


def masks(kernels: Sequence[Weights], sparsity: float, scope: Scope) -> list[Mask]:
    """One mask for each kernel: `sparsity` over all of them together, or over each alone."""
    if scope == "per_layer":
        return [mask(kernel, sparsity) for kernel in kernels]
    together = mask(np.concatenate([kernel.ravel() for kernel in kernels]), sparsity)
    parts = np.split(together, np.cumsum([kernel.size for kernel in kernels])[:-1])
    return [part.reshape(kernel.shape) for part, kernel in zip(parts, kernels, strict=True)]
