"""Which NPUs that this toolkit does not drive itself are in this machine, from /dev and /sys, and what they need.

Every function takes the root of the file system, so that the files of another board can be read as well.
"""

import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
# The accelerator on USB shows Global Unichip's number until its firmware is loaded, Google's afterwards
CORAL_USB = {("1a6e", "089a"): "before its first use", ("18d1", "9302"): "with its firmware"}


@dataclass(frozen=True)
class Device:
    """What was seen of one NPU: `hardware` where it is, None where there is none; `software` what can drive it."""

    hardware: str | None
    software: str | None


def coral(root: Path = ROOT) -> Device:
    """An Edge TPU on PCIe or USB; its library is looked for when a model is loaded."""
    if (root / "dev/apex_0").exists():
        return Device("an Edge TPU at /dev/apex_0", None)
    for vendor in sorted((root / "sys/bus/usb/devices").glob("*/idVendor")):
        state = CORAL_USB.get((_text(vendor), _text(vendor.with_name("idProduct"))))
        if state is not None:
            return Device(f"an Edge TPU on USB ({vendor.parent.name}), {state}", None)
    return Device(None, None)


def hailo(root: Path = ROOT) -> Device:
    """A Hailo-8 or -10 with its kernel driver, and HailoRT's command or Python package."""
    hardware = "a Hailo NPU at /dev/hailo0" if (root / "dev/hailo0").exists() else None
    if importlib.util.find_spec("hailo_platform") is not None:
        return Device(hardware, "HailoRT's Python package")
    return Device(hardware, "hailortcli" if shutil.which("hailortcli") else None)


def rockchip(root: Path = ROOT) -> Device:
    """A Rockchip SoC by its device tree, and the runtime for its NPU."""
    compatible = _text(root / "proc/device-tree/compatible").split("\0")
    socs = [name.removeprefix("rockchip,") for name in compatible if name.startswith(("rockchip,rk", "rockchip,rv"))]
    library = any((root / folder / "librknnrt.so").exists() for folder in ("usr/lib", "usr/lib/aarch64-linux-gnu"))
    return Device(f"a Rockchip {socs[-1]}" if socs else None, "librknnrt.so" if library else None)


def ethos_u(root: Path = ROOT) -> Device:
    """An Ethos-U with Arm's Linux driver, as on an i.MX 93; on a microcontroller nothing can look for it."""
    return Device("an Ethos-U at /dev/ethosu0" if (root / "dev/ethosu0").exists() else None, None)


LOOK: dict[str, Callable[[Path], Device]] = {
    "coral": coral,
    "ethos-u": ethos_u,
    "hailo": hailo,
    "rockchip": rockchip,
}
WHERE = {
    "coral": "an Edge TPU on PCIe (/dev/apex_0) or USB (1a6e:089a, 18d1:9302)",
    "ethos-u": "an Ethos-U with a Linux driver (/dev/ethosu0)",
    "hailo": "a Hailo NPU (/dev/hailo0)",
    "rockchip": "a Rockchip SoC in the device tree",
}


def seen(name: str, root: Path = ROOT) -> str:
    """One sentence: what is there of the NPU called `name`, and of its software."""
    device = LOOK[name](root)
    if device.hardware is None:
        return f"not found: {WHERE[name]}"
    return f"there is {device.hardware}" + (f", and {device.software}" if device.software else "")


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""
