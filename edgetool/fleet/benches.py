"""The benchmarks that come back from devices: measured by `python -m edge bench`, kept here by device and release.

benches/SHA256[:16]/DEVICE-WHEN.json
"""

import json
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.durable import write_whole
from edge.report import from_plain, to_json
from edgetool.deploy.facts import Facts
from edgetool.fleet.ask import as_root, ask, facts
from edgetool.fleet.inventory import Fleet, state_folder
from edgetool.fleet.status import now
from edgetool.fleet.watcher import Watcher

OVERHEAD_S = 300.0  # to start the runtime's processes on a slow device
# What is compared between releases: each is a figure of `python -m edge bench` where less is better
METRICS = ("p50_ms", "p95_ms", "peak_rss_bytes")


@dataclass(frozen=True)
class Bench:
    """What a device measured of a release. `void` is why it may not be compared, None where it may."""

    device: str
    device_class: str
    bundle: str
    sha256: str
    release: str
    when: str
    void: str | None
    figures: dict[str, float]


@dataclass(frozen=True)
class Measured:
    """What one `edgetool fleet bench` brought."""

    benches: tuple[Bench, ...]
    failed: dict[str, str] = field(default_factory=dict)

    def as_text(self) -> str:
        """One line a device."""
        lines = []
        for one in self.benches:
            void = "" if one.void is None else f"  void: {one.void}"
            p50, p95 = one.figures["p50_ms"], one.figures["p95_ms"]
            lines.append(f"{one.device:<20}{one.bundle:<20}p50 {p50:.4g} ms  p95 {p95:.4g} ms{void}")
        lines += [f"{name:<20}{reason}" for name, reason in self.failed.items()]
        return "\n".join([*lines, f"{len(self.benches)} devices measured"])


async def measure(fleet: Fleet, seconds: float, watcher: Watcher) -> Measured:
    """Let each device that runs a release time it, all at the same time, and keep the results."""
    total = len(fleet.members)
    told = await facts(fleet, lambda count, name: watcher.doing(count / total, f"asking devices: {name}"))
    known = {name: found for name, found in told.items() if isinstance(found, Facts) and found.held.get("current")}
    failed = {name: found for name, found in told.items() if isinstance(found, str)}
    failed |= {name: "nothing is deployed there" for name in told if name not in known and name not in failed}
    commands = {name: _command(found, seconds) for name, found in known.items()}
    answers = await ask(
        fleet,
        commands,
        "",
        lambda count, name: watcher.doing(count / total, f"measuring: {name}"),
        seconds + OVERHEAD_S,
    )
    classes = {member.name: member.device_class for member in fleet.members}
    found_all = []
    for name, answer in answers.items():
        if answer.error is not None:
            failed[name] = answer.error
            continue
        try:
            found_all.append(_bench(name, classes[name], known[name], json.loads(answer.output)))
        except (ValueError, KeyError, TypeError) as error:
            failed[name] = f"what it measured cannot be read: {error}"
    for one in found_all:
        keep(state_folder(fleet), one)
    return Measured(tuple(sorted(found_all, key=lambda one: one.device)), failed)


def _command(found: Facts, seconds: float) -> str:
    current = f"{found.base}/current"
    words = f"{shlex.quote(current + '/start.py')} edge bench {shlex.quote(current + '/bundle.edge')}"
    return f"{as_root(found)}python3 -I {words} --json --seconds {seconds:g}"


def _bench(name: str, device_class: str, found: Facts, plain: dict[str, Any]) -> Bench:
    void = None
    if found.emulated:
        void = "emulated: its times say nothing about a real device"
    elif plain["throttled"]:
        void = "its clock was throttled while it measured"
    elif found.throttled:
        void = f"its firmware reports throttling or under-voltage (0x{found.throttled:x})"
    current = found.held["current"]
    figures = {metric: float(plain[metric]) for metric in METRICS if plain[metric] is not None}
    return Bench(name, device_class, current["name"], current["bundle"], current["release"], now(), void, figures)


def keep(folder: Path, bench: Bench) -> None:
    """Put a benchmark beside the others of its release."""
    place = folder / "benches" / bench.sha256[:16]
    place.mkdir(parents=True, exist_ok=True)
    write_whole(place / f"{bench.device}-{bench.when.replace(':', '')}.json", to_json(bench).encode())


def benches(folder: Path) -> list[Bench]:
    """Every benchmark that came back, the oldest first."""
    paths = sorted((folder / "benches").glob("*/*.json"))
    found: list[Bench] = [from_plain(Bench, json.loads(path.read_bytes())) for path in paths]
    return sorted(found, key=lambda one: (one.when, one.device))
