"""What a public page says that a delegate takes: the form of the tables in `edgetool.doctor.tables`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from convert.census import Operation


@dataclass(frozen=True)
class Problem:
    """Why one operation will not be accelerated, and what to change."""

    reason: str
    change: str


Check = Callable[[Operation], Problem | None]


@dataclass(frozen=True)
class Table:
    """One delegate's operations, each with its constraint in the page's sense ("" for none).

    `checks` see in the file whether a constraint is met; one that no check sees is told as a condition. `once` is
    True where nothing behind the first refused operation is accelerated. `compiler` is what has the last word.
    """

    delegate: str
    format: str
    source: str
    operations: Mapping[str, str]
    checks: tuple[Check, ...] = ()
    once: bool = False
    compiler: str | None = None


def names(text: str) -> dict[str, str]:
    """Operations without a constraint, from a list of names."""
    return dict.fromkeys(text.split(), "")
