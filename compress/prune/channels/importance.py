"""How much each channel matters: three measures, each a number a class of channels that can only go together.

- `l1`: the L1 norm of the weights that make a channel (Li et al., "Pruning Filters for Efficient ConvNets", ICLR
  2017, arXiv:1608.08710).
- `bn_scale`: the magnitude of its batch normalization's gamma (Liu et al., "Learning Efficient Convolutional Networks
  through Network Slimming", ICCV 2017, arXiv:1708.06519).
- `taylor`: the squared change of the loss, to first order, when the channel is removed (Molchanov et al., "Importance
  Estimation for Neural Network Pruning", CVPR 2019, arXiv:1906.10771, equation 8 for a gate on the channel):
  (Σ g w)² over the weights w that use the channel, with their gradients g. Summed over the weights that make it
  instead, it would vanish before a batch normalization, to which their scale means nothing.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from compress.prune.channels.structure import Labels, Role, Structure

Importance = Literal["l1", "bn_scale", "taylor"]
Scores = npt.NDArray[np.float64]
Weights = Callable[[Hashable], npt.NDArray[Any]]


def norm(values: npt.NDArray[Any], axis: int) -> Scores:
    """The L1 norm of every slice along `axis`: [..., n, ...] -> [n]."""
    others = tuple(other for other in range(values.ndim) if other != axis)
    return np.asarray(np.abs(values.astype(np.float64)).sum(axis=others))


def l1(structure: Structure, weight: Weights) -> Scores:
    """[labels]: the norm of what makes a channel, over the mean of its layer; mean over the layers it is made in.

    Vectors (biases) do not count: they are of another scale than kernels.
    """
    return _mean_over_slots(structure, weight, "makes", fewest_axes=2)


def bn_scale(structure: Structure, weight: Weights) -> Scores:
    """[labels]: |gamma| over the mean of its layer; mean over the layers. 0 for channels that no vector scales."""
    return _mean_over_slots(structure, weight, "scales", most_axes=1)


def is_scaled(structure: Structure, weight: Weights) -> npt.NDArray[np.bool_]:
    """[labels]: which channels a normalization scales."""
    found = np.zeros(len(structure.everything()), np.bool_)
    for slot in structure.slots:
        if slot.role == "scales" and weight(slot.weight).ndim == 1:
            found[structure.roots(slot.labels)] = True
    return found


def taylor(structure: Structure, batches: Iterable[Mapping[Hashable, npt.NDArray[Any]]]) -> Scores:
    """[labels]: the mean over batches of (Σ g w)²; a batch gives the products g * w of every weight."""
    total, n = np.zeros(len(structure.everything())), 0
    using = [slot for slot in structure.slots if slot.role == "uses"]
    roots = [structure.roots(slot.labels) for slot in using]
    for products in batches:
        change = np.zeros_like(total)
        for slot, root in zip(using, roots, strict=True):
            values = products.get(slot.weight)
            if values is None:
                continue
            others = tuple(other for other in range(values.ndim) if other != slot.axis)
            change += np.bincount(root, values.sum(axis=others, dtype=np.float64), len(total))
        total += change**2
        n += 1
    return total / max(n, 1)


def _mean_over_slots(
    structure: Structure, weight: Weights, role: Role, *, fewest_axes: int = 1, most_axes: int = 99
) -> Scores:
    size = len(structure.everything())
    total, met = np.zeros(size), np.zeros(size)
    for slot in structure.slots:
        values = weight(slot.weight)
        if slot.role != role or not fewest_axes <= values.ndim <= most_axes:
            continue
        lengths = norm(values, slot.axis)
        mean = float(lengths.mean())
        roots: Labels = structure.roots(slot.labels)
        total += np.bincount(roots, lengths / mean if mean > 0 else lengths, size)
        met += np.bincount(roots, minlength=size)
    return np.divide(total, met, out=np.zeros(size), where=met > 0)
