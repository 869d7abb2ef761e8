"""Device profiles. One literal table; deployment adds what it probes and installs."""

import platform
from dataclasses import dataclass

from edge.errors import BadInput, UnknownName


@dataclass(frozen=True)
class Target:
    """A device: `arch` as `uname -m` prints it (the core's name on a microcontroller), `memory_bytes` of main memory
    (None: unknown), and the engines whose files it takes, the preferred one first.

    `delegates` are what may run a model there, the fastest first, by the names of `edge.delegates` where this toolkit
    can run or compile for them. `compiler` is the name that the accelerator's compiler has for it (Vela's
    accelerator configuration, Qualcomm's SoC), `note` what has to be known before one installs anything.
    """

    name: str
    arch: str
    cores: int | None
    memory_bytes: int | None
    engines: tuple[str, ...] = ("litert", "onnxruntime")
    delegates: tuple[str, ...] = ("xnnpack", "cpu")
    compiler: str | None = None
    note: str | None = None


_GB = 10**9
_ONNX_FIRST = ("onnxruntime", "litert")
_JETSON = ("tensorrt", "cuda", "xnnpack", "cpu")
_JETPACK_6 = "JetPack 6 has Python 3.10: onnxruntime-gpu for it comes from NVIDIA's Jetson AI Lab, not from PyPI"
_JETPACK_7 = "onnxruntime-gpu of PyPI wants CUDA 13 and has no TensorRT provider for aarch64: take NVIDIA's wheel"
_JETPACK_5 = "JetPack 5 has Python 3.8, for which there are no wheels of this toolkit: Python 3.10 has to be installed"
_VELA = "a microcontroller board: TensorFlow Lite Micro runs what Vela compiled; the board's memory is not stated"

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target(
            "coral-dev-board", "aarch64", 4, 1 * _GB, ("litert",), ("coral", "xnnpack"),
            note="libedgetpu comes from Coral's packages; pycoral has no wheel for Python 3.10 and later (pycoral#137)",
        ),
        Target("ethos-u55-128", "cortex-m55", 1, None, ("litert",), ("ethos-u",), "ethos-u55-128", _VELA),
        Target("ethos-u85-256", "cortex-m85", 1, None, ("litert",), ("ethos-u",), "ethos-u85-256", _VELA),
        Target("generic-aarch64", "aarch64", None, None),
        Target("generic-x86_64", "x86_64", None, None, delegates=("openvino", "xnnpack", "cpu")),
        Target(
            "imx93-evk", "aarch64", 2, 2 * _GB, ("litert",), ("ethos-u", "xnnpack"), "ethos-u65-256",
            "Vela's file runs by NXP's ethos-u delegate, which comes with its Linux",
        ),
        Target("jetson-orin-agx", "aarch64", 12, 64 * _GB, _ONNX_FIRST, _JETSON, note=_JETPACK_6),
        Target("jetson-orin-nano", "aarch64", 6, 8 * _GB, _ONNX_FIRST, _JETSON, note=_JETPACK_6),
        Target("jetson-thor", "aarch64", 14, 128 * _GB, _ONNX_FIRST, _JETSON, note=_JETPACK_7),
        Target("jetson-xavier", "aarch64", 6, 8 * _GB, _ONNX_FIRST, _JETSON, note=_JETPACK_5),
        Target("raspberrypi3", "aarch64", 4, 1 * _GB),
        Target("raspberrypi4", "aarch64", 4, 4 * _GB),
        Target("raspberrypi5", "aarch64", 4, 8 * _GB),
        Target(
            "raspberrypi5-hailo8l", "aarch64", 4, 8 * _GB, _ONNX_FIRST, ("hailo", "xnnpack", "cpu"),
            note="HailoRT is not on PyPI: apt-get install hailo-all brings driver and runtime of one version",
        ),
        Target("raspberrypizero2w", "aarch64", 4, 512 * 10**6),
        Target(
            "rb3-gen2", "aarch64", 8, 6 * _GB, _ONNX_FIRST, ("qnn", "xnnpack", "cpu"), "SM7325",
            note="a QCS6490; its Hexagon NPU takes files compiled for its SoC, or compiles them at the first start",
        ),
        Target(
            "rk3588", "aarch64", 8, None, _ONNX_FIRST, ("rknn", "xnnpack", "cpu"),
            note="rknn-toolkit2 makes the .rknn file, in an environment of its own; rknn-toolkit-lite2 runs it",
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
