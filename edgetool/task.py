"""A task: the data a model is judged on, how raw files become its inputs, and its metric."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edge.preprocess import Preprocess
from edgetool.metrics import Metric

Batch = dict[str, npt.NDArray[Any]]


class Examples(Protocol):
    """One split, read in order. Files are decoded when they are asked for, so memory stays flat."""

    @property
    def n(self) -> int:
        """How many examples there are."""
        ...

    @property
    def groups(self) -> npt.NDArray[np.int64] | None:
        """The person, speaker or source of every example, where examples hang together: [n]."""
        ...

    def labels(self) -> npt.NDArray[Any]:
        """All labels or target values: [n, ...]."""
        ...

    def take(self, indices: npt.NDArray[np.int64]) -> tuple[Batch, npt.NDArray[Any]]:
        """The preprocessed inputs by name, [k, ...] each, and the labels [k, ...] of some examples."""
        ...


@dataclass(frozen=True)
class Task:
    """What a model is for. `preprocess` maps each input's name to what turns a raw file into it;
    `labels` are the names of the classes, empty where the task is not a classification.
    """

    name: str
    train: Examples
    val: Examples
    test: Examples
    metric: Metric
    preprocess: Mapping[str, Preprocess]
    labels: tuple[str, ...]
    sha256: str = ""


def batches(
    examples: Examples, size: int, order: npt.NDArray[np.int64] | None = None
) -> Iterator[tuple[Batch, npt.NDArray[Any]]]:
    """The examples in batches of `size` (the last may be smaller), in `order` where one is given."""
    indices = np.arange(examples.n) if order is None else order
    for start in range(0, len(indices), size):
        yield examples.take(indices[start : start + size])
