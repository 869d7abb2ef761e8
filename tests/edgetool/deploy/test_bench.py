"""Models timed on a device: what runs there, what is void, and that nothing stays."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from edge.errors import BadInput, BadRecipe, CheckFailed
from edgetool.cli.bench import bench as command
from edgetool.deploy.bench import DeviceBenches, bench_on, require_valid, void
from tests.conftest import REPOSITORY
from tests.edgetool.deploy.ssh_device import SshDevice

MODEL = REPOSITORY / "edge" / "proof_models" / "conv.tflite"
SHORT = ["--seconds", "0.2", "--launches", "2", "--samples"]


def quiet(_fraction: float, _what: str) -> None:
    pass


def bench(device: SshDevice, models: list[Path], arguments: list[str]) -> DeviceBenches:
    return asyncio.run(bench_on(models, device.address, device.login, arguments, None, quiet))


def test_a_model_is_timed_there_and_nothing_stays(device: SshDevice) -> None:
    found = bench(device, [MODEL, MODEL], SHORT)
    first, second = found.runs
    assert first.bench.samples_s is not None
    assert sum(len(launch) for launch in first.bench.samples_s) == first.bench.n > 0
    assert first.model == second.model == "conv.tflite"
    assert first.bench.engine == "litert"
    assert not first.emulated
    require_valid(replace(found, runs=(replace(first, void=None),)))
    said = found.as_text()
    assert "p50" in said
    assert "governor" in said
    assert list(device.home.rglob("*")) == []
    with pytest.raises(BadInput, match="delegate"):
        bench(device, [MODEL], [*SHORT, "--delegate", "nonsense"])
    assert list(device.home.rglob("*")) == []

    throttled = replace(first.bench, throttled=True)
    assert void(first.bench) is None or first.bench.throttled
    run = replace(first, bench=throttled, void=void(throttled))
    with pytest.raises(CheckFailed, match="under-volted"):
        require_valid(replace(found, runs=(run,)))
    assert "VOID" in replace(found, runs=(run,)).as_text()
    emulated = replace(found, runs=(replace(run, emulated=True, void=None),)).as_text()
    assert "emulated: p50" in emulated
    assert "measured" not in emulated


def test_what_cannot_be_done_on_a_device_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match="--profile does not go with --device"):
        command([MODEL], device="ssh://pi@pi", profile=True)
    with pytest.raises(BadRecipe, match="one --delegate"):
        command([MODEL], device="ssh://pi@pi", delegate=["cpu", "xnnpack"])
    other = tmp_path / "model.keras"
    other.write_bytes(b"")
    with pytest.raises(BadInput, match="cannot be timed on a device"):
        command([other], device="ssh://pi@pi")
