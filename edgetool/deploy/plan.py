"""What a deploy would do, and why it cannot be done: decided from facts, before anything is changed."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from edge.bundle import Manifest
from edge.errors import BadInput, DiskFull, EdgetoolError
from edge.target import OLDEST_PYTHON, TARGETS
from edgetool.deploy.facts import Facts
from edgetool.deploy.wheels import Wheel
from edgetool.units import format_bytes

NEWEST_PYTHON = (3, 14)
MARGIN_BYTES = 16 << 20
# The model itself is in memory twice while it is unpacked; a runtime with numpy takes some 60 MB (LiteRT, Debian 12)
RUNTIME_BYTES = 64 << 20
WRONG_CLOCK_S = 24 * 3600.0
# Certificates, expiry of updates and every log would be wrong; a board without a battery that never saw NTP
REFUSED_CLOCK_S = 365 * 24 * 3600.0
_BITS = {"aarch64": 64, "x86_64": 64, "armv7l": 32, "armv6l": 32, "i686": 32}


@dataclass(frozen=True)
class Plan:
    """What has to move: the wheels and the bundle's segments that the device lacks, in bytes; what is noted."""

    wheels: tuple[Wheel, ...]
    wheel_bytes: int
    bundle_bytes: int
    disk_bytes: int
    notes: tuple[str, ...]


def refuse(facts: Facts, manifest: Manifest, model_bytes: int) -> None:
    """Refuse a device that the bundle does not fit, by what the device said of itself.

    Raises:
        BadInput: its architecture, Python, C library, memory, rights or clock will not do.

    """
    for error in problems(facts, manifest.target, model_bytes):
        raise error


def problems(facts: Facts, target: str | None, model_bytes: int, *, now: float | None = None) -> list[EdgetoolError]:
    """All reasons why a bundle for `target` cannot be deployed there (None: any), the weightiest first; `now` is this
    machine's clock.
    """
    found: list[EdgetoolError] = []
    if facts.bits != 64 or _BITS.get(facts.machine) == 32:
        found.append(
            BadInput(
                f"the device has a 32-bit userland ({facts.machine}, {facts.bits} bits)",
                "there are no wheels of LiteRT, ONNX Runtime or numpy for it: install the 64-bit system",
            )
        )
    arch = TARGETS[target].arch if target in TARGETS else None
    if arch is not None and facts.machine != arch:
        found.append(
            BadInput(
                f"the bundle is for {target} ({arch}), the device is {facts.machine}",
                f"make one for it: edgetool compress --target generic-{facts.machine}",
            )
        )
    python = ".".join(map(str, facts.python))
    if facts.python[:2] < OLDEST_PYTHON or facts.implementation != "cpython":
        found.append(
            BadInput(
                f"the device has {facts.implementation} {python}; CPython 3.10 is the oldest that works",
                "install a newer system, or a python3 of 3.10 to 3.14",
            )
        )
    elif facts.python[:2] > NEWEST_PYTHON:
        found.append(BadInput(f"the device has Python {python}; 3.14 is the newest that has wheels"))
    if facts.glibc is None:
        found.append(
            BadInput(f"the device's C library is {facts.libc[0] or 'unknown'}", "wheels need glibc (not musl)")
        )
    if facts.systemd and not facts.root:
        found.append(
            BadInput(
                "the user may not become root by sudo without a password, and systemd's unit needs root",
                "add a rule to sudoers, or deploy as root",
            )
        )
    off = _clock_off_s(facts, now)
    if abs(off) > REFUSED_CLOCK_S:
        found.append(
            BadInput(
                f"the device's clock is {_days(off)}: certificates and updates cannot be judged there",
                "set it: ssh DEVICE sudo date -s @$(date +%s), or let it use NTP",
            )
        )
    need = RUNTIME_BYTES + 2 * model_bytes
    if facts.memory_bytes is not None and facts.memory_bytes < need:
        found.append(
            BadInput(
                f"the device has {format_bytes(facts.memory_bytes)} of memory, the model needs {format_bytes(need)}"
            )
        )
    return found


def make(
    facts: Facts, wheels: Sequence[Wheel], bundle_bytes: int, lacking_bytes: int, *, now: float | None = None
) -> Plan:
    """What has to move to the device.

    Args:
        facts: the device.
        wheels: what the release needs.
        bundle_bytes: of the whole bundle, which stands on the device's disk.
        lacking_bytes: of the bundle's segments that the device has not.
        now: this machine's clock.

    Raises:
        DiskFull: it does not fit on the device's disk.

    """
    held = set(facts.held.get("packages", ()))
    lacking = tuple(wheel for wheel in wheels if wheel.sha256 not in held)
    largest = max((wheel.size for wheel in lacking), default=0)
    disk = sum(wheel.unpacked for wheel in lacking) + largest + bundle_bytes + MARGIN_BYTES
    if disk > facts.free_bytes:
        raise DiskFull(
            f"the device has {format_bytes(facts.free_bytes)} free at {facts.base}, this needs {format_bytes(disk)}",
            "free some space there, or give another folder: ssh://user@host/FOLDER",
        )
    return Plan(lacking, sum(wheel.size for wheel in lacking), lacking_bytes, disk, notes(facts, now))


def notes(facts: Facts, now: float | None = None) -> tuple[str, ...]:
    """What is no reason to refuse, and has to be known."""
    found = []
    if facts.emulated:
        found.append("the device is emulated: its times say nothing about a real one")
    if not facts.systemd:
        found.append("systemd is not PID 1 there: edge.supervisor keeps the release running")
    off = _clock_off_s(facts, now)
    if abs(off) > WRONG_CLOCK_S:
        found.append(f"its clock is {_days(off)}: updates that it fetches may be refused as expired or as new")
    if facts.throttled:
        found.append(
            f"its firmware reports throttling or under-voltage (0x{facts.throttled:x}): look at its power supply"
        )
    if facts.held.get("trial"):
        found.append("a deploy before this one was cut: its release is not confirmed, and goes")
    return tuple(found)


def _clock_off_s(facts: Facts, now: float | None) -> float:
    return facts.time - (time.time() if now is None else now)


def _days(off_s: float) -> str:
    return f"{abs(off_s) / 86400:.0f} days {'ahead' if off_s > 0 else 'behind'}"
