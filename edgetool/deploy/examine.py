"""What the doctor says of a device: whether it can be deployed to, and what is odd about it."""

from dataclasses import dataclass, field
from typing import Literal

from edge.report import to_json
from edgetool.deploy.facts import Facts
from edgetool.deploy.plan import notes, problems
from edgetool.units import format_bytes

State = Literal["ok", "note", "no"]


@dataclass(frozen=True)
class Line:
    """One thing about a device; `no` is a reason why nothing can be deployed there."""

    state: State
    what: str
    hint: str | None = None


@dataclass(frozen=True)
class Examined:
    """All that was found, and the verdict."""

    device: str
    emulated: bool
    lines: tuple[Line, ...]
    fit: bool
    schema: str = field(default="edgetool.device/1")

    def as_json(self) -> str:
        """The same as JSON."""
        return to_json(self).rstrip()

    def as_text(self) -> str:
        """A line each, the verdict in the last one."""
        shown = [f"{line.state:<5}{line.what}" + (f" ({line.hint})" if line.hint else "") for line in self.lines]
        verdict = "can be deployed to" if self.fit else "cannot be deployed to"
        return "\n".join([*shown, f"{self.device}: {verdict}"])


def examine(device: str, facts: Facts, now: float | None = None) -> Examined:
    """Examine a device by what it said. `now` is this machine's clock."""
    refusals = [Line("no", error.message, error.hint) for error in problems(facts, None, 0, now=now)]
    lines = [
        Line("ok", facts.description),
        Line("ok", f"{facts.cores} cores, {_size(facts.memory_bytes)} of memory"),
        *(_instruction(name, runs) for name, runs in facts.instructions.items()),
        Line("ok", f"governor {facts.governor or 'not stated'}, {_degrees(facts.temperature_c)}"),
        Line(
            "ok", f"releases in {facts.base} ({format_bytes(facts.free_bytes)} free), kept running by {facts.service}"
        ),
        Line("ok", _release(facts)),
    ]
    if facts.l4t is not None:
        lines.append(Line("ok", f"Jetson: {facts.l4t.splitlines()[0]}; power mode {facts.power_mode or 'not stated'}"))
    return Examined(
        device,
        facts.emulated,
        (*lines, *(Line("note", note) for note in notes(facts, now)), *refusals),
        fit=not refusals,
    )


def _instruction(name: str, runs: bool) -> Line:
    if runs:
        return Line("ok", f"{name} runs")
    return Line("note", f"{name} does not run (SIGILL): the processor lacks it, what is built for it dies there")


def _release(facts: Facts) -> str:
    current = facts.held.get("current")
    if current is None:
        return "no release"
    before = facts.held.get("previous")
    behind = f", before it {before['release']}" if before else ""
    return f"release {current['release']} ({current.get('name', 'damaged')}){behind}"


def _size(value: int | None) -> str:
    return "an unknown amount" if value is None else format_bytes(value)


def _degrees(value: float | None) -> str:
    return "temperature not stated" if value is None else f"{value:.1f} °C"
