from pathlib import Path

import numpy as np
import pytest

from device_apps.door_lock.calibrate import Trials, calibrate, trials
from device_apps.door_lock.match import (
    Calibration,
    Gallery,
    read_calibration,
    threshold_for,
    wilson_upper,
    write_calibration,
)
from device_apps.door_lock.people import Person
from edge.errors import BadData, BadInput

MODEL = "a" * 64
CALIBRATION = Calibration(0.45, MODEL, 1e-3, 5e-3, 0.01, 1000, 100, 15)


def unit(*values: float) -> np.ndarray:
    vector = np.array(values, np.float32)
    return vector / np.linalg.norm(vector)


def person(name: str, *templates: np.ndarray) -> Person:
    return Person(name, name, np.stack(templates), MODEL, 0.0)


def test_the_nearest_template_of_each_person_counts() -> None:
    gallery = Gallery([person("ann", unit(1, 0, 0), unit(0, 1, 0)), person("ben", unit(0, 0, 1))], 0.5, 0.05)
    found = gallery.match(unit(0, 1, 0.2))
    assert (found.person, found.nearest) == ("ann", "ann")
    assert found.similarity == pytest.approx(1 / np.sqrt(1.04), abs=1e-6)
    assert found.runner_up == pytest.approx(0.2 / np.sqrt(1.04), abs=1e-6)


def test_below_the_threshold_is_nobody_and_at_it_somebody() -> None:
    gallery = Gallery([person("ann", unit(1, 0))], 0.6, 0.05)
    assert gallery.match(unit(0.59, np.sqrt(1 - 0.59**2))).person is None
    assert gallery.match(unit(0.61, np.sqrt(1 - 0.61**2))).person == "ann"
    assert gallery.match(np.full(2, np.nan, np.float32)).person is None


def test_look_alikes_are_neither() -> None:
    gallery = Gallery([person("ann", unit(1, 0.1)), person("ben", unit(1, -0.1))], 0.5, 0.05)
    found = gallery.match(unit(1, 0.01))
    assert (found.person, found.reason) == (None, "cannot tell two enrolled people apart")
    assert Gallery([person("ann", unit(1, 0.1))], 0.5, 0.05).match(unit(1, 0)).person == "ann"


def test_an_empty_gallery_knows_nobody() -> None:
    assert Gallery([], 0.5, 0.05).match(unit(1, 0)).reason == "nobody is enrolled"


def test_embeddings_of_another_length() -> None:
    with pytest.raises(BadInput):
        Gallery([person("ann", unit(1, 0))], 0.5, 0.05).match(unit(1, 0, 0))


def test_a_calibration_belongs_to_its_model(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    write_calibration(path, CALIBRATION)
    assert read_calibration(path, MODEL) == CALIBRATION
    with pytest.raises(BadInput, match="the embedder is bbbb"):
        read_calibration(path, "b" * 64)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"threshold": "high"}'])
def test_a_damaged_calibration(tmp_path: Path, content: str) -> None:
    (tmp_path / "calibration.json").write_text(content)
    with pytest.raises(BadInput, match="damaged"):
        read_calibration(tmp_path / "calibration.json", MODEL)
    with pytest.raises(BadInput, match="cannot read"):
        read_calibration(tmp_path / "none.json", MODEL)


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.0, 2.0])
def test_thresholds_that_let_everybody_in_or_nobody(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        Calibration(threshold, MODEL, 1e-3, 5e-3, 0.01, 1000, 100, 15)


def test_the_threshold_lets_no_more_pass_than_asked() -> None:
    scores = np.random.default_rng(0).normal(0, 0.1, 5000)
    for rate in (0.1, 0.01, 0.001):
        threshold = threshold_for(list(scores), rate)
        assert (scores >= threshold).sum() <= rate * 5000
        assert (scores >= threshold - 0.02).sum() > rate * 5000
    with pytest.raises(BadInput, match="999 impostor trials cannot show"):
        threshold_for(list(scores[:999]), 0.001)


def test_equal_scores_are_on_one_side() -> None:
    assert threshold_for([0.3] * 100, 0.01) > 0.3


def test_the_interval_is_wilsons() -> None:
    assert wilson_upper(0, 1000) == pytest.approx(0.00383, abs=1e-5)
    assert wilson_upper(1, 10) == pytest.approx(0.40415, abs=1e-4)
    assert wilson_upper(0, 0) == 1


def test_trials_hold_the_second_half_against_every_gallery() -> None:
    found = trials({"ann": np.eye(4, dtype=np.float32), "ben": np.eye(4, dtype=np.float32)[::-1]})
    assert (len(found.genuine), len(found.impostor), found.people) == (4, 4, 2)
    assert found.genuine == (0, 0, 0, 0)
    assert found.impostor == (1, 1, 1, 1)


def test_people_that_cannot_be_told_apart_give_no_threshold() -> None:
    with pytest.raises(BadData, match="tells nobody apart"):
        calibrate(Trials((1.0,) * 10, (1.0,) * 1000, 4), MODEL, 1e-3)
    found = calibrate(Trials((0.9,) * 9 + (0.1,), (0.3,) * 999 + (0.5,), 4), MODEL, 1e-3)
    assert found.threshold == pytest.approx(0.3, abs=1e-6)
    assert found.threshold > 0.3
    assert found.fnmr == 0.1
