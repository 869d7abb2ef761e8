"""Joules, from what meters a machine has; None is "this machine has no meter".

Energy counters (Intel's RAPL, which AMD's driver serves too) are read at the ends; meters of power (INA219, INA226,
INA260, INA3221 behind hwmon, NVIDIA's tegrastats) are sampled and integrated by the trapezoid rule. Every reader
takes the root of the file system, so that the files of another board can be read as well.
Sources: the kernel's Documentation/power/powercap/powercap.rst, Documentation/hwmon/ina2xx.rst and ina3221.rst.
"""

import contextlib
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

ROOT = Path("/")
SAMPLE_EVERY_S = 0.02  # RAPL counts every millisecond; an INA219 averages over some
SENSORS = frozenset({"ina209", "ina219", "ina220", "ina226", "ina230", "ina231", "ina260", "ina3221"})
# The rail that feeds all others, as Jetson boards label it; without one the channels are summed
WHOLE_BOARD = ("VDD_IN", "POM_5V_IN", "SYS_VIN_HV", "VIN_SYS_5V0")
_RAIL = re.compile(r"([A-Z][A-Z0-9_]+) (\d+)(?:mW)?/\d+(?:mW)?")


class Meter(Protocol):
    """Adds up energy between samples."""

    @property
    def method(self) -> str:
        """The meter and what it covers, as a report says it."""
        ...

    def sample(self, now_s: float) -> float:
        """Joules since the first sample, at the time `now_s`. Must be called at least once a minute."""
        ...


@dataclass(frozen=True)
class Energy:
    """What one inference took. `joules_per_inference` has the idle machine's power subtracted."""

    joules_per_inference: float
    method: str
    idle_watts: float
    busy_watts: float
    seconds: float
    n: int


class Rapl:
    """The packages' energy counters in microjoules, which start again at 0 behind `max_energy_range_uj`."""

    method = "RAPL: processor packages"

    def __init__(self, root: Path = ROOT) -> None:
        # intel-rapl:0 is a package, intel-rapl:0:0 a part of it; psys would count the packages a second time
        zones = sorted((root / "sys/class/powercap").glob("intel-rapl:*"))
        whole = [zone for zone in zones if zone.name.count(":") == 1 and _text(zone / "name").startswith("package")]
        self._zones = [zone for zone in whole if _number(zone / "energy_uj") is not None]
        self._ranges = [_number(zone / "max_energy_range_uj") or 0 for zone in self._zones]
        self._last: list[int] = []
        self._joules = 0.0

    @property
    def present(self) -> bool:
        """Whether there is a counter that this user may read (since 2020 the kernel lets only root)."""
        return bool(self._zones)

    def sample(self, now_s: float) -> float:  # a counter needs no clock
        counts = [_number(zone / "energy_uj") or 0 for zone in self._zones]
        for before, after, span in zip(self._last, counts, self._ranges, strict=False):
            self._joules += (after - before if after >= before else after - before + span) / 1e6
        self._last = counts
        return self._joules


class Power:
    """A meter of power, integrated. `watts` reads it."""

    def __init__(self, method: str, watts: Callable[[], float]) -> None:
        self.method = method
        self._watts = watts
        self._last: tuple[float, float] | None = None
        self._joules = 0.0

    def sample(self, now_s: float) -> float:
        watts = self._watts()
        if self._last is not None:
            then_s, before = self._last
            self._joules += (now_s - then_s) * (before + watts) / 2
        self._last = (now_s, watts)
        return self._joules


def sensor(root: Path = ROOT) -> Power | None:
    """The first INA chip behind hwmon, or None. The whole board's rail where one is labelled so, else all channels."""
    for folder in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        name = _text(folder / "name")
        if name not in SENSORS:
            continue
        channels = {label: read for label, read in _channels(folder) if read() is not None}
        if not channels:
            continue
        rail = next((label for label in WHOLE_BOARD if label in channels), None)
        covers = [rail] if rail is not None else sorted(channels)
        return Power(f"{name.upper()} (hwmon): {' + '.join(covers)}", partial(_sum, [channels[one] for one in covers]))
    return None


def _sum(reads: Sequence[Callable[[], float | None]]) -> float:
    return sum(read() or 0.0 for read in reads)


def _channels(folder: Path) -> Iterator[tuple[str, Callable[[], float | None]]]:
    """Watts of each channel: told in microwatts, or as millivolts times milliamperes."""
    for path in sorted(folder.glob("power*_input")):
        label = _text(folder / path.name.replace("input", "label")) or path.name.removesuffix("_input")
        yield label, partial(_microwatts, path)
    if list(folder.glob("power*_input")):
        return
    for amperes in sorted(folder.glob("curr*_input")):
        number = amperes.name.removeprefix("curr").removesuffix("_input")
        volts = folder / f"in{number}_input"
        if not volts.is_file():  # INA3221: in4 to in7 are shunt voltages, in1 to in3 the buses'
            continue
        label = _text(folder / f"in{number}_label") or f"channel {number}"
        yield label, partial(_product, amperes, volts)


def _microwatts(path: Path) -> float | None:
    value = _number(path)
    return None if value is None else value / 1e6


def _product(amperes: Path, volts: Path) -> float | None:
    milliamperes, millivolts = _number(amperes), _number(volts)
    return None if milliamperes is None or millivolts is None else milliamperes * millivolts / 1e6


def tegrastats(root: Path = ROOT) -> Power | None:
    """NVIDIA's tegrastats, where it is installed and prints a rail of the whole board."""
    program = root / "usr/bin/tegrastats"
    if not program.is_file() or tegrastats_watts(_tegrastats_line(program)) is None:
        return None
    return Power("tegrastats: the whole board", lambda: tegrastats_watts(_tegrastats_line(program)) or 0.0)


def tegrastats_watts(line: str) -> float | None:
    """Watts of the whole board in a line of tegrastats: `... VDD_IN 4940mW/4940mW ...` -> 4.94."""
    rails = {name: int(now) for name, now in _RAIL.findall(line)}
    return next((rails[name] / 1e3 for name in WHOLE_BOARD if name in rails), None)


def _tegrastats_line(program: Path) -> str:
    """The next line it prints; it prints for ever, so it is ended."""
    try:
        process = subprocess.Popen(
            [str(program), "--interval", "50"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
    except OSError:
        return ""
    with process:
        try:
            return process.stdout.readline() if process.stdout is not None else ""
        finally:
            process.kill()


def meter(root: Path = ROOT) -> Meter | None:
    """The meter that covers most: a sensor of the board, else tegrastats, else the processor's counters, else None."""
    board = sensor(root) or tegrastats(root)
    if board is not None:
        return board
    rapl = Rapl(root)
    return rapl if rapl.present else None


def measure(one: Meter, work: Callable[[float], int], *, seconds: float, idle_seconds: float) -> Energy:
    """Joules of one inference: of `work(seconds)`, which says how many it made, less the idle power before it."""
    start_s, start = time.monotonic(), one.sample(time.monotonic())
    end_s, end = _sampled(one, lambda: time.sleep(idle_seconds))
    idle_watts = (end - start) / (end_s - start_s)
    calls: list[int] = []
    start_s, start = time.monotonic(), one.sample(time.monotonic())
    end_s, end = _sampled(one, lambda: calls.append(work(seconds)))
    elapsed, joules = end_s - start_s, end - start
    return Energy(
        joules_per_inference=(joules - idle_watts * elapsed) / calls[0],
        method=f"{one.method}; idle power of {idle_seconds:g} s before it subtracted",
        idle_watts=idle_watts,
        busy_watts=joules / elapsed,
        seconds=elapsed,
        n=calls[0],
    )


def _sampled(one: Meter, action: Callable[[], None]) -> tuple[float, float]:
    """Run `action` while a thread samples; the time and the joules at the end."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(SAMPLE_EVERY_S):
            one.sample(time.monotonic())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        action()
    finally:
        done.set()
        thread.join()
    now = time.monotonic()
    return now, one.sample(now)


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text("utf-8", "replace").strip()
    return ""


def _number(path: Path) -> int | None:
    with contextlib.suppress(ValueError):
        return int(_text(path))
    return None
