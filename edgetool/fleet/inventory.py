"""fleet.toml: the devices of a fleet by their class, and how to log in.

name = "shops"
identity = "keys/id_ed25519"     # both optional, relative to this file
known_hosts = "known_hosts"

[devices.raspberrypi4]
till-1 = "ssh://pi@10.0.0.7"
till-2 = "ssh://pi@10.0.0.8"

[devices.raspberrypi5]
door-1 = "ssh://pi@10.0.0.20"
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomllib

from edge.errors import BadRecipe, UnknownName
from edgetool.deploy.transport import Address, Login, parse_address

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_KEYS = ("name", "identity", "known_hosts", "devices")


@dataclass(frozen=True)
class Member:
    """A device of a fleet. Devices of one class are the same hardware: their times are comparable."""

    name: str
    device_class: str
    address: Address


@dataclass(frozen=True)
class Fleet:
    """The devices in the order of the file."""

    name: str
    login: Login
    members: tuple[Member, ...]

    def only(self, classes: Sequence[str]) -> "Fleet":
        """The fleet of these classes; all of it where none is named.

        Raises:
            UnknownName: there is no such class.

        """
        there = {member.device_class for member in self.members}
        for name in classes:
            if name not in there:
                raise UnknownName("device class", name, there)
        kept = tuple(member for member in self.members if not classes or member.device_class in classes)
        return Fleet(self.name, self.login, kept)


def read_fleet(path: Path) -> Fleet:
    """The fleet that a file describes.

    Raises:
        BadRecipe: the file is missing or says something else.
        UnknownName: a key that is none.

    """
    try:
        plain = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadRecipe(f"{path} is missing", "docs/fleet.md shows one") from error
    except (OSError, ValueError) as error:
        raise BadRecipe(f"cannot read {path}: {error}") from error
    for key in plain:
        if key not in _KEYS:
            raise UnknownName("key of a fleet", key, _KEYS)
    name = str(plain.get("name", path.resolve().stem))
    members = _members(path, plain.get("devices"))
    for one in (name, *(member.name for member in members), *(member.device_class for member in members)):
        if not _NAME.fullmatch(one):
            raise BadRecipe(f"{path}: {one!r} is no name", "letters, digits, . _ -")
    for field in ("name", "address"):
        seen: set[object] = set()
        for member in members:
            value = getattr(member, field)
            if value in seen:
                raise BadRecipe(f"{path}: two devices have the {field} {value}")
            seen.add(value)
    return Fleet(name, Login(_beside(path, plain, "identity"), _beside(path, plain, "known_hosts")), members)


def _members(path: Path, plain: Any) -> tuple[Member, ...]:
    if not isinstance(plain, dict) or not plain:
        raise BadRecipe(f"{path} has no devices", '[devices.raspberrypi4] and then till-1 = "ssh://pi@10.0.0.7"')
    found = []
    for device_class, devices in plain.items():
        if not isinstance(devices, dict):
            raise BadRecipe(f"{path}: {device_class!r} is no table of devices", f"[devices.{device_class}]")
        for name, address in devices.items():
            if not isinstance(address, str):
                raise BadRecipe(f"{path}: the address of {name} is {address!r}", 'for example "ssh://pi@10.0.0.7"')
            found.append(Member(name, device_class, parse_address(address)))
    return tuple(found)


def _beside(path: Path, plain: dict[str, Any], key: str) -> Path | None:
    return path.resolve().parent / Path(str(plain[key])).expanduser() if key in plain else None


def state_folder(fleet: Fleet) -> Path:
    """Where what is known of a fleet is kept on this machine."""
    root = os.environ.get("XDG_STATE_HOME")
    return (Path(root) if root else Path.home() / ".local" / "state") / "edgetool" / "fleets" / fleet.name
