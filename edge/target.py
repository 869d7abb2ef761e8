"""Device profiles. One literal table; deployment adds what it probes and installs."""

import platform
from dataclasses import dataclass
from typing import Literal

from edge.errors import BadInput, UnknownName

OLDEST_PYTHON = (3, 10)
Kind = Literal["board", "microcontroller", "phone"]


@dataclass(frozen=True)
class System:
    """What a board's maker ships for it: its name, the Python in it, and where wheels for that come from."""

    name: str
    python: tuple[int, int]
    wheels: str = "PyPI"


@dataclass(frozen=True)
class Target:
    """A device: `arch` as `uname -m` prints it (the core's name on a microcontroller), `memory_bytes` of main memory
    (None: unknown), and the engines whose files it takes, the preferred one first.

    `delegates` are what may run a model there, the fastest first, by the names of `edge.delegates` where this toolkit
    can run or compile for them. `compiler` is the name that the accelerator's compiler has for it (Vela's
    accelerator configuration, Qualcomm's SoC), `note` what has to be known before one installs anything. `system` is
    None where it differs from one board to the next. Boards are deployed to; what is no board is compiled for.
    `power_modes` are the maker's names (a subset, or none, where they were not found documented), `probes` what a
    deploy and a benchmark read and record of the device's condition.
    """

    name: str
    arch: str
    cores: int | None
    memory_bytes: int | None
    engines: tuple[str, ...] = ("litert", "onnxruntime")
    delegates: tuple[str, ...] = ("xnnpack", "cpu")
    compiler: str | None = None
    note: str | None = None
    kind: Kind = "board"
    system: System | None = None
    power_modes: tuple[str, ...] = ()
    probes: tuple[str, ...] = ("temperature", "governor")

    @property
    def unsupported(self) -> str | None:
        """Why nothing can be deployed to the board as its maker ships it; None where something can."""
        if self.kind != "board":
            return f"a {self.kind} is compiled for, not deployed to: edgetool convert"
        if self.system is None or self.system.python >= OLDEST_PYTHON:
            return None
        python = ".".join(map(str, self.system.python))
        return f"{self.system.name} has Python {python}, and the wheels of every runtime begin with 3.10"


_GB = 10**9
_ONNX_FIRST = ("onnxruntime", "litert")
_JETSON = ("tensorrt", "cuda", "xnnpack", "cpu")
_NVIDIA = "NVIDIA's Jetson AI Lab, given with --wheels DIR"
_JETPACK_5 = System("JetPack 5 (Ubuntu 20.04)", (3, 8), _NVIDIA)
_JETPACK_6 = System("JetPack 6 (Ubuntu 22.04)", (3, 10), _NVIDIA)
_JETPACK_7 = System("JetPack 7 (Ubuntu 24.04)", (3, 12), _NVIDIA)
_JETPACK_6_NOTE = "onnxruntime-gpu for Python 3.10 comes from NVIDIA's Jetson AI Lab, not from PyPI"
_JETPACK_7_NOTE = "onnxruntime-gpu of PyPI wants CUDA 13 and has no TensorRT provider for aarch64: take NVIDIA's wheel"
_JETPACK_5_NOTE = "Python 3.10 or later has to be installed beside JetPack 5's 3.8; nothing of that was tried"
_ON_JETSON = ("temperature", "governor", "nvpmodel's power mode", "L4T release")
_PI_OS = System("Raspberry Pi OS 12 (bookworm), 64 bits", (3, 11))
_ON_PI = ("temperature", "governor", "the firmware's throttling and under-voltage bits")
_VELA = "a microcontroller board: TensorFlow Lite Micro runs what Vela compiled; the board's memory is not stated"
_MICRO = "TensorFlow Lite Micro runs int8 files from flash; the board's memory is not stated"
_PHONE = "Android: onnxruntime-qnn's library in an app runs the file that edgetool convert --to qnn compiled"

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target(
            "coral-dev-board", "aarch64", 4, 1 * _GB, ("litert",), ("coral", "xnnpack"),
            note="libedgetpu comes from Coral's packages; pycoral has no wheel for Python 3.10 and later (pycoral#137)",
            system=System("Mendel Linux 5 (Debian 10)", (3, 7)),
        ),
        Target("cortex-m4", "cortex-m4", 1, None, ("litert",), ("micro",), None, _MICRO, "microcontroller", probes=()),
        Target("cortex-m7", "cortex-m7", 1, None, ("litert",), ("micro",), None, _MICRO, "microcontroller", probes=()),
        Target(
            "ethos-u55-128", "cortex-m55", 1, None, ("litert",), ("ethos-u",), "ethos-u55-128", _VELA,
            "microcontroller", probes=(),
        ),
        Target(
            "ethos-u85-256", "cortex-m85", 1, None, ("litert",), ("ethos-u",), "ethos-u85-256", _VELA,
            "microcontroller", probes=(),
        ),
        Target("generic-aarch64", "aarch64", None, None),
        Target("generic-x86_64", "x86_64", None, None, delegates=("openvino", "xnnpack", "cpu")),
        Target(
            "imx93-evk", "aarch64", 2, 2 * _GB, ("litert",), ("ethos-u", "xnnpack"), "ethos-u65-256",
            "Vela's file runs by NXP's ethos-u delegate, which comes with its Linux",
        ),
        Target(
            "jetson-orin-agx", "aarch64", 12, 64 * _GB, _ONNX_FIRST, _JETSON, note=_JETPACK_6_NOTE,
            system=_JETPACK_6, power_modes=("15W", "30W", "50W", "MAXN"), probes=_ON_JETSON,
        ),
        Target(
            "jetson-orin-nano", "aarch64", 6, 8 * _GB, _ONNX_FIRST, _JETSON, note=_JETPACK_6_NOTE,
            system=_JETPACK_6, power_modes=("7W", "15W", "25W", "MAXN_SUPER"), probes=_ON_JETSON,
        ),
        Target(
            "jetson-thor", "aarch64", 14, 128 * _GB, _ONNX_FIRST, _JETSON, note=_JETPACK_7_NOTE,
            system=_JETPACK_7, probes=_ON_JETSON,
        ),
        Target(
            "jetson-xavier", "aarch64", 6, 8 * _GB, _ONNX_FIRST, _JETSON, note=_JETPACK_5_NOTE,
            system=_JETPACK_5, probes=_ON_JETSON,
        ),
        Target("raspberrypi3", "aarch64", 4, 1 * _GB, system=_PI_OS, probes=_ON_PI),
        Target("raspberrypi4", "aarch64", 4, 4 * _GB, system=_PI_OS, probes=_ON_PI),
        Target("raspberrypi5", "aarch64", 4, 8 * _GB, system=_PI_OS, probes=_ON_PI),
        Target(
            "raspberrypi5-hailo8l", "aarch64", 4, 8 * _GB, _ONNX_FIRST, ("hailo", "xnnpack", "cpu"),
            note="HailoRT is not on PyPI: apt-get install hailo-all brings driver and runtime of one version",
            system=_PI_OS, probes=_ON_PI,
        ),
        Target("raspberrypizero2w", "aarch64", 4, 512 * 10**6, system=_PI_OS, probes=_ON_PI),
        Target(
            "rb3-gen2", "aarch64", 8, 6 * _GB, _ONNX_FIRST, ("qnn", "xnnpack", "cpu"), "SM7325",
            note="a QCS6490; its Hexagon NPU takes files compiled for its SoC, or compiles them at the first start",
        ),
        Target(
            "rk3588", "aarch64", 8, None, _ONNX_FIRST, ("rknn", "xnnpack", "cpu"),
            note="rknn-toolkit2 makes the .rknn file, in an environment of its own; rknn-toolkit-lite2 runs it",
        ),
        Target(
            "snapdragon-8-elite", "aarch64", 8, None, ("onnxruntime",), ("qnn", "cpu"), "SM8750", _PHONE,
            "phone", probes=(),
        ),
        Target(
            "snapdragon-8-gen3", "aarch64", 8, None, ("onnxruntime",), ("qnn", "cpu"), "SM8650", _PHONE,
            "phone", probes=(),
        ),
    )
}  # fmt: skip

_NO_WHEELS = "32-bit ARM: there are no wheels of LiteRT, ONNX Runtime or numpy for it"
# Devices that people ask for and that nothing here runs on, with the reason and the way out
REFUSED: dict[str, tuple[str, str]] = {
    "raspberrypi1": (_NO_WHEELS, "a raspberrypizero2w is the smallest board with 64 bits"),
    "raspberrypi2": (_NO_WHEELS, "a raspberrypi3 with 64-bit Raspberry Pi OS"),
    "raspberrypizero": (_NO_WHEELS, "a raspberrypizero2w with 64-bit Raspberry Pi OS"),
    "raspberrypizerow": (_NO_WHEELS, "a raspberrypizero2w with 64-bit Raspberry Pi OS"),
}


def target(name: str) -> Target:
    """The profile called `name`.

    Raises:
        UnknownName: there is none; the hint has the nearest names.
        BadInput: a device that nothing here runs on.

    """
    if name in REFUSED:
        reason, instead = REFUSED[name]
        raise BadInput(f"{name} is {reason}", f"use {instead}")
    if name not in TARGETS:
        raise UnknownName("target", name, TARGETS)
    return TARGETS[name]


def this_machine() -> Target:
    """The generic profile of the machine this runs on.

    Raises UnknownName: no profile has this machine's architecture (32-bit ARM has no wheels).
    """
    return target(f"generic-{platform.machine()}")
