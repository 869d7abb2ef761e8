"""What this machine is and how it is doing, from /proc and /sys; None is "this machine does not say".

Every function takes the root of the file system, so that the files of another board can be read as well.
"""

import contextlib
import os
import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from edge.report import Environment

ROOT = Path("/")
CPU = Path("sys/devices/system/cpu")
PACKAGES = (
    "numpy",
    "ai-edge-litert",
    "tflite-runtime",
    "onnxruntime",
    "keras",
    "litert-quantizer",
    "onnx",
    "tensorflow",
    "tensorflow-model-optimization",
    "tf-keras",
    "tf2onnx",
)
# Raspberry Pi firmware, "get_throttled": under-voltage, frequency capped, throttled, soft temperature limit
PI_NOW = 0xF
PI_SINCE_BOOT = 16  # the same four, from this bit on
NO_INT8 = "no int8 dot product"


@dataclass(frozen=True)
class Clocks:
    """Frequencies of the first core, the hottest thermal zone, and how often the processor throttled so far.

    `throttle_events` counts since boot (x86); `limited_now` is the firmware's word (Raspberry Pi), `limited_since_boot`
    its bits of what has occurred since the last start: under-voltage, frequency capped, throttled, soft limit.
    """

    current_mhz: float | None
    min_mhz: float | None
    max_mhz: float | None
    temperature_c: float | None
    throttle_events: int | None
    limited_now: bool | None
    limited_since_boot: int | None = None


def environment(root: Path = ROOT) -> Environment:
    """The machine and the versions of what runs on it; packages are looked up, not imported."""
    return Environment(
        cpu=", ".join(filter(None, (cpu_model(root), int8_instructions(root)))),
        cores=len(os.sched_getaffinity(0)),
        load=os.getloadavg()[0],
        governor=_text(root / CPU / "cpu0/cpufreq/scaling_governor"),
        os=_os(),
        python=platform.python_version(),
        versions=versions(PACKAGES),
    )


def versions(packages: Iterable[str]) -> dict[str, str]:
    """The versions of those packages that are installed, without importing them."""
    found = {}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def cpu_model(root: Path = ROOT) -> str:
    """The processor's name as the kernel gives it, else the board's, else the architecture."""
    lines = (_text(root / "proc/cpuinfo") or "").splitlines()
    facts = {key.strip(): value.strip() for key, found, value in (line.partition(":") for line in lines) if found}
    board = (_text(root / "proc/device-tree/model") or "").rstrip("\0")
    return facts.get("model name") or facts.get("Model") or board or facts.get("Hardware") or platform.machine()


def int8_instructions(root: Path = ROOT) -> str | None:
    """The instructions that int8 kernels are fast by, or that there are none; None where the kernel lists none at all.

    A figure of int8 against float32 is of a kind of processor: VNNI (x86), SDOT and I8MM (Arm).
    """
    text = _text(root / "proc/cpuinfo") or ""
    listed = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    if listed is None:
        return None
    flags = set(listed[1].split())
    known = {"avx512_vnni": "VNNI", "avx_vnni": "VNNI", "asimddp": "SDOT", "i8mm": "I8MM"}
    found = [name for flag, name in known.items() if flag in flags]
    return " and ".join(dict.fromkeys(found)) or NO_INT8


def nvidia_driver(root: Path = ROOT) -> str | None:
    """The version of NVIDIA's kernel driver, None without one."""
    found = re.search(r"\b\d+\.\d+(\.\d+)?\b", _text(root / "proc/driver/nvidia/version") or "")
    return found[0] if found else None


def clocks(root: Path = ROOT) -> Clocks:
    """Frequency, temperature and throttling right now."""
    cpufreq = root / CPU / "cpu0/cpufreq"
    degrees = [_number(zone) for zone in (root / "sys/class/thermal").glob("thermal_zone*/temp")]
    events = [_number(count) for count in (root / CPU).glob("cpu*/thermal_throttle/core_throttle_count")]
    flags = _text(root / "sys/devices/platform/soc/soc:firmware/get_throttled")
    return Clocks(
        current_mhz=_scaled(_number(cpufreq / "scaling_cur_freq"), 1e-3),
        min_mhz=_scaled(_number(cpufreq / "cpuinfo_min_freq"), 1e-3),
        max_mhz=_scaled(_number(cpufreq / "cpuinfo_max_freq"), 1e-3),
        temperature_c=max((d * 1e-3 for d in degrees if d is not None), default=None),
        throttle_events=sum(e for e in events if e is not None) if any(e is not None for e in events) else None,
        limited_now=bool(int(flags, 16) & PI_NOW) if flags else None,
        limited_since_boot=int(flags, 16) >> PI_SINCE_BOOT & PI_NOW if flags else None,
    )


def throttled(before: Clocks, after: Clocks) -> bool | None:
    """Whether the processor was throttled between two readings; None where nothing counts or tells it."""
    told = [clock.limited_now for clock in (before, after) if clock.limited_now is not None]
    if before.throttle_events is not None and after.throttle_events is not None:
        told.append(after.throttle_events > before.throttle_events)
    if before.limited_since_boot is not None and after.limited_since_boot is not None:
        told.append(bool(after.limited_since_boot & ~before.limited_since_boot))  # between the two readings
    return any(told) if told else None


def busy_seconds(root: Path = ROOT) -> float | None:
    """Processor time that all processes of the machine together used since boot, over all cores."""
    line = (_text(root / "proc/stat") or "").partition("\n")[0].split()
    if len(line) < 9 or line[0] != "cpu":
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(ticks) for ticks in line[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _os() -> str:
    try:
        name = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        name = platform.system()
    return f"{name}, {platform.system()} {platform.release()} {platform.machine()}"


def _text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return None


def _number(path: Path) -> int | None:
    try:
        return int(_text(path) or "")
    except ValueError:
        return None


def _scaled(value: int | None, factor: float) -> float | None:
    return None if value is None else value * factor
