"""Waves, states, words, comparisons and the page: everything of a fleet that needs no device."""

import asyncio
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge.errors import BadInput, BadRecipe, CheckFailed, UnknownName
from edgetool.deploy.install import Settings
from edgetool.deploy.trust import Trust
from edgetool.fleet.benches import Bench, benches, keep
from edgetool.fleet.compare import compare, compare_logs
from edgetool.fleet.deploy import Preview, Waves, go_on, prepare
from edgetool.fleet.inventory import Fleet, read_fleet, state_folder
from edgetool.fleet.report import FleetReport, make
from edgetool.fleet.rollout import DeviceState, Rollout, in_turn, read, resumed, save, wave_targets
from edgetool.fleet.status import DeviceStatus, FleetStatus
from edgetool.fleet.watcher import Silent
from edgetool.fleet.words import changes, summary
from edgetool.render.fleet_page import page
from tests.edgetool.deploy.ssh_device import fake_bundle

FLEET = """\
name = "shops"
identity = "keys/id"

[devices.pi4]
till-1 = "ssh://pi@10.0.0.1"
till-2 = "ssh://pi@10.0.0.2"
till-3 = "ssh://pi@10.0.0.3"

[devices.pi5]
door-1 = "ssh://pi@10.0.0.4:2222"
"""


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path = tmp_path / "fleet.toml"
    path.write_text(FLEET)
    return read_fleet(path)


def rollout(fleet: Fleet, targets: tuple[int, ...] = (1, 2, 4)) -> Rollout:
    devices = tuple(DeviceState(one.name, one.device_class, str(one.address)) for one in in_turn(fleet.members))
    return Rollout("shops", "/b.edge", "b", "ab" * 32, targets, devices)


def test_a_fleet_is_read(fleet: Fleet, tmp_path: Path) -> None:
    assert [member.name for member in fleet.members] == ["till-1", "till-2", "till-3", "door-1"]
    assert fleet.members[3].address.port == 2222
    assert fleet.login.identity == tmp_path / "keys/id"
    assert fleet.login.known_hosts is None
    assert [member.name for member in fleet.only(["pi5"]).members] == ["door-1"]
    with pytest.raises(UnknownName, match="device class"):
        fleet.only(["pi6"])


@pytest.mark.parametrize(
    ("changed", "kind", "says"),
    [
        (("till-2", "door-1"), BadRecipe, "two devices have the name door-1"),
        (("10.0.0.2", "10.0.0.1"), BadRecipe, "two devices have the address"),
        (('name = "shops"', 'nmae = "shops"'), UnknownName, "nmae"),
        (("ssh://pi@10.0.0.1", "http://pi"), BadRecipe, "cannot read the device"),
        (('"ssh://pi@10.0.0.1"', "7"), BadRecipe, "the address of till-1 is 7"),
        (('"shops"', '"../shops"'), BadRecipe, "is no name"),
        (("[devices.pi4]", "[devices.pi4"), BadRecipe, "cannot read"),
        ((FLEET, 'name = "none"'), BadRecipe, "has no devices"),
    ],
)
def test_a_wrong_fleet_is_refused(tmp_path: Path, changed: tuple[str, str], kind: type, says: str) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(FLEET.replace(*changed))
    with pytest.raises(kind, match=says):
        read_fleet(path)
    with pytest.raises(BadRecipe, match="is missing"):
        read_fleet(tmp_path / "other.toml")


def test_waves() -> None:
    assert wave_targets("1,10%,all", 20) == (1, 2, 20)
    assert wave_targets("1,10%,all", 5) == (1, 5)
    assert wave_targets("1,10%,all", 1) == (1,)
    assert wave_targets("2, 50%", 9) == (2, 5, 9)
    assert wave_targets("100", 9) == (9,)
    for wrong in ("", "0", "-1", "ten", "5,2", "0%", "50%,10%"):
        with pytest.raises(BadRecipe):
            wave_targets(wrong, 20)


def test_classes_take_turns(fleet: Fleet) -> None:
    assert [member.name for member in in_turn(fleet.members)] == ["till-1", "door-1", "till-2", "till-3"]


def test_a_device_that_is_not_reached_is_replaced_in_its_wave(fleet: Fleet) -> None:
    now = rollout(fleet)
    assert [device.name for device in now.next_batch()] == ["till-1"]
    now = now.changed("till-1", state="unreached", reason="no route")
    assert [device.name for device in now.next_batch()] == ["door-1"]
    now = now.changed("door-1", state="updated")
    assert now.next_batch() == ()
    now = dataclasses.replace(now, proven=1)
    assert [device.name for device in now.next_batch()] == ["till-2"]


def test_a_rollout_is_kept_and_goes_on(fleet: Fleet) -> None:
    now = rollout(fleet).changed("till-1", state="updated", release="0002-a").changed("door-1", state="failed")
    now = dataclasses.replace(now.changed("till-2", state="updated"), status="halted", proven=1)
    folder = state_folder(fleet)
    assert read(folder) is None
    save(folder, now)
    assert read(folder) == now
    running = {"till-1": now.sha256, "till-2": "other", "door-1": "other"}
    again = resumed(now, running)
    assert [device.state for device in again.devices] == ["updated", "waiting", "waiting", "waiting"]
    assert (again.status, again.proven) == ("running", 0)
    (folder / "rollout.json").write_text("{")
    with pytest.raises(BadInput, match="is damaged"):
        read(folder)


def test_a_bundle_that_nobody_trusted_signed_is_refused_before_a_device_is_asked(fleet: Fleet, tmp_path: Path) -> None:
    key = tmp_path / "maker.pub"
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    key.write_bytes(public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    bundle = fake_bundle(tmp_path / "one.edge")
    settings = Settings(trust=Trust(trusted=(key,)))
    with pytest.raises(CheckFailed, match="sign"):
        asyncio.run(prepare(bundle, fleet, Waves(), settings, Silent()))


def test_only_the_bundle_that_was_begun_goes_on(fleet: Fleet) -> None:
    planned = dataclasses.replace(rollout(fleet), sha256="cd" * 32)
    with pytest.raises(CheckFailed, match="not of this bundle"):
        go_on(Preview(planned, {}, {}, {}), rollout(fleet))


def test_words(fleet: Fleet) -> None:
    before = rollout(fleet)
    assert changes(None, before) == ["b to 4 devices in 3 waves: 1, then 2, then 4"]
    after = before.changed("till-1", state="updated", release="0002-a", seconds=3.2, sent_bytes=9000)
    assert changes(before, after) == ["wave 1 of 3  till-1: updated to 0002-a in 3.2 s, 9.0 kB sent"]
    passed = dataclasses.replace(after, proven=1)
    assert changes(after, passed) == ["wave 1 of 3 passed its gate: 1 devices are updated"]
    halted = dataclasses.replace(passed.changed("door-1", state="failed", reason="hot"), status="halted")
    assert changes(passed, halted)[-1] == "the rollout is halted"
    assert "failed     door-1               hot" in summary(halted)
    assert summary(halted).endswith("HALTED in wave 2 of 3: 1 of 4 devices run it, 2 were not touched")


def bench(device: str, device_class: str, release: str, ms: float, void: str | None = None, at: int = 0) -> Bench:
    figures = {"p50_ms": ms, "p95_ms": 1.3 * ms, "peak_rss_bytes": 5e7}
    return Bench(
        device, device_class, release, release * 16, "0001-x", f"2026-01-01T00:00:{at:02}+00:00", void, figures
    )


def fleet_benches(factors: dict[str, float], release: str, count: int, seed: int) -> list[Bench]:
    random = np.random.default_rng(seed)
    return [
        bench(f"{kind}-{number}", kind, release, (10 + number) * factor * math.exp(random.normal(0, 0.01)))
        for kind, factor in factors.items()
        for number in range(count)
    ]


def test_a_regression_on_one_class_is_found_and_the_other_is_cleared() -> None:
    before = fleet_benches({"pi4": 1.0, "pi5": 1.0}, "aaaa", 6, 1)
    after = fleet_benches({"pi4": 1.15, "pi5": 1.0}, "bbbb", 6, 2)
    found = {(one.metric, one.device_class, one.against): one for one in compare(before, after)}
    assert len(found) == 9  # three metrics: two classes and their pair
    slower = found["p50_ms", "pi4", None]
    assert slower.verdict == "slower"
    assert slower.interval is not None
    assert slower.interval[0] < 1.15 < slower.interval[1]
    assert found["p50_ms", "pi5", None].verdict == "not_slower"
    assert found["p50_ms", "pi4", "pi5"].verdict == "slower"
    assert found["peak_rss_bytes", "pi4", None].ratio == pytest.approx(1.0)


def test_a_fleet_that_did_not_change_is_accused_in_at_most_one_of_twenty() -> None:
    random = np.random.default_rng(5)
    accused = 0
    for _ in range(400):
        logs = {
            metric: {kind: dict(enumerate(random.normal(0, 0.05, 4))) for kind in ("a", "b")}  # type: ignore[misc]
            for metric in ("p50_ms", "p95_ms")
        }
        found = compare_logs(logs)  # type: ignore[arg-type]
        accused += any(one.interval is not None and not one.interval[0] <= 1 <= one.interval[1] for one in found)
    assert accused <= 33  # 20 expected at most; 33 and more of 400 have a probability below 0.3 % there


def test_one_class_that_became_faster_makes_no_regression_of_the_other(fleet: Fleet) -> None:
    before = fleet_benches({"pi4": 1.0, "pi5": 1.0}, "aaaa", 6, 1)
    after = fleet_benches({"pi4": 1.0, "pi5": 0.8}, "bbbb", 6, 2)
    found = compare(before, after)
    pair = next(one for one in found if one.metric == "p50_ms" and one.against == "pi5")
    assert (pair.device_class, pair.verdict) == ("pi4", "slower")
    status = FleetStatus("shops", "2026-01-01", ())
    report = FleetReport("shops", "2026-01-01", status, None, "aaaa", "bbbb", found, (), ())
    assert report.regressions == ()
    assert "no regression was found" in report.as_text()


def test_void_and_lonely_benchmarks_prove_nothing() -> None:
    before = [bench("a", "pi4", "aaaa", 10), bench("b", "pi4", "aaaa", 10, void="throttled")]
    after = [bench("a", "pi4", "bbbb", 20), bench("b", "pi4", "bbbb", 10)]
    found = compare(before, after)
    assert {one.devices for one in found} == {1}
    assert {one.verdict for one in found} == {"inconclusive"}
    assert {one.interval for one in found} == {None}


def test_the_report(fleet: Fleet) -> None:
    folder = state_folder(fleet)
    for at, (release, factor) in enumerate((("aaaa", 1.0), ("bbbb", 1.3))):
        for name, member in ((one.name, one) for one in fleet.members):
            noise = 1 + 0.001 * len(name) + 0.002 * at
            keep(folder, bench(name, member.device_class, release, 10 * factor * noise, at=at))
    assert len(benches(folder)) == 8
    healthy = [
        DeviceStatus(one.name, one.device_class, str(one.address), True, None, bundle="b", sha256="b" * 64, ms=3.0)
        for one in fleet.members[:3]
    ]
    devices = (*healthy, DeviceStatus("door-1", "pi5", "ssh://pi@10.0.0.4", False, "no <route>"))
    status = FleetStatus("shops", "2026-01-01", devices)
    found = make(fleet, status)
    assert (found.before, found.after) == ("aaaa (aaaaaaaa)", "bbbb (bbbbbbbb)")
    assert "REGRESSION on pi4" in found.as_text()
    assert "3 of 4 run b (bbbbbbbb)" in status.as_text()
    shown = page(found)
    assert "no &lt;route&gt;" in shown
    assert "<script" not in shown
    assert "http://" not in shown.replace('xmlns="http://', "")
    assert shown.count("<rect") > 4
    back = make(fleet, status, before="bbbb", after="aaaa")
    assert (back.before, back.after) == ("bbbb (bbbbbbbb)", "aaaa (aaaaaaaa)")
    with pytest.raises(BadInput, match="can be called 'cccc'"):
        make(fleet, status, before="cccc")
