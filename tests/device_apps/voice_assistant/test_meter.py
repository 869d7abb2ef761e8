"""False accepts, a home's own operating point, and the second stage."""

import json
from pathlib import Path

import numpy as np
import pytest

from device_apps.voice_assistant import calibrate, verifier
from device_apps.voice_assistant.meter import Meter, poisson_lower, poisson_upper
from device_apps.voice_assistant.sound import RATE_HZ, Samples
from device_apps.voice_assistant.verifier import read_verifier, write_verifier
from device_apps.voice_assistant.wake import Wake
from edge.errors import BadData, BadInput
from tests.device_apps.voice_assistant.test_wake import BLOCK, Played, sound

WAKE = Wake("a", 16000, 0.9)


def test_poisson_bounds() -> None:
    # the exact ones of a table (Garwood 1936, 90 % two-sided): 0 -> 2.996, 1 -> 0.051 … 4.744, 5 -> 1.970 … 10.513
    assert poisson_upper(0) == pytest.approx(2.9957, abs=1e-3)
    assert [poisson_lower(1), poisson_upper(1)] == pytest.approx([0.0513, 4.7439], abs=1e-3)
    assert [poisson_lower(5), poisson_upper(5)] == pytest.approx([1.9701, 10.5130], abs=1e-3)
    assert poisson_lower(0) == 0
    assert poisson_upper(200) == pytest.approx(225.7, abs=1.0)


def test_counts_last_over_a_restart_and_sound_does_not(tmp_path: Path) -> None:
    meter = Meter(tmp_path / "meter.json")
    meter.listened(1800)
    first = meter.accepted(WAKE, np.ones(10, np.float32), 1.0)
    second = meter.accepted(WAKE, np.ones(10, np.float32), 2.0)
    assert meter.was_false(first)
    assert not meter.was_false(first)  # once
    assert not meter.was_false(99)
    meter.save()
    again = Meter(tmp_path / "meter.json")
    assert again.reading.as_plain() == {
        "hours": 0.5, "accepts": 2, "false_accepts": 1, "false_accepts_per_h": 2.0, "upper95_per_h": 9.488
    }  # fmt: skip
    assert again.replays() == ()
    assert [one.number for one in meter.replays()] == [first, second]
    meter.forget()
    assert meter.replay(second) is None
    assert [path.name for path in tmp_path.iterdir()] == ["meter.json"]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"hours": "x"}', '{"hours": -1, "accepts": 0, "false_accepts": 5}']
)
def test_damaged_counts_start_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / "meter.json").write_text(content)
    assert Meter(tmp_path / "meter.json").reading.as_plain()["false_accepts_per_h"] is None


def test_calibration_takes_the_lowest_threshold_that_the_home_allows(tmp_path: Path) -> None:
    home = [0.3] * 9_000 + [0.71] + [0.3] * 9_000  # six minutes with one look-alike
    words = [sound([0.9] * 10), sound([0.8] * 10), sound([0.6] * 10)]
    found = calibrate.calibrate(Played(), "m" * 64, 1, words, [sound(home)], 0.0, lambda _: None)
    assert found.threshold == pytest.approx(0.71, abs=0.011)
    assert (found.words, found.missed, found.false_accepts) == (3, 1, 0)
    assert found.hours == pytest.approx(0.1, abs=0.001)
    assert found.upper95_per_h == pytest.approx(30.0, abs=0.5)
    calibrate.write_calibration(tmp_path / "c.json", found)
    assert calibrate.read_calibration(tmp_path / "c.json", "m" * 64, 1) == found.threshold
    assert calibrate.read_calibration(tmp_path / "c.json", "n" * 64, 1) is None
    assert calibrate.read_calibration(tmp_path / "none.json", "m" * 64, 1) is None
    (tmp_path / "c.json").write_text("{}")
    with pytest.raises(BadInput, match="damaged"):
        calibrate.read_calibration(tmp_path / "c.json", "m" * 64, 1)
    with pytest.raises(BadData, match="more than 0 times an hour"):
        calibrate.calibrate(Played(), "m" * 64, 1, words, [sound([0.999] * 1000)], 0.0, lambda _: None)


def test_accepts_are_counted_as_the_detector_does() -> None:
    means = np.r_[np.zeros(10), np.ones(250), np.zeros(10)]
    assert calibrate.accepts(means, 0.5, BLOCK / RATE_HZ) == [10, 110, 210]


def chirps(up: bool, count: int, seed: int) -> list[Samples]:
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        seconds = rng.uniform(0.6, 1.0)
        time = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
        low, high = rng.uniform(300, 500), rng.uniform(1500, 2500)
        rate = (high - low) / seconds
        phase = low * time + rate * time**2 / 2 if up else high * time - rate * time**2 / 2
        made.append((rng.uniform(0.05, 0.5) * np.sin(2 * np.pi * phase)).astype(np.float32))
        made[-1] += rng.normal(size=len(made[-1])).astype(np.float32) * np.float32(0.01)
    return made


def test_the_second_stage_learns_a_word_from_a_few_recordings(tmp_path: Path) -> None:
    fitted, kept, let = calibrate.fit_verifier("m" * 64, chirps(True, 25, 0), chirps(False, 40, 1))
    assert kept > 0.9
    assert let < 0.2
    assert np.mean([fitted(one) >= fitted.threshold for one in chirps(True, 20, 2)]) > 0.8
    assert np.mean([fitted(one) >= fitted.threshold for one in chirps(False, 20, 3)]) < 0.2
    assert fitted(np.zeros(0, np.float32)) >= 0  # nothing yet in the ring
    path = tmp_path / "v.json"
    write_verifier(path, fitted)
    assert read_verifier(path, "m" * 64) == fitted
    with pytest.raises(BadInput, match="another wake model"):
        read_verifier(path, "n" * 64)
    assert read_verifier(tmp_path / "none.json", "m" * 64) is None
    data = json.loads(path.read_text())
    for damage in ({"bias": "x"}, {"weights": [1.0]}, {"schema": "2"}, {"more": 1}, {"spread": [float("nan")]}):
        path.write_text(json.dumps({**data, **damage}))
        with pytest.raises(BadInput, match="damaged"):
            read_verifier(path, "m" * 64)


def test_too_few_recordings_are_said() -> None:
    with pytest.raises(BadData, match="too few"):
        verifier.fit("m" * 64, chirps(True, 3, 0), chirps(False, 30, 0))


def test_a_folder_without_sound(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="no wav files"):
        calibrate.read_folder(tmp_path)
