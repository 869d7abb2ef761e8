"""Repair before post-training int8: the same function in weights that integers hold better.

Every repair takes a float .tflite and gives a float .tflite, so any number of them can stand before a quantization.
"""

from dataclasses import dataclass

from edge.report import Skipped


@dataclass(frozen=True)
class Repaired:
    """A repaired model, what was repaired (a figure for each layer, by name) and what was not, with the reason."""

    model: bytes
    figures: dict[str, float]
    skipped: tuple[Skipped, ...] = ()
