"""Two kinds of splits: arrays in memory, and files that are decoded when they are asked for."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.preprocess import ArrayInput, Preprocess
from edgetool.task import Batch

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ArrayExamples:
    """Raw arrays [n, ...] by input, targets [n, ...], and the steps that make inputs of them."""

    arrays: Mapping[str, npt.NDArray[Any]]
    targets: npt.NDArray[Any]
    steps: Mapping[str, Preprocess]
    groups: npt.NDArray[np.int64] | None = None

    @property
    def n(self) -> int:
        """How many examples there are."""
        return len(self.targets)

    def labels(self) -> npt.NDArray[Any]:
        """All targets [n, ...]."""
        return self.targets

    def take(self, indices: Indices) -> tuple[Batch, npt.NDArray[Any]]:
        """The inputs by name, [k, ...] each, and the targets of some examples."""
        batch = {name: _apply(self.steps[name], array[indices]) for name, array in self.arrays.items()}
        return batch, self.targets[indices]

    def content(self) -> Iterator[bytes]:
        """All that decides what `take` gives, apart from the steps: what a task's hash covers."""
        named = {**self.arrays, "": self.targets, **({} if self.groups is None else {"groups": self.groups})}
        for name, array in sorted(named.items()):
            yield f"{name} {array.dtype.str} {array.shape}\n".encode()
            for start in range(0, len(array), 4096):  # in blocks: a view may have to be copied to be hashed
                yield np.ascontiguousarray(array[start : start + 4096]).tobytes()


@dataclass(frozen=True, eq=False)
class FileExamples:
    """Files with one label each, for a model with one input. `digests` are the sha256 of the files."""

    files: tuple[Path, ...]
    digests: tuple[str, ...]
    targets: npt.NDArray[Any]
    input_name: str
    read: Callable[[Path], npt.NDArray[Any]]
    step: Preprocess

    @property
    def n(self) -> int:
        """How many examples there are."""
        return len(self.files)

    @property
    def groups(self) -> npt.NDArray[np.int64] | None:
        """None: a folder does not say which files hang together."""
        return None

    def labels(self) -> npt.NDArray[Any]:
        """All labels [n]."""
        return self.targets

    def take(self, indices: Indices) -> tuple[Batch, npt.NDArray[Any]]:
        """Decode some files: the input [k, ...] by its name, and their labels.

        Raises:
            BadData: a file has been damaged or deleted since the task was loaded.

        """
        inputs = np.stack([self.step(self.read(self.files[index])) for index in indices])
        return {self.input_name: inputs}, self.targets[indices]

    def content(self) -> Iterator[bytes]:
        """The label and the hash of every file: what a task's hash covers."""
        for digest, target in zip(self.digests, self.targets.tolist(), strict=True):
            yield f"{digest} {target}\n".encode()


def _apply(step: Preprocess, raw: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if isinstance(step, ArrayInput):  # works element by element, so a whole batch at once is the same
        return step(raw)
    return np.stack([step(example) for example in raw])
