"""The race of a run on its device: ratios by rounds there, none of an emulated one, and no figure from a void round."""

import asyncio
import sys
from dataclasses import replace

import pytest

from edge.artifact import Artifact, sha256_of
from edge.bench import DeviceBench
from edge.errors import BadInput
from edge.report import Limits
from edgetool.candidates import Made
from edgetool.choose import failed_limits
from edgetool.deploy.bench import Bench, DeviceRun
from edgetool.deploy.race import TRIES, DeviceRace, _Record, seen
from edgetool.deploy.transport import Address, Login
from tests.conftest import REPOSITORY
from tests.edgetool.deploy.ssh_device import SshDevice
from tests.edgetool.deploy.test_plan import PI
from tests.edgetool.reports import candidate

MODEL = REPOSITORY / "edge" / "proof_models" / "conv.tflite"


def made(name: str) -> Made:
    artifact = Artifact(MODEL, "tflite", (), (), sha256_of(MODEL))
    return Made(name, artifact, artifact)


def race(device: SshDevice, rounds: int) -> DeviceRace:
    facts = asyncio.run(seen(device.address, device.login, None))
    return DeviceRace(device.address, device.login, facts, rounds=rounds, seconds=0.1)


def test_files_are_raced_there(device: SshDevice) -> None:
    baseline, other = made("float32"), made("other")
    rows, skipped, conditions = race(device, 2)([baseline, other], {"tflite": baseline}, 0, lambda _part, _what: None)
    assert skipped == []
    assert conditions.seconds > 0
    ((first,), (second,)) = (rows["float32"], rows["other"])
    assert first.ratio is None
    assert first.status == second.status == "measured"
    assert second.verdict == "inconclusive"  # two rounds decide nothing
    assert second.n >= 59
    assert second.p50_ms <= second.p95_ms <= second.p95_upper_ms
    assert list(device.home.rglob("*")) == []


def test_an_emulated_device_gets_no_ratio_and_meets_no_limit(device: SshDevice) -> None:
    device.python(f'QEMU_CPU=cortex-a72 exec "{sys.executable}" "$@"')
    baseline, other = made("float32"), made("other")
    rows, _, _ = race(device, 8)([baseline, other], {"tflite": baseline}, 0, lambda _part, _what: None)
    (found,) = rows["other"]
    assert found.status == "emulated"
    assert (found.ratio, found.verdict) == (None, None)
    limits = Limits(max_drop=1.0, max_p95_ms=1e9)
    assert failed_limits(replace(candidate("other"), measurements=(found,)), limits) == ("p95 was not measured",)


def test_a_round_in_which_it_throttles_counts_for_nothing() -> None:
    class Hot(Bench):
        def __init__(self) -> None:
            self.asked = 0

        async def run(self, name: str, model: bytes, arguments: list[str], told: object) -> DeviceRun:
            self.asked += 1
            return DeviceRun(name, DeviceBench.__new__(DeviceBench), emulated=False, void="under-volted")

    hot, record = Hot(), _Record()
    there = DeviceRace(Address("pi"), Login(), PI)
    asyncio.run(there._time(hot, made("one"), record))
    assert hot.asked == TRIES
    assert record.runs == []
    assert "under-volted" in str(record.failed)


def test_a_device_of_another_kind_than_the_target_is_refused(device: SshDevice) -> None:
    with pytest.raises(BadInput, match="the target is armv9000"):
        asyncio.run(seen(device.address, device.login, "armv9000"))
