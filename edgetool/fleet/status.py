"""What each device of a fleet runs now, and how it is."""

import datetime as dt
from dataclasses import dataclass, field

from edgetool.deploy import plan
from edgetool.deploy.facts import Facts
from edgetool.fleet.ask import facts, health
from edgetool.fleet.inventory import Fleet
from edgetool.fleet.watcher import Watcher


@dataclass(frozen=True)
class DeviceStatus:
    """One device. `problem` is why it is not healthy, None where it is; what is not known is None."""

    name: str
    device_class: str
    address: str
    reached: bool
    problem: str | None
    description: str | None = None
    emulated: bool | None = None
    bundle: str | None = None
    sha256: str | None = None
    release: str | None = None
    ms: float | None = None
    starts: int | None = None
    temperature_c: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FleetStatus:
    """All devices, in the order of the fleet's file."""

    fleet: str
    when: str
    devices: tuple[DeviceStatus, ...]
    schema: str = field(default="edgetool.fleet-status/1")

    def as_text(self) -> str:
        """A table, and how many run what."""
        rows = [("device", "class", "release", "bundle", "answers in", "state")]
        for one in self.devices:
            ms = "" if one.ms is None else f"{one.ms:.3g} ms{' (emulated)' if one.emulated else ''}"
            state = "healthy" if one.problem is None else one.problem
            rows.append((one.name, one.device_class, one.release or "", one.bundle or "", ms, state))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        counts: dict[str, int] = {}
        for one in self.devices:
            runs = f"{one.bundle} ({one.sha256[:8]})" if one.bundle and one.sha256 else "nothing known"
            counts[runs] = counts.get(runs, 0) + 1
        lines.append(", ".join(f"{count} of {len(self.devices)} run {runs}" for runs, count in counts.items()))
        return "\n".join(lines)


async def look(fleet: Fleet, watcher: Watcher) -> FleetStatus:
    """Ask every device what it is and its service whether it is healthy."""
    total = len(fleet.members)
    told = await facts(fleet, lambda count, name: watcher.doing(count / total, f"asking devices: {name}"))
    known = {name: found for name, found in told.items() if isinstance(found, Facts)}
    serving = {name: found for name, found in known.items() if found.held.get("current")}
    answers = await health(fleet, serving, lambda count, name: watcher.doing(count / total, f"asking services: {name}"))
    devices = []
    for member in fleet.members:
        found = told[member.name]
        if isinstance(found, str):
            lost = DeviceStatus(member.name, member.device_class, str(member.address), reached=False, problem=found)
            devices.append(lost)
            continue
        current = found.held.get("current") or {}
        answer = answers.get(member.name)
        devices.append(
            DeviceStatus(
                member.name,
                member.device_class,
                str(member.address),
                reached=True,
                problem="nothing is deployed there" if answer is None else answer.problem,
                description=found.description,
                emulated=found.emulated,
                bundle=current.get("name"),
                sha256=current.get("bundle"),
                release=current.get("release"),
                ms=None if answer is None else answer.ms,
                starts=None if answer is None else answer.starts,
                temperature_c=None if answer is None else answer.temperature_c,
                notes=plan.notes(found),
            )
        )
    return FleetStatus(fleet.name, now(), tuple(devices))


def now() -> str:
    """The time in UTC, to the second."""
    return dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")
