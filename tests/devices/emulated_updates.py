"""An emulated device that is updated to two LiteRT bundles in turn, and looked at after its power was cut."""

import asyncio
import time
from pathlib import Path

from edge import releases
from edge.errors import CheckFailed
from edgetool.deploy.install import Settings, deploy
from edgetool.deploy.trust import Trust
from edgetool.progress import Silent
from tests.devices.bundles import litert_bundle
from tests.devices.conftest import Emulated

STEADY_S = 300.0


class EmulatedUpdates:
    """`folder` takes the bundles; the device has to be up."""

    def __init__(self, device: Emulated, folder: Path) -> None:
        self.device = device
        self.bundles = [litert_bundle(folder / f"{number}.edge", 1 + number / 100) for number in range(3)]
        self.releases: list[str] = []
        self._next = 0

    def alternate(self) -> float:
        """Two deploys; the seconds of the second."""
        self.update()
        began = time.monotonic()
        self.update()
        return time.monotonic() - began

    def update(self) -> None:
        """To the next bundle. Raises EdgetoolError where it was not confirmed."""
        bundle = self.bundles[self._next]
        self._next = (self._next + 1) % len(self.bundles)
        settings = Settings(limit_s=600, trust=Trust())
        asyncio.run(deploy(bundle, self.device.address, self.device.login, settings, Silent()))

    def require_whole(self) -> str:
        """Wait until the device has put itself right: "old" or "new", by the release before.

        Raises:
            CheckFailed: neither; it is no state that a finished deploy leaves.

        """
        before = self.releases[-1] if self.releases else None
        until = time.monotonic() + STEADY_S
        while time.monotonic() < until and (self._left() or not (self.device.base / "current").is_symlink()):
            time.sleep(1)
        name = releases.pointed(self.device.base, releases.CURRENT)
        if name is None or self._left():
            raise CheckFailed(f"half a release: current {name}, {self._left()}")
        if releases.pointed(self.device.base, releases.LAST_GOOD) != name:
            raise CheckFailed(f"half a switch: {name} is not last-good")
        about = releases.read_release(self.device.base, name)
        if releases.sha256(self.device.base / "releases" / name / releases.BUNDLE) != about.bundle:
            raise CheckFailed(f"{name} is damaged")
        self.releases.append(name)
        return "old" if name == before else "new"

    def _left(self) -> list[str]:
        return [name for name in (releases.TRIAL, "staging") if (self.device.base / name).exists()]
