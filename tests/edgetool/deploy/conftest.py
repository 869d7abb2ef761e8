"""A device for the tests of one file, and a list of devices that is nobody's."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.edgetool.deploy.ssh_device import SshDevice

MEMORY = Path("/dev/shm")


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshDevice]:
    """In memory where programs may run from there: a deploy waits for the disk of the whole machine a dozen times."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    fits = MEMORY.is_dir() and not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC
    with tempfile.TemporaryDirectory(dir=MEMORY if fits else tmp_path) as folder, SshDevice(Path(folder)) as running:
        yield running
