"""Engines: one runtime each behind one small Protocol. `open_engine` picks the one for a format."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edge.report import Placement
from edge.tensors import TensorSpec

Feeds = Mapping[str, npt.NDArray[Any]]


class Engine(Protocol):
    """A model loaded into a runtime, ready to run one batch at a time."""

    @property
    def name(self) -> str:
        """"litert", "onnxruntime", …"""
        ...

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...

    def run(self, feeds: Feeds) -> dict[str, npt.NDArray[Any]]:
        """Inputs by name, with batch axis and in the dtype of their spec, to outputs by name (owned by the caller)."""
        ...

    def placement(self) -> Placement:
        """Where the operations really ran, from the runtime's own record."""
        ...

    def close(self) -> None: ...
