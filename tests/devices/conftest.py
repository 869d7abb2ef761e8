"""The emulated devices: started for these tests and ended after them, unless they run already."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgetool.deploy.transport import Address, Login
from tests.conftest import REPOSITORY

RIG = REPOSITORY / ".ci" / "devices"
FOLDER = Path(os.environ.get("EDGETOOL_DEVICES", "/var/tmp/edgetool-devices"))
ADDRESSES = {"pi4": "10.77.0.2", "pi5": "10.77.0.3"}


@dataclass(frozen=True)
class Emulated:
    """A device of the rig. `disk` is what was written to it since it was made, as this machine sees it."""

    name: str
    known_hosts: Path = FOLDER / "known_hosts"

    @property
    def address(self) -> Address:
        return Address(ADDRESSES[self.name], "pi")

    @property
    def login(self) -> Login:
        return Login(FOLDER / "id_ed25519", self.known_hosts)

    @property
    def disk(self) -> Path:
        return FOLDER / self.name / "upper"

    @property
    def base(self) -> Path:
        return self.disk / "home/pi/.local/share/edgetool"

    def rig(self, word: str) -> None:
        subprocess.run([RIG, word, self.name], check=True)


@pytest.fixture(scope="session")
def rig(request: pytest.FixtureRequest) -> Iterator[None]:
    if not any("tests/devices" in word for word in request.config.invocation_params.args):
        pytest.skip("emulated devices are started by make device-test only")
    why = subprocess.run([RIG, "why"], capture_output=True, text=True, check=False)
    if why.returncode:
        pytest.skip(why.stdout.strip())
    kept = FOLDER.exists()
    subprocess.run([RIG, "up"], check=True)
    yield
    if not kept:
        subprocess.run([RIG, "down"], check=True)


@pytest.fixture(scope="session")
def pi4(rig: None) -> Emulated:
    return Emulated("pi4")


@pytest.fixture(scope="session")
def pi5(rig: None) -> Emulated:
    return Emulated("pi5")
