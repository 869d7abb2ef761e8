"""Kernels as products of thin ones.

- Matrices by the singular value decomposition, the best approximation of a rank (Eckart and Young, 1936).
- Convolutions by Tucker-2: Kim et al., "Compression of Deep Convolutional Neural Networks for Fast and Low Power
  Mobile Applications", ICLR 2016 (arXiv:1511.06530), section 3.1: a 1x1 convolution to fewer inputs, a small core, a
  1x1 convolution to all outputs.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
# Kim et al. start from the truncated decomposition and alternate; beyond a few rounds the error stands still.
ROUNDS = 4


def svd(matrix: Floats, rank: int) -> tuple[Floats, Floats]:
    """[in, out] -> ([in, rank], [rank, out]), whose product is the best approximation of that rank.

    The singular values are shared evenly, so that one learning rate suits both.
    """
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    root = np.sqrt(values[:rank])
    return left[:, :rank] * root, root[:, np.newaxis] * right[:rank]


def tucker2(kernel: Floats, ranks: tuple[int, int]) -> tuple[Floats, Floats, Floats]:
    """[..., in, out] -> ([in, r_in], [..., r_in, r_out], [r_out, out]); see `product`."""
    into, out = _basis(_rows(kernel, -2), ranks[0]), _basis(_rows(kernel, -1), ranks[1])
    for _ in range(ROUNDS):
        into = _basis(_rows(kernel @ out, -2), ranks[0])
        out = _basis(_rows(into.T @ kernel, -1), ranks[1])
    return into, into.T @ kernel @ out, out.T


def product(into: Floats, core: Floats, out: Floats) -> Floats:
    """The kernel [..., in, out] that three factors stand for."""
    return into @ core @ out


def singular_values(kernel: Floats, axis: int) -> Floats:
    """Of the kernel unfolded along an axis, the largest first; their squares sum to that of all weights."""
    return np.asarray(np.linalg.svd(_rows(kernel, axis), compute_uv=False))


def rank_for(values: Floats, energy: float) -> int:
    """The least rank, at least 1, that keeps the fraction `energy` of the sum of squares."""
    squares = np.cumsum(np.square(values))
    if not squares.size or squares[-1] == 0:
        return 1
    # the last sum over itself is exactly 1, so that an energy of 1 keeps all
    return min(int(np.searchsorted(squares / squares[-1], energy)) + 1, len(values))


def _rows(kernel: Floats, axis: int) -> Floats:
    """[axis, all others]."""
    return np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1)


def _basis(rows: Floats, rank: int) -> Floats:
    """The leading left singular vectors [n, rank]."""
    return np.asarray(np.linalg.svd(rows, full_matrices=False)[0][:, :rank])
