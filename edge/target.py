"""Device profiles. One literal table; deployment adds what it probes and installs."""

import platform
from dataclasses import dataclass

from edge.errors import UnknownName


@dataclass(frozen=True)
class Target:
    """A device: `arch` as `uname -m` prints it, `memory_bytes` of main memory (None: unknown), and the
    engines that can run on it, the preferred one first.
    """

    name: str
    arch: str
    cores: int | None
    memory_bytes: int | None
    engines: tuple[str, ...] = ("litert", "onnxruntime")


_GB = 10**9

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("generic-aarch64", "aarch64", None, None),
        Target("generic-x86_64", "x86_64", None, None),
        Target("jetson-orin-agx", "aarch64", 12, 64 * _GB, ("onnxruntime", "litert")),
        Target("jetson-orin-nano", "aarch64", 6, 8 * _GB, ("onnxruntime", "litert")),
        Target("jetson-thor", "aarch64", 14, 128 * _GB, ("onnxruntime", "litert")),
        Target("jetson-xavier", "aarch64", 6, 8 * _GB, ("onnxruntime", "litert")),
        Target("raspberrypi3", "aarch64", 4, 1 * _GB),
        Target("raspberrypi4", "aarch64", 4, 4 * _GB),
        Target("raspberrypi5", "aarch64", 4, 8 * _GB),
        Target("raspberrypizero2w", "aarch64", 4, 512 * 10**6),
    )
}


def target(name: str) -> Target:
    """The profile called `name`. Raises UnknownName with the nearest names."""
    if name not in TARGETS:
        raise UnknownName("target", name, TARGETS)
    return TARGETS[name]


def this_machine() -> Target:
    """The generic profile of the machine this runs on.

    Raises UnknownName: no profile has this machine's architecture (32-bit ARM has no wheels).
    """
    return target(f"generic-{platform.machine()}")
