"""A rollout on stderr: the whole fleet in one picture on a terminal, one line for each event elsewhere."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgetool.fleet.rollout import DeviceState, Rollout
from edgetool.fleet.watcher import Watcher
from edgetool.fleet.words import changes

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_LINE_EVERY_S = 10.0
_ROWS = 12  # devices at work that are shown one by one
# A letter for each state too: readable without colour
_CELLS = {
    "updated": ("#", "green"),
    "updating": ("+", "cyan"),
    "waiting": (".", "dim"),
    "failed": ("X", "bold red"),
    "unreached": ("?", "yellow"),
}


class _Lines:
    """One line when something happened, and one every ten seconds while something takes long."""

    def __init__(self) -> None:
        self._before: Rollout | None = None
        self._began = self._printed = time.monotonic()
        self._what = ""

    def doing(self, fraction: float, what: str) -> None:
        kind = what.partition(":")[0]
        if kind != self._what or time.monotonic() - self._printed >= _LINE_EVERY_S:
            self._what = kind
            self.note(f"{kind}: {fraction:.0%}" if fraction else kind)

    def state(self, rollout: Rollout) -> None:
        for line in changes(self._before, rollout):
            self.note(line)
        self._before = rollout

    def step(self, device: DeviceState, fraction: float, what: str) -> None:
        if time.monotonic() - self._printed >= _LINE_EVERY_S:
            self.note(f"{device.name}: {what}, {fraction:.0%}")

    def note(self, text: str) -> None:
        self._printed = time.monotonic()
        print(f"{self._printed - self._began:6.1f} s  {text}", file=sys.stderr, flush=True)


class _Live:
    """A cell for each device, wave after wave, and a row for each that is at work."""

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._rollout: Rollout | None = None
        self._steps: dict[str, tuple[float, str]] = {}
        self._began: dict[str, float] = {}
        self._doing = (0.0, "asking devices")

    def doing(self, fraction: float, what: str) -> None:
        self._doing = (fraction, what)

    def state(self, rollout: Rollout) -> None:
        for line in changes(self._rollout, rollout):
            if "updating" not in line:
                self.note(line)
        self._rollout = rollout
        self._doing = (0.0, "")

    def step(self, device: DeviceState, fraction: float, what: str) -> None:
        self._began.setdefault(device.name, time.monotonic())
        self._steps[device.name] = (fraction, what)

    def note(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False)

    def __rich__(self) -> "RenderableType":
        from rich.console import Group
        from rich.text import Text

        fraction, what = self._doing
        head = Text(f"{what}  {fraction:.0%}" if what else "")
        if self._rollout is None:
            return head
        return Group(self._cells(self._rollout), *self._rows(self._rollout), head)

    def _cells(self, rollout: Rollout) -> "RenderableType":
        from rich.text import Text

        line = Text()
        for number, device in enumerate(rollout.devices):
            if number in rollout.targets:
                line.append(" | ", style="dim")
            sign, style = _CELLS[device.state]
            line.append(sign, style=style)
        done, total = rollout.count("updated"), len(rollout.devices)
        wave = min(rollout.proven + 1, len(rollout.targets))
        line.append(f"   wave {wave} of {len(rollout.targets)}, {done} of {total} updated", style="bold")
        for state in ("failed", "unreached"):
            if rollout.count(state):
                line.append(f", {rollout.count(state)} {state}", style=_CELLS[state][1])
        return line

    def _rows(self, rollout: Rollout) -> "list[RenderableType]":
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        at_work = rollout.having("updating")
        table = Table.grid(padding=(0, 2))
        for device in at_work[:_ROWS]:
            fraction, what = self._steps.get(device.name, (0.0, "connecting"))
            seconds = time.monotonic() - self._began.get(device.name, time.monotonic())
            bar = ProgressBar(total=1.0, completed=fraction, width=20, pulse=fraction == 0.0)
            table.add_row(f"{device.name}", device.device_class, bar, what, f"{seconds:4.0f} s")
        more = len(at_work) - _ROWS
        if more > 0:
            table.add_row(f"and {more} more")
        return [table]


@contextlib.contextmanager
def fleet_display() -> Iterator[Watcher]:
    """The display for one rollout."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    shown = _Live(console)
    with Live(shown, console=console, refresh_per_second=8, transient=True):
        yield shown
