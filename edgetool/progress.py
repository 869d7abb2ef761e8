"""What a long job says about itself while it runs."""

from collections.abc import Callable, Sequence
from typing import Protocol

At = Callable[[float, str], None]
"""Called with the fraction done (0..1) and what is being done."""


class Progress(Protocol):
    """Told by a job where it stands. Stages are named in advance, so that what is left can be shown."""

    def begin(self, stages: Sequence[str]) -> None:
        """The names of all stages, in the order in which they will come."""
        ...

    def stage(self, name: str) -> None:
        """The stage `name` begins; the ones before it are done."""
        ...

    def at(self, fraction: float, what: str) -> None:
        """How far the stage is (0..1) and what is being done now."""
        ...


class Silent:
    """Says nothing; for callers that are not a terminal."""

    def begin(self, stages: Sequence[str]) -> None:
        """Nothing is shown."""

    def stage(self, name: str) -> None:
        """Nothing is shown."""

    def at(self, fraction: float, what: str) -> None:
        """Nothing is shown."""
