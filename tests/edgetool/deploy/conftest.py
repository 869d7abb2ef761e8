"""A device for the tests of one file, and a list of devices that is nobody's."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.edgetool.deploy.ssh_device import SshDevice


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshDevice]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with SshDevice(tmp_path / "device") as running:
        yield running
