"""A fleet of real SSH servers on this machine: waves, a device that fails, an interruption, a device that is away."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge.errors import BadInput
from edgetool.deploy.install import Settings
from edgetool.fleet.benches import benches, measure
from edgetool.fleet.deploy import Preview, Waves, go_on, prepare, roll_out
from edgetool.fleet.inventory import state_folder
from edgetool.fleet.rollout import Rollout, read
from edgetool.fleet.status import look
from edgetool.fleet.watcher import Silent
from tests.conftest import REPOSITORY
from tests.edgetool.deploy.ssh_device import fake_bundle
from tests.edgetool.fleet.rig import Rig, why_not

WAVES = Waves("1,all", soak_s=0.0)
SETTINGS = Settings(limit_s=120)

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("fleet")
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = str(folder / "state")
    with Rig(folder / "rig", 3) as running:
        yield running
    if before is None:
        del os.environ["XDG_STATE_HOME"]
    else:
        os.environ["XDG_STATE_HOME"] = before


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return {name: fake_bundle(folder / f"{name}.edge", padding=1000 + len(name)) for name in ("one", "three", "fiver")}


def plan(rig: Rig, bundle: Path, waves: Waves = WAVES) -> Preview:
    return asyncio.run(prepare(bundle, rig.fleet, waves, SETTINGS, Silent()))


def bring(rig: Rig, bundle: Path, waves: Waves = WAVES) -> Rollout:
    return asyncio.run(roll_out(plan(rig, bundle, waves).rollout, rig.fleet, waves, SETTINGS, Silent()))


def test_a_life_of_a_fleet(rig: Rig, bundles: dict[str, Path], tmp_path: Path) -> None:
    """A first deploy to all; a device that fails halts the update and goes back; mended, the rest follow."""
    preview = plan(rig, bundles["one"])
    assert preview.rollout.targets == (1, 3)
    assert all(size > 1_000_000 for size in preview.bytes_to_send.values())
    assert [rig.current(name) for name in rig.names] == [None, None, None]

    first = bring(rig, bundles["one"])
    assert (first.status, first.count("updated")) == ("complete", 3)
    assert all(str(rig.current(name)).startswith("0001-") for name in rig.names)

    # in turn: d01 (blue) is the canary, then d02 (green), then d03 (blue)
    (rig.home("d02") / "broken").touch()
    waves = replace(WAVES, waves="1,2,all")
    halted = bring(rig, bundles["three"], waves)
    assert halted.status == "halted"
    assert [(device.name, device.state) for device in halted.devices] == [
        ("d01", "updated"),
        ("d02", "failed"),
        ("d03", "waiting"),
    ]
    assert "SIGKILL" in str(halted.named("d02").reason) or "ended" in str(halted.named("d02").reason)
    assert [str(rig.current(name))[:5] for name in rig.names] == ["0002-", "0001-", "0001-"]
    assert read(state_folder(rig.fleet)) == halted

    now = asyncio.run(look(rig.fleet, Silent()))
    assert [(one.bundle, one.problem) for one in now.devices] == [("three", None), ("one", None), ("one", None)]

    (rig.home("d02") / "broken").unlink()
    rest = go_on(plan(rig, bundles["three"], waves), halted)
    assert rest.count("updated") == 1
    done = asyncio.run(roll_out(rest, rig.fleet, waves, SETTINGS, Silent()))
    assert (done.status, done.count("updated")) == ("complete", 3)

    measured = asyncio.run(measure(rig.fleet, 0.2, Silent()))
    assert measured.failed == {}
    assert [(one.device, one.bundle, one.void) for one in measured.benches] == [
        (name, "three", None) for name in rig.names
    ]
    assert all(one.figures["p50_ms"] > 0 and one.figures["peak_rss_bytes"] > 1e6 for one in measured.benches)
    assert benches(state_folder(rig.fleet)) == sorted(measured.benches, key=lambda one: (one.when, one.device))


def test_a_bundle_that_does_not_fit_changes_nothing(rig: Rig, tmp_path: Path) -> None:
    before = [rig.current(name) for name in rig.names]
    with pytest.raises(BadInput, match=r"cannot run it \(and 2 more"):
        plan(rig, fake_bundle(tmp_path / "other.edge", target="raspberrypi4"))
    assert [rig.current(name) for name in rig.names] == before


def test_ctrl_c_loses_nothing_and_a_device_that_is_away_is_left_out(rig: Rig, bundles: dict[str, Path]) -> None:
    def command(*words: str) -> "subprocess.Popen[str]":
        line = [sys.executable, "-m", "edgetool", "fleet", "deploy", str(rig.file), str(bundles["fiver"])]
        line += ["--waves", "1,all", "--soak", "0", *words]
        return subprocess.Popen(line, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    rig.stop("d03")
    begun = command()
    until = time.monotonic() + 300
    while time.monotonic() < until:
        kept = read(state_folder(rig.fleet))
        if kept is not None and kept.bundle_name == "fiver" and kept.count("updating"):
            break
        time.sleep(0.02)
    begun.send_signal(signal.SIGINT)
    _, said = begun.communicate(timeout=120)
    assert begun.returncode == 130, said
    assert "--resume goes on" in said
    kept = read(state_folder(rig.fleet))
    assert kept is not None
    assert (kept.status, kept.count("updating")) == ("interrupted", 0)

    refused = command()
    assert "is interrupted" in refused.communicate(timeout=120)[1]
    assert refused.returncode == 1

    resumed = command("--resume", "--json")
    out, said = resumed.communicate(timeout=300)
    assert resumed.returncode == 3, said
    states = {device["name"]: device["state"] for device in json.loads(out)["devices"]}
    assert states == {"d01": "updated", "d02": "updated", "d03": "unreached"}
    assert "d03" in said
    rig.start("d03")
    rig.wait()
    again = command("--json", "--resume")
    out, said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert [device["state"] for device in json.loads(out)["devices"]] == ["updated"] * 3
