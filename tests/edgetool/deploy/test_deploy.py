"""Deploys over a real SSH connection, into a folder of this machine, with its own wheels, processes and sockets."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import asyncssh
import numpy as np
import pytest

from benchmarks.bad_link import BadLink
from edge import releases, supervisor
from edge.errors import BadInput, CheckFailed, EnvironmentFailed, ProcessCrashed
from edge.service import ask
from edgetool.deploy.install import Deployed, Settings, deploy, rollback
from edgetool.deploy.inventory import entries, inventory_file
from edgetool.deploy.transport import Login, connect
from edgetool.progress import Silent
from tests.edgetool.deploy.ssh_device import SshDevice, fake_bundle

SETTINGS = Settings(limit_s=120)


def bring(device: SshDevice, bundle: Path, settings: Settings = SETTINGS) -> Deployed:
    return asyncio.run(deploy(bundle, device.address, device.login, settings, Silent()))


def healthy(device: SshDevice) -> str:
    """The release that answers; it may be starting."""
    for _ in range(600):
        try:
            return str(ask(device.base / "run", {"ask": "health"}, 10)["release"])
        except OSError:
            time.sleep(0.1)
    raise AssertionError("nothing answers")


def test_a_life(device: SshDevice, tmp_path: Path) -> None:
    """Deploy, again, update, a release that is broken in two ways, back, and a release that was edited."""
    one = fake_bundle(tmp_path / "one.edge", padding=200_000)
    two = fake_bundle(tmp_path / "two.edge", padding=200_000)

    planned = bring(device, one, replace(SETTINGS, dry_run=True))
    assert planned.wheel_bytes > 1_000_000
    assert device.state() == []

    first = bring(device, one)
    assert healthy(device) == first.release
    assert bring(device, one).already_there

    second = bring(device, two)
    assert healthy(device) == second.release != first.release
    assert second.wheel_bytes == 0
    model = len((tmp_path / "two.fake").read_bytes())
    assert second.sent_bytes <= 1.2 * model + 64_000

    before = device.state()
    wrong = fake_bundle(tmp_path / "wrong.edge", wrong=1.0)
    with pytest.raises(CheckFailed, match="golden vectors fail on the device"):
        bring(device, wrong)
    illegal = fake_bundle(tmp_path / "illegal.edge", crash_at=1, crash_signal="SIGILL")
    with pytest.raises(ProcessCrashed, match="lacks an instruction"):
        bring(device, illegal)
    # the golden vectors pass (calls 1 and 2), and the service dies at the second question
    dies = fake_bundle(tmp_path / "dies.edge", crash_at=4)
    with pytest.raises(CheckFailed, match="was ready and then ended"):
        bring(device, dies)
    with pytest.raises(CheckFailed, match=r"answers in .* ms; 50 is the limit"):
        bring(device, fake_bundle(tmp_path / "slow.edge", latency_ms=200), replace(SETTINGS, max_ms=50))
    assert device.state() == before
    assert healthy(device) == second.release

    name = asyncio.run(rollback(device.address, device.login, SETTINGS, Silent()))
    assert name == first.release == healthy(device)
    assert [(entry.bundle, entry.release) for entry in entries(inventory_file())] == [("one", name)]

    edited = device.base / "releases" / str(second.release) / releases.BUNDLE
    edited.write_bytes(edited.read_bytes() + b" ")
    with pytest.raises(CheckFailed, match="changed by hand"):
        asyncio.run(rollback(device.address, device.login, SETTINGS, Silent()))
    assert healthy(device) == first.release


def test_the_service_starts_again_and_answers_a_file(device: SshDevice, tmp_path: Path) -> None:
    done = bring(device, fake_bundle(tmp_path / "one.edge"))
    pid = ask(device.base / "run", {"ask": "health"}, 10)["pid"]
    os.kill(pid, signal.SIGKILL)
    assert healthy(device) == done.release
    assert supervisor.supervised(device.base)["last_exit"] in {None, -signal.SIGKILL}
    file = tmp_path / "raw.npy"
    np.save(file, np.zeros(4, np.float32))
    answer = ask(device.base / "run", {"ask": "run", "file": str(file)}, 10)
    assert answer.get("error") is None
    assert answer["results"][0]["outputs"]["output"][0] == pytest.approx(1.0)
    assert "unknown question" in ask(device.base / "run", {"ask": "dance"}, 10)["error"]


def test_a_first_release_that_fails_leaves_nothing(device: SshDevice, tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match="was ready and then ended"):
        bring(device, fake_bundle(tmp_path / "dies.edge", crash_at=4))
    assert list(device.home.rglob("*")) == []
    assert supervisor.running(device.base) is None


def test_a_host_that_is_killed_leaves_nothing(device: SshDevice, tmp_path: Path) -> None:
    bundle = fake_bundle(tmp_path / "one.edge", padding=5_000_000)
    command = [sys.executable, "-m", "edgetool", "deploy", str(bundle), str(device.address)]
    command += ["--identity", str(device.key), "--known-hosts", str(device.known_hosts)]
    host = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    staging = device.base / "staging"
    until = time.monotonic() + 300
    while not staging.exists() and time.monotonic() < until:
        assert host.poll() is None
        time.sleep(0.001)
    assert staging.exists()
    host.kill()
    host.wait()
    while any(device.home.iterdir()) and time.monotonic() < until:
        time.sleep(0.05)
    assert list(device.home.rglob("*")) == []


def test_a_host_that_says_nothing_any_more_leaves_nothing(tmp_path: Path) -> None:
    """A line that stalls is never closed: the device's half gives up by itself."""
    base = tmp_path / "base"
    code = "from edge import install\ninstall.SILENCE_S = 1\ninstall.main()"
    half = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert half.stdin is not None
    assert half.stdout is not None
    half.stdin.write(json.dumps({"base": str(base), "service": "supervisor"}).encode() + b"\n")
    half.stdin.flush()
    assert b"done" in half.stdout.readline()
    assert half.wait(60) is not None
    assert not base.exists()
    half.stdin.close()
    half.stdout.close()


@pytest.mark.parametrize("after", [200, 4000, 9000, 18_000])
def test_a_line_that_dies_early_is_the_lines_fault(device: SshDevice, tmp_path: Path, after: int) -> None:
    """While the keys are exchanged, during the probe, before the lock, after it: an error of one line each time."""
    bundle = fake_bundle(tmp_path / "one.edge")

    async def through() -> None:
        async with BadLink(device.port, "die", after) as link:
            known = tmp_path / "known"
            known.write_text(device.known_hosts.read_text().replace(str(device.port), str(link.port), 1))
            address = replace(device.address, port=link.port)
            await deploy(bundle, address, Login(device.key, known), SETTINGS, Silent())

    with pytest.raises(EnvironmentFailed):
        asyncio.run(through())
    until = time.monotonic() + 60
    while any(device.home.iterdir()) and time.monotonic() < until:
        time.sleep(0.05)
    assert list(device.home.rglob("*")) == []


def test_two_deploys_at_once(device: SshDevice, tmp_path: Path) -> None:
    async def second() -> None:
        async with connect(device.address, device.login) as connection:
            facts = await connection.facts()
            async with connection.session(facts):
                with pytest.raises(EnvironmentFailed, match="another deploy is at work"):
                    async with connection.session(facts):
                        pass

    asyncio.run(second())
    assert list(device.home.rglob("*")) == []


def test_another_host_key_is_refused(device: SshDevice, tmp_path: Path) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519")
    known = tmp_path / "known_hosts"
    known.write_bytes(f"[127.0.0.1]:{device.port} ".encode() + other.export_public_key())
    bundle = fake_bundle(tmp_path / "one.edge")
    for hosts in (known, tmp_path / "missing"):
        with pytest.raises(CheckFailed, match="host key"):
            asyncio.run(deploy(bundle, device.address, Login(device.key, hosts), SETTINGS, Silent()))
    assert device.commands == []


def test_another_key_does_not_get_in(device: SshDevice, tmp_path: Path) -> None:
    key = tmp_path / "other"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(key))
    with pytest.raises(EnvironmentFailed, match="does not let this user in"):
        asyncio.run(rollback(device.address, Login(key, device.known_hosts), SETTINGS, Silent()))


def test_no_python_and_an_old_one(device: SshDevice, tmp_path: Path) -> None:
    bundle = fake_bundle(tmp_path / "one.edge")
    device.python(f"""{sys.executable} "$@" | sed 's/"python": \\[3, [0-9]*/"python": [3, 8/'""")
    with pytest.raises(BadInput, match=r"cpython 3\.8"):
        bring(device, bundle)
    device.python("exit 127")
    with pytest.raises(BadInput, match="has no python3"):
        bring(device, bundle)
    assert list(device.home.rglob("*")) == []


def test_nothing_to_go_back_to(device: SshDevice) -> None:
    with pytest.raises(BadInput, match="no release to go back to"):
        asyncio.run(rollback(device.address, device.login, SETTINGS, Silent()))
