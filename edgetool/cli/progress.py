"""The progress of a run on stderr: a live display on a terminal, plain lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from edgetool.progress import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

_LINE_EVERY_SECONDS = 10.0  # often enough to see life in a log, seldom enough to read it


class _Lines:
    """One line when a stage begins, and one every ten seconds within it."""

    def __init__(self) -> None:
        self._stages: list[str] = []
        self._number = 0
        self._name = ""
        self._started = self._printed = time.monotonic()

    def begin(self, stages: Sequence[str]) -> None:
        self._stages = list(stages)

    def stage(self, name: str) -> None:
        self._number = self._stages.index(name) + 1 if name in self._stages else self._number
        self._name = name
        self._print(name)

    def at(self, fraction: float, what: str) -> None:
        if time.monotonic() - self._printed >= _LINE_EVERY_SECONDS:
            self._print(f"{self._name}: {fraction:.0%}, {what}" if self._name else what)

    def _print(self, text: str) -> None:
        self._printed = time.monotonic()
        of = f"[{self._number}/{len(self._stages)}] " if self._stages else ""
        print(f"{self._printed - self._started:6.1f} s  {of}{text}", file=sys.stderr, flush=True)


class _Live:
    """Two bars: all stages, and the one at work with what it does."""

    def __init__(self, display: "RichProgress") -> None:
        self._display = display
        self._all = display.add_task("starting", total=1, visible=False)
        self._one = display.add_task("", total=1.0, visible=False)
        self._stages: list[str] = []

    def begin(self, stages: Sequence[str]) -> None:
        self._stages = list(stages)
        self._display.update(self._all, total=len(self._stages), completed=0, visible=True)

    def stage(self, name: str) -> None:
        done = self._stages.index(name) if name in self._stages else 0
        left = len(self._stages) - done - 1
        then = f", then {self._stages[done + 1]}" if left > 0 else ", the last step"
        title = f"step {done + 1} of {len(self._stages)}{then}" if self._stages else name
        self._display.update(self._all, description=title, completed=done, visible=True)
        self._display.reset(self._one, description=name, total=1.0, visible=True)

    def at(self, fraction: float, what: str) -> None:
        self._display.update(self._one, description=what, completed=fraction, visible=True)


@contextlib.contextmanager
def progress_display() -> Iterator[Progress]:
    """The display for one command; it is gone from a terminal when the command is done."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    columns = (TextColumn("{task.description:<58.58}"), BarColumn(bar_width=24), TimeElapsedColumn())
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as display:
        yield _Live(display)
