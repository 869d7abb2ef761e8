"""What a device says of itself: its own Python runs one small script, which changes nothing."""

import json
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from edge.errors import EnvironmentFailed

SCRIPT = Path(__file__).with_name("device_script.py")


@dataclass(frozen=True)
class Facts:
    """A device, as it answered. None is "it does not say".

    `instructions` are extensions that were executed there, and whether that worked; `time` is its clock (seconds since
    1970); `root` says whether the user is root or may become it by sudo without a password; `base` is the folder that
    releases go to, and `held` what it has of them.
    """

    python: tuple[int, int, int]
    implementation: str
    machine: str
    bits: int
    libc: tuple[str, str]
    os: str | None
    board: str | None
    features: tuple[str, ...]
    instructions: dict[str, bool]
    memory_bytes: int | None
    free_bytes: int
    cores: int | None
    governor: str | None
    temperature_c: float | None
    throttled: int | None
    l4t: str | None
    power_mode: str | None
    time: float
    uid: int
    root: bool
    systemd: bool
    emulated: bool
    base: str
    held: dict[str, Any]

    @property
    def service(self) -> str:
        """Who keeps a release running there."""
        return "systemd" if self.systemd else "supervisor"

    @property
    def system(self) -> str:
        """The system's name, as /etc/os-release has it."""
        found = re.search(r'^PRETTY_NAME="?([^"\n]*)', self.os or "", re.MULTILINE)
        return found[1] if found else "an unknown system"

    @property
    def glibc(self) -> tuple[int, int] | None:
        """The C library's version, None where it is another than glibc."""
        found = re.fullmatch(r"(\d+)\.(\d+).*", self.libc[1])
        return (int(found[1]), int(found[2])) if self.libc[0] == "glibc" and found else None

    @property
    def description(self) -> str:
        """One line: the board, system, Python."""
        python = ".".join(map(str, self.python))
        emulated = ", emulated" if self.emulated else ""
        return f"{self.board or self.machine}, {self.system}, {self.machine}, Python {python}{emulated}"


def parse(output: str) -> Facts:
    """The facts in what the script printed.

    Raises:
        EnvironmentFailed: it is something else.

    """
    try:
        plain = json.loads(output.strip().splitlines()[-1])
        plain |= {"python": tuple(plain["python"]), "libc": tuple(plain["libc"]), "features": tuple(plain["features"])}
        return Facts(**{field.name: plain[field.name] for field in fields(Facts)})
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise EnvironmentFailed(f"the device's Python answered something else: {output.strip()[:80]!r}") from error
