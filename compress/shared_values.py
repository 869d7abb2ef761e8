"""Zeros and shared values of a weight tensor: found, kept while it is trained, and looked for in the integer file.

Han, Mao and Dally, "Deep Compression", 2016 (arXiv:1510.00149), sections 2 and 3: pruned weights stay zero, and weights
that share a value move together. There a value moves by the sum of its weights' gradients; here every weight takes
its own step and the group then takes its mean, which is the same projection onto the shared values for any optimizer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Weights = npt.NDArray[Any]
# Below a tenth of zeros there is nothing to gain by keeping them: untrained and ReLU-dead weights are that many.
LEAST_SPARSITY = 0.1
# Values that share: at most a quarter as many as weights, else the list of values costs what it saves.
LEAST_SHARING = 4


@dataclass(frozen=True)
class Structure:
    """What is worth keeping of one weight tensor.

    Attributes:
        sparsity: fraction of exact zeros; 0 where they are not worth keeping.
        values: distinct values of a channel (the last axis), the most of any; None where the weights share none.

    """

    sparsity: float
    values: int | None

    @property
    def any(self) -> bool:
        """Whether there is something to keep."""
        return self.sparsity > 0 or self.values is not None


def structure(weights: Weights) -> Structure:
    """The zeros and shared values of a float tensor [..., channels]."""
    sparsity = float(np.mean(weights == 0))
    shared = np.unique(weights).size * LEAST_SHARING <= weights.size
    return Structure(sparsity if sparsity >= LEAST_SPARSITY else 0.0, values_of(weights) if shared else None)


def values_of(weights: Weights) -> int:
    """Distinct values in the channel (last axis) that has the most."""
    return max(int(np.unique(channel).size) for channel in weights.reshape(-1, weights.shape[-1]).T)


def groups(weights: Weights) -> npt.NDArray[np.int32]:
    """The group of each weight: -1 for a pruned one, the same number for weights of one value where they share.

    Where weights share no values each is a group of its own.
    """
    found = structure(weights)
    if found.values is not None:
        number = np.unique(weights, return_inverse=True)[1].reshape(weights.shape)
    else:
        number = np.arange(weights.size).reshape(weights.shape)
    kept = np.where((weights == 0) & (found.sparsity > 0), -1, number)
    return np.asarray(kept, np.int32)


def project(weights: Weights, group: npt.NDArray[np.int32]) -> Weights:
    """Each weight becomes the mean of its group; pruned ones (-1) become 0."""
    slots = group.ravel() + 1
    count = np.maximum(np.bincount(slots), 1)
    means = np.bincount(slots, weights.ravel().astype(np.float64)) / count
    means[0] = 0.0
    return np.asarray(means[slots].reshape(weights.shape), weights.dtype)


class Keeper:
    """Keeps the zeros and shared values that a model's kernels had when it was made; `keep` after each step."""

    def __init__(self, kernels: Sequence[Any]) -> None:
        """`kernels` are variables of TensorFlow."""
        self._kept = [(v, groups(v.numpy())) for v in kernels if structure(v.numpy()).any]

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self) -> None:
        """Project every kernel onto its zeros and shared values."""
        for variable, group in self._kept:
            variable.assign(project(variable.numpy(), group))


def survived(before: Structure, integer: Weights) -> str | None:
    """Why an integer tensor [..., channels] lost what the float one had; None where it kept it.

    Rounding may make zeros and merge values, never the other way.
    """
    zeros = float(np.mean(integer == 0))
    if zeros < before.sparsity:
        return f"{zeros:.1%} of its weights are 0, before it were {before.sparsity:.1%}"
    if before.values is not None and values_of(integer) > before.values:
        return f"a channel of it holds {values_of(integer)} values, before it were {before.values}"
    return None
