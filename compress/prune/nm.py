"""N:M pruning: of every m neighbouring inputs of an output, n weights are kept.

Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021 (arXiv:2104.08378), section 3 (2:4 for NVIDIA's sparse
tensor cores). The groups lie along the axis that is summed over, as the hardware reads them.
"""

import numpy as np

from compress.prune.pruner import Mask, Pruner, Schedule, Weights

NAME = "prune.nm"
INPUTS = -2  # Keras: [..., inputs, outputs] in dense and convolution kernels


def nm_pruner(schedule: Schedule, n: int, m: int) -> Pruner:
    """A transform for one fit. The schedule's sparsity is that of n of m: 1 - n / m."""

    def unfit(shape: tuple[int, ...]) -> str | None:
        if shape[INPUTS] % m:
            return f"its {shape[INPUTS]} inputs are no multiple of {m}"
        return None

    return Pruner(NAME, schedule, lambda kernels, sparsity: [mask(kernel, sparsity, n, m) for kernel in kernels], unfit)


def mask(weights: Weights, sparsity: float, n: int, m: int) -> Mask:
    """False for the smallest weights of each group of m inputs: as many as `sparsity` says, at most m - n.

    `weights` is [..., inputs, outputs], and inputs a multiple of m.
    """
    gone = min(m - n, round(sparsity * m))
    groups = np.moveaxis(weights, INPUTS, -1).reshape(-1, m)
    ranks = np.argsort(np.argsort(np.abs(groups), axis=1, kind="stable"), axis=1, kind="stable")
    moved = np.moveaxis(weights, INPUTS, -1).shape
    return np.ascontiguousarray(np.moveaxis((ranks >= gone).reshape(moved), -1, INPUTS))
