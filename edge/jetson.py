"""NVIDIA's GPU and a Jetson's power mode, from the files that the driver and nvpmodel keep.

Every function takes the root of the file system, as in `edge.probe`.
"""

import re
from pathlib import Path

ROOT = Path("/")
CONFIGURATION = "etc/nvpmodel.conf"
STATUS = "var/lib/nvpmodel/status"


def gpu_name(root: Path = ROOT) -> str | None:
    """The GPU's name as its driver tells, or the board's on a Jetson; None where there is neither."""
    for file in sorted((root / "proc/driver/nvidia/gpus").glob("*/information")):
        found = re.search(r"^Model:\s*(.+?)\s*$", _text(file), re.MULTILINE)
        if found:
            return str(found[1])
    board = _text(root / "proc/device-tree/model").strip("\0 \n")
    return board if "jetson" in board.lower() else None


def power_mode(root: Path = ROOT) -> str | None:
    """The name of the power mode that nvpmodel set ("15W", "MAXN"), None on anything but a Jetson.

    nvpmodel keeps the number of the mode in `var/lib/nvpmodel/status` ("pmode:0002") and the names of all in
    `etc/nvpmodel.conf` ("< POWER_MODEL ID=2 NAME=MODE_15W >"), whose default stands where none was ever set.
    """
    configuration = _text(root / CONFIGURATION)
    names = {
        int(number): name for number, name in re.findall(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)", configuration)
    }
    told = re.search(r"pmode:(\d+)", _text(root / STATUS)) or re.search(r"PM_CONFIG\s+DEFAULT=(\d+)", configuration)
    if told is None:
        return None
    number = int(told[1])
    return str(names.get(number, number)).removeprefix("MODE_")


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
