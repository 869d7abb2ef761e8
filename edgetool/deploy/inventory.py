"""Which device runs what, as far as this machine deployed it: one JSON file."""

import datetime as dt
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from edge.archive import write_whole
from edge.errors import BadInput
from edgetool.deploy.transport import Address


@dataclass(frozen=True)
class Entry:
    """A device, what it is, and the release that was confirmed on it."""

    device: str
    description: str
    bundle: str
    sha256: str
    release: str
    emulated: bool
    when: str


def inventory_file() -> Path:
    """Where the list is kept."""
    root = os.environ.get("XDG_STATE_HOME")
    return (Path(root) if root else Path.home() / ".local" / "state") / "edgetool" / "devices.json"


def entries(path: Path) -> list[Entry]:
    """Every device that was deployed to from here, by name.

    Raises:
        BadInput: the file is damaged.

    """
    if not path.is_file():
        return []
    try:
        return [Entry(**plain) for plain in json.loads(path.read_bytes())["devices"]]
    except (ValueError, TypeError, KeyError) as error:
        raise BadInput(f"{path} is damaged: {error}", "remove it; each deploy adds its device again") from error


def remember(
    path: Path, address: Address, *, description: str, bundle: str, sha256: str, release: str, emulated: bool
) -> None:
    """Put a device's release in the list, in the place of what stood there."""
    when = dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")
    entry = Entry(str(address), description, bundle, sha256, release, emulated, when)
    others = [one for one in entries(path) if one.device != entry.device]
    listed = sorted((*others, entry), key=lambda one: one.device)
    write_whole(path, json.dumps({"devices": [asdict(one) for one in listed]}, indent=2).encode() + b"\n")
