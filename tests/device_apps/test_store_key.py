import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_apps.store_key import CREDENTIAL, FILE, store_key
from edge.errors import BadInput, EnvironmentFailed


def test_a_key_file_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    first = store_key(tmp_path / "state")
    assert first.origin == "file"
    assert len(first.key) == 32
    assert store_key(tmp_path / "state").key == first.key
    assert (tmp_path / "state" / FILE).stat().st_mode & 0o777 == 0o600
    assert store_key(tmp_path / "other").key != first.key


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    store_key(tmp_path)
    (tmp_path / FILE).chmod(0o640)
    with pytest.raises(BadInput, match="read by others"):
        store_key(tmp_path)


def test_a_damaged_key_is_refused_and_not_replaced(tmp_path: Path) -> None:
    store_key(tmp_path)
    (tmp_path / FILE).write_bytes(b"short")
    with pytest.raises(BadInput, match="5 bytes"):
        store_key(tmp_path)
    assert (tmp_path / FILE).read_bytes() == b"short"


def test_a_credential_of_systemd_comes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store_key(tmp_path / "state")
    (tmp_path / CREDENTIAL).write_bytes(b"c" * 32)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    found = store_key(tmp_path / "state")
    assert (found.key, found.origin) == (b"c" * 32, "systemd credential")


def test_keys_for_other_purposes_differ(tmp_path: Path) -> None:
    key = store_key(tmp_path)
    assert len({key.key, key.derived("audit"), key.derived("mqtt")}) == 3
    assert key.derived("audit") == store_key(tmp_path).derived("audit")


@pytest.fixture
def tpm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    """A software TPM in a process of its own."""
    missing = [tool for tool in ("swtpm", "tpm2_create") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed (Debian: swtpm tpm2-tools)")
    folder = tmp_path / "tpm"
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={folder}", "--flags", "not-need-init,startup-clear"]
    command += ["--server", f"type=tcp,port={port}", "--ctrl", f"type=tcp,port={port + 1}"]
    process = subprocess.Popen(command)
    for _ in range(200):
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port + 1)) == 0:
                break
        time.sleep(0.05)
    monkeypatch.setenv("TPM2TOOLS_TCTI", f"swtpm:host=127.0.0.1,port={port}")
    yield process
    process.kill()
    process.wait()


def test_a_tpm_keeps_the_key_and_no_file_does(tmp_path: Path, tpm: subprocess.Popen[bytes]) -> None:
    first = store_key(tmp_path / "state")
    assert first.origin == "TPM"
    assert store_key(tmp_path / "state") == first
    assert not any(first.key in path.read_bytes() for path in (tmp_path / "state").iterdir())
    tpm.kill()
    tpm.wait()
    with pytest.raises(EnvironmentFailed, match="the TPM"):
        store_key(tmp_path / "state")
