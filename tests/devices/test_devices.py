"""Two emulated arm64 devices: arm64 sshd, Python, LiteRT and processes, with the power cut for real."""

import asyncio
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from edge import releases
from edge.errors import CheckFailed, DiskFull, EnvironmentFailed, ProcessCrashed
from edgetool.deploy.bench import bench_on
from edgetool.deploy.facts import Facts
from edgetool.deploy.install import Deployed, Settings, deploy, rollback
from edgetool.deploy.transport import connect
from edgetool.deploy.trust import Trust
from edgetool.progress import Silent
from tests.devices.bundles import MODEL, litert_bundle
from tests.devices.conftest import FOLDER, Emulated

SETTINGS = Settings(limit_s=600, trust=Trust())
SDOT = """\
import ctypes, mmap, struct
page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(struct.pack("<II", 0x4E809400, 0xD65F03C0))
ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
"""


@pytest.fixture(autouse=True)
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def bring(device: Emulated, bundle: Path, settings: Settings = SETTINGS) -> Deployed:
    return asyncio.run(deploy(bundle, device.address, device.login, settings, Silent()))


def facts(device: Emulated) -> Facts:
    async def ask() -> Facts:
        async with connect(device.address, device.login) as connection:
            return await connection.facts()

    return asyncio.run(ask())


def go_back(device: Emulated) -> str:
    return asyncio.run(rollback(device.address, device.login, SETTINGS, Silent()))


def test_instructions_that_the_processor_lacks_are_named(pi4: Emulated, pi5: Emulated) -> None:
    old, new = facts(pi4), facts(pi5)
    assert old.instructions == {"SDOT": False, "FP16": False, "I8MM": False}
    assert new.instructions == {"SDOT": True, "FP16": True, "I8MM": False}
    assert old.emulated
    assert new.emulated
    assert "Raspberry Pi 4" in str(old.board)


def test_deploy_update_break_and_go_back(pi5: Emulated, tmp_path: Path) -> None:
    """A release each way: replayed, healthy and confirmed; wrong; unhealthy; gone back to; edited by hand."""
    one, two = litert_bundle(tmp_path / "one.edge", 1.0), litert_bundle(tmp_path / "two.edge", 1.01)
    first = bring(pi5, one)
    assert first.emulated
    second = bring(pi5, two)
    assert second.wheel_bytes == 0
    assert second.sent_bytes <= 1.2 * (tmp_path / "two.tflite").stat().st_size + 64_000
    with pytest.raises(CheckFailed, match="golden vectors fail on the device"):
        bring(pi5, litert_bundle(tmp_path / "wrong.edge", 1.0, wrong=5.0))
    with pytest.raises(CheckFailed, match="is the limit"):
        bring(pi5, litert_bundle(tmp_path / "slow.edge", 0.99), replace(SETTINGS, max_ms=1e-6))
    assert releases.pointed(pi5.base, "current") == second.release
    assert go_back(pi5) == first.release
    edited = pi5.base / "releases" / str(second.release) / releases.BUNDLE
    with edited.open("ab") as file:
        file.write(b" ")
    with pytest.raises(CheckFailed, match="changed by hand"):
        go_back(pi5)
    assert releases.pointed(pi5.base, "current") == first.release
    assert sorted(path.name for path in pi5.base.iterdir()) == sorted(
        ["current", "last-good", "previous", "lock", "packages", "releases", "run", "start"]
    )


def test_a_model_is_timed_and_not_ranked(pi5: Emulated) -> None:
    """On the packages that its release has; nothing is sent but the model."""
    words = ["--seconds", "0.1", "--launches", "1"]
    models = [MODEL]
    found = asyncio.run(bench_on(models, pi5.address, pi5.login, words, None, lambda _part, _what: None))
    (run,) = found.runs
    assert run.emulated
    assert run.bench.clocks.temperature_c == pytest.approx(48.3, abs=0.1)
    assert found.governor == "ondemand"
    assert "emulated: p50" in found.as_text()
    assert not (pi5.base / "staging").exists()


def test_two_deploys_at_once(pi5: Emulated) -> None:
    async def second() -> None:
        async with connect(pi5.address, pi5.login) as connection:
            known = await connection.facts()
            async with connection.session(known):
                with pytest.raises(EnvironmentFailed, match="another deploy is at work"):
                    async with connection.session(known):
                        pass

    asyncio.run(second())


def test_another_host_key_is_refused(pi4: Emulated, pi5: Emulated, tmp_path: Path) -> None:
    theirs = next(line for line in (FOLDER / "known_hosts").read_text().splitlines() if pi5.address.host in line)
    known = tmp_path / "known_hosts"
    known.write_text(theirs.replace(pi5.address.host, pi4.address.host) + "\n")
    with pytest.raises(CheckFailed, match="host key"):
        facts(replace(pi4, known_hosts=known))


def test_a_runtime_that_was_built_for_another_processor_is_named(pi4: Emulated, tmp_path: Path) -> None:
    """A wheel of LiteRT that executes SDOT when it is imported, as one built with +dotprod would: no hang, no trace."""
    with zipfile.ZipFile(tmp_path / "ai_edge_litert-99.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("ai_edge_litert/__init__.py", SDOT)
        about = "ai_edge_litert-99.0.dist-info"
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: ai-edge-litert\nVersion: 99.0\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    bundle = litert_bundle(tmp_path / "one.edge", 1.0, requires=("ai-edge-litert>=99", "numpy>=1.24"))
    with pytest.raises(ProcessCrashed, match="lacks an instruction"):
        bring(pi4, bundle, replace(SETTINGS, wheels=tmp_path))
    assert not pi4.base.exists()


def test_no_space_is_refused_before_anything_is_changed(pi5: Emulated, tmp_path: Path) -> None:
    address = replace(pi5.address, folder="/mnt/small/edge")  # a file system of 1 MiB
    with pytest.raises(DiskFull, match="free at /mnt/small/edge"):
        asyncio.run(deploy(litert_bundle(tmp_path / "one.edge", 1.0), address, pi5.login, SETTINGS, Silent()))


def test_the_power_goes_in_the_middle_of_a_transfer(pi4: Emulated, tmp_path: Path) -> None:
    bundle = litert_bundle(tmp_path / "one.edge", 1.0)
    command = [sys.executable, "-m", "edgetool", "deploy", str(bundle), str(pi4.address)]
    command += ["--identity", str(FOLDER / "id_ed25519"), "--known-hosts", str(FOLDER / "known_hosts")]
    host = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (pi4.base / "staging" / "wheel").exists():
        assert host.poll() is None
        time.sleep(0.01)
    pi4.rig("cut")
    host.kill()
    host.wait()
    pi4.rig("start")
    assert releases.pointed(pi4.base, "current") is None
    assert facts(pi4).held["current"] is None
