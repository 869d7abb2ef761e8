"""The channels of a model as numbered units, joined where they can only be pruned together.

Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023 (arXiv:2301.12900): a channel that a layer makes is
a slice of every weight that makes, scales or uses it. Here each channel has a number, tensors and weights carry the
numbers along their axes, and whatever demands that two channels share their fate (a residual sum, a gate, a layer
that is used twice) joins the two numbers. Concatenation concatenates the numbers, flattening repeats them, so offsets
and index expansion need no rules of their own. The groups of the paper are the connected numbers.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edge.errors import BadModel
from edge.report import Skipped

Labels = npt.NDArray[np.int64]
Alive = npt.NDArray[np.bool_]
# What a weight does to the channels along one of its axes. "follows": it only has their number (a moving mean).
Role = Literal["makes", "uses", "scales", "follows"]

FIXED = 0  # the label of every channel that no layer makes: those of the inputs


@dataclass(frozen=True)
class Flow:
    """Where a tensor has its prunable channels: `labels` [size] along `axis`, counted from the end (-1, -2, …)."""

    axis: int
    labels: Labels


@dataclass(frozen=True)
class Slot:
    """One axis of one weight and the channels along it."""

    weight: Hashable
    axis: int
    role: Role
    labels: Labels


@dataclass(frozen=True)
class Term:
    """A share of the MACs: `count` times the product of the numbers of channels left along each of `axes`."""

    count: int
    axes: tuple[Labels, ...]


@dataclass(frozen=True)
class Space:
    """The channels that one layer makes. `single` counts them one by one whatever multiple is asked for (heads)."""

    name: str
    labels: Labels
    single: bool


@dataclass(frozen=True)
class Group:
    """Channels of which each can go alone: `classes` [n] are the labels that stand for what goes with each."""

    name: str
    classes: Labels
    single: bool


class Structure:
    """What tracing a model gives. Rules fill it; afterwards it is only asked."""

    def __init__(self) -> None:
        self._parent = [FIXED]
        self._reasons: dict[int, str] = {FIXED: "they are summed or shared with channels of an input"}
        self._slots: dict[tuple[Hashable, int], Slot] = {}
        self.spaces: list[Space] = []
        self.terms: list[Term] = []
        self.skipped: list[Skipped] = []
        self.exact = True

    @property
    def slots(self) -> list[Slot]:
        """Every axis of a weight that carries channels."""
        return list(self._slots.values())

    def make(self, name: str, size: int, *, single: bool = False) -> Labels:
        """The labels [size] of new channels, made by the layer `name`."""
        start = len(self._parent)
        self._parent += range(start, start + size)
        labels = np.arange(start, start + size)
        self.spaces.append(Space(name, labels, single))
        return labels

    def join(self, left: Labels, right: Labels) -> None:
        """From now on left[i] and right[i] are pruned together, for every i.

        Raises ValueError where their numbers differ.
        """
        if len(left) != len(right):
            raise ValueError(f"{len(left)} channels cannot be joined with {len(right)}")
        for one, other in zip(left.tolist(), right.tolist(), strict=True):
            low, high = sorted((self._root(one), self._root(other)))
            self._parent[high] = low

    def concatenated(self, parts: Sequence[Labels], along: int, axis: int) -> Flow:
        """Of tensors with their channels along `along`, concatenated along `axis`: one behind the other, or joined."""
        if axis == along:
            return Flow(along, np.concatenate(parts))
        for part in parts[1:]:
            self.join(parts[0], part)
        return Flow(along, parts[0])

    def keep(self, labels: Labels, reason: str) -> int:
        """Never prune these channels; the number of them that could have been until now."""
        found = np.unique(self.roots(labels))
        free = [root for root in found.tolist() if not self.is_kept(np.array([root]))[0]]
        if free:
            marker = len(self._parent)
            self._parent.append(marker)
            self._reasons[marker] = reason
            self.join(np.array(free), np.full(len(free), marker))
        return len(free)

    def roots(self, labels: Labels) -> Labels:
        """The label that stands for all that are joined with each: [n] -> [n]."""
        return np.array([self._root(label) for label in labels.tolist()], np.int64)

    def is_kept(self, labels: Labels) -> Alive:
        """Which of the labels [n] can never be pruned."""
        kept = {self._root(marker) for marker in self._reasons}
        return np.array([root in kept for root in self.roots(labels).tolist()], np.bool_)

    def why_kept(self, labels: Labels) -> list[str]:
        """The reasons for which some of these labels can never be pruned."""
        roots = set(self.roots(labels).tolist())
        return sorted({reason for marker, reason in self._reasons.items() if self._root(marker) in roots})

    def slot(self, weight: Hashable, axis: int, role: Role, labels: Labels) -> Labels:
        """Note that `weight` has these channels along `axis`; where it is used again, both uses agree from now on."""
        known = self._slots.setdefault((weight, axis), Slot(weight, axis, role, labels))
        if known.labels is not labels:
            self.join(known.labels, labels)
        return known.labels

    def labels_of(self, weight: Hashable, axis: int) -> Labels | None:
        """The channels along an axis of a weight that was met before."""
        known = self._slots.get((weight, axis))
        return None if known is None else known.labels

    def everything(self) -> Alive:
        """Alive [labels]: nothing is pruned."""
        return np.ones(len(self._parent), np.bool_)

    def left(self, alive: Alive, labels: Labels) -> Alive:
        """Which of the labels [n] are left, given which classes are alive [labels]."""
        return alive[self.roots(labels)]

    def groups(self) -> list[Group]:
        """The channels that can be pruned, by the layers that make them; every one is in exactly one group.

        Channels of one layer that are tied to different others (one half summed with one layer, the other half with
        another) are different groups, so that every layer keeps the sum of what its groups keep.
        """
        members: dict[int, set[int]] = {}
        for number, space in enumerate(self.spaces):
            roots = self.roots(space.labels)
            for root in roots[~self.is_kept(space.labels)].tolist():
                members.setdefault(root, set()).add(number)
        together: dict[tuple[int, ...], list[int]] = {}
        for root, numbers in members.items():
            together.setdefault(tuple(sorted(numbers)), []).append(root)
        return [
            Group(
                "+".join(self.spaces[number].name for number in numbers),
                np.array(sorted(roots), np.int64),
                any(self.spaces[number].single for number in numbers),
            )
            for numbers, roots in sorted(together.items())
        ]

    def left_alone(self) -> list[Skipped]:
        """What cannot be pruned: the layers that stopped a group, and the layers whose channels are kept, with why."""
        found = list(self.skipped)
        for space in self.spaces:
            kept = self.is_kept(space.labels)
            if kept.any():
                why = "; ".join(self.why_kept(space.labels))
                found.append(Skipped(space.name, f"{int(kept.sum())} of its {len(kept)} channels stay: {why}"))
        return found

    def _root(self, label: int) -> int:
        parent = self._parent
        while parent[label] != label:
            parent[label] = parent[parent[label]]
            label = parent[label]
        return label


def macs(structure: Structure, alive: Alive) -> int:
    """Multiply-accumulate operations per example with only the alive channels left.

    Output positions * kernel size * input channels * output channels (Sze et al., "Efficient Processing of Deep
    Neural Networks", 2020, section 2), summed over layers.
    """
    total = 0
    for term in structure.terms:
        share = term.count
        for labels in term.axes:
            share *= int(np.count_nonzero(structure.left(alive, labels)))
        total += share
    return total


def saving(structure: Structure, group: Group) -> int:
    """The MACs that the first channel less of a group saves."""
    alive = structure.everything()
    whole = macs(structure, alive)
    alive[group.classes[0]] = False
    return whole - macs(structure, alive)


def positions(shape: Sequence[int | None], name: str) -> int:
    """The product of dimensions that MACs are counted over.

    Raises BadModel where one of them is not fixed.
    """
    total = 1
    for size in shape:
        if size is None:
            raise BadModel(
                f"{name} has a shape that is not fixed, so its MACs cannot be counted",
                "build the model for inputs of a fixed size; only the batch may stay open",
            )
        total *= size
    return total


def sliced(structure: Structure, weight: Hashable, values: npt.NDArray[Any], alive: Alive) -> npt.NDArray[Any]:
    """A weight without its dead channels."""
    for axis in range(values.ndim):
        labels = structure.labels_of(weight, axis)
        if labels is not None:
            values = np.compress(structure.left(alive, labels), values, axis)
    return values


def masked(structure: Structure, weight: Hashable, values: npt.NDArray[Any], alive: Alive) -> npt.NDArray[Any]:
    """A weight of the same shape that does not use the dead channels: what they hold no longer counts."""
    for slot in structure.slots:
        if slot.weight == weight and slot.role == "uses":
            left = structure.left(alive, slot.labels)
            values = values * np.expand_dims(left, [axis for axis in range(values.ndim) if axis != slot.axis])
    return values


def elementwise(flow: Flow, shape: Sequence[int]) -> Labels:
    """A label for every element of a tensor (shape without the batch)."""
    spread = [1] * len(shape)
    spread[flow.axis] = len(flow.labels)
    return np.broadcast_to(flow.labels.reshape(spread), tuple(shape))


def along_one_axis(labels: Labels) -> Flow | None:
    """The axis along which alone the elements' labels change, the last one first; None where there is none."""
    for axis in range(-1, -labels.ndim - 1, -1):
        line = np.moveaxis(labels, axis, -1).reshape(-1, labels.shape[axis])
        if np.array_equal(line, np.broadcast_to(line[0], line.shape)):
            return Flow(axis, line[0].copy())
    return None
