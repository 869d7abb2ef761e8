"""Block pruning: runs of neighbouring outputs of one input go together.

Narang, Undersander and Diamos, "Block-Sparse Recurrent Neural Networks", 2017 (arXiv:1711.02782), section 3: a block
counts as much as its largest weight. The blocks lie along the outputs, as sparse kernels on CPUs read them (Elsen et
al., "Fast Sparse ConvNets", CVPR 2020, section 3).
"""

from collections.abc import Sequence

import numpy as np

from compress.prune import magnitude
from compress.prune.pruner import Mask, Pruner, Schedule, Weights

NAME = "prune.block"


def block_pruner(schedule: Schedule, block: int, scope: magnitude.Scope = "global") -> Pruner:
    """A transform for one fit, with blocks of `block` outputs."""

    def unfit(shape: tuple[int, ...]) -> str | None:
        return f"its {shape[-1]} outputs are no multiple of {block}" if shape[-1] % block else None

    return Pruner(NAME, schedule, lambda kernels, sparsity: masks(kernels, sparsity, block, scope), unfit)


def masks(kernels: Sequence[Weights], sparsity: float, block: int, scope: magnitude.Scope) -> list[Mask]:
    """False for whole blocks of [..., outputs], those of smallest largest magnitude; outputs are multiples of block."""
    norms = [np.abs(kernel).reshape(*kernel.shape[:-1], -1, block).max(axis=-1) for kernel in kernels]
    return [np.repeat(kept, block, axis=-1) for kept in magnitude.masks(norms, sparsity, scope)]
