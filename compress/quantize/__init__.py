"""Post-training quantization: one algorithm, one file. Models go in and come out as bytes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from edge.report import Skipped

# A fresh iterator of {input name: [1, ...]} on every call, so that no list of samples is ever held.
Samples = Callable[[], Iterator[dict[str, npt.NDArray[Any]]]]


@dataclass(frozen=True)
class Quantized:
    """A quantized model and what stayed float in it, with the reason."""

    model: bytes
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True)
class OpCount:
    """Operations that compute on integers (or on integer weights), and those that stayed float.

    `float_ops` maps the name of each operation that stayed float to how many there are.
    """

    quantized: int
    float_ops: dict[str, int]

    @property
    def floating(self) -> int:
        """How many operations stayed float."""
        return sum(self.float_ops.values())
