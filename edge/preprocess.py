"""From a raw file or row to a model's input: one code for training and for the device.

Each step is a frozen dataclass with a `kind`, called on raw data, written to and read from the bundle as JSON.
"""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


class Preprocess(Protocol):
    """Turns one raw example into one input of the model, without the batch axis."""

    @property
    def kind(self) -> str:
        """The name under which the step is stored in a bundle."""
        ...

    def __call__(self, raw: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """One raw example (decoded picture, samples, row) to the input that the model takes."""
        ...
