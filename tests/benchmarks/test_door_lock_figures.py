"""The figures of the door lock's programs: rates on pairs and presentations whose answer is known, and their pages."""

from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from benchmarks import pages
from benchmarks.det_curve import det_svg
from benchmarks.door_lock_faces import by_person, draws, eer, pairs_of, rates
from benchmarks.door_lock_spoof import Presented, judged, probability, rate, threshold
from benchmarks.figures import Figure, write
from recipes.presentations import ATTACKS


def vectors(people: int, stills: int, noise: float) -> np.ndarray:
    """A direction for each person, and stills around it."""
    rng = np.random.default_rng(0)
    middles = np.repeat(np.eye(people, 32), stills, axis=0)
    found = middles + noise * rng.standard_normal(middles.shape)
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def test_all_pairs_are_there_once_and_weigh_as_their_people_were_drawn() -> None:
    pairs = pairs_of(vectors(4, 3, 0.01), 3)
    assert (len(pairs.genuine), int(pairs.genuine.sum())) == (66, 12)
    drawn = np.array([[1, 1, 1, 1], [2, 0, 1, 1]])
    weights = pairs.weights(drawn)
    assert weights[0].tolist() == [1.0] * 66
    of_first = pairs.genuine & (pairs.people[0] == 0)
    assert set(weights[1][of_first]) == {2.0}
    between = (pairs.people[0] == 0) & (pairs.people[1] == 2)
    assert set(weights[1][between]) == {2.0}
    assert not weights[1][(pairs.people == 1).any(axis=0)].any()


def test_people_who_lie_apart_have_no_errors_and_noise_has() -> None:
    apart, mixed = pairs_of(vectors(6, 4, 0.01), 4), pairs_of(vectors(6, 4, 3.0), 4)
    drawn = draws(6)[:200]
    value, resampled = eer(apart, drawn)
    assert value == 0
    assert resampled.max() == 0
    assert eer(mixed, drawn)[0] > 0.3
    found = rates(apart, 0.5, drawn)
    assert (found["fnmr"][0], found["fmr"][0]) == (0, 0)
    # none in 36 is not never: Wilson's upper end
    assert found["fnmr"][1][1] == pytest.approx(1.959964**2 / (36 + 1.959964**2))
    found = rates(apart, 1.1, drawn)
    assert (found["fnmr"][0], found["fmr"][0]) == (1, 0)


def test_errors_are_counted_by_person() -> None:
    faces = vectors(4, 3, 0.01)
    faces[0] = faces[3]  # a still of the first person is taken for the second
    own = by_person(pairs_of(faces, 3), 0.5)
    np.testing.assert_allclose(own["fnmr"], [2 / 3, 0, 0, 0])
    np.testing.assert_allclose(own["fmr"], [3 / 27, 3 / 27, 0, 0])


def test_the_curve_is_a_picture_of_both() -> None:
    pairs = pairs_of(vectors(6, 4, 0.4), 4)
    both = dict.fromkeys(("float", "int8"), (pairs.similarity, pairs.genuine))
    root = ET.fromstring(det_svg(both, pairs.weights(draws(6)[:50])))
    lines = root.findall("{http://www.w3.org/2000/svg}polyline")
    assert lines[0].attrib["points"] == lines[1].attrib["points"]
    assert len(lines[0].attrib["points"].split()) == 60


def presented(margins: list[float], vetoed: list[bool] | None = None) -> Presented:
    values = np.array(margins)
    return Presented(values, values, np.array(vetoed or [False] * len(margins)), 2)


def test_vetoes_come_before_liveness_and_a_rate_is_never_surer_than_its_people() -> None:
    one = presented([3.0, -1.0, 3.0, 3.0], [True, False, False, False])
    assert one.passes(0.0).tolist() == [False, False, True, True]
    value, (low, high) = rate(np.array([True, True, False, False]), 2)
    assert value == 0.5
    assert (low, high) == (0.0, 1.0)  # two people, one of them always
    assert threshold(presented([float(n) for n in range(100)])) == pytest.approx(4.95)
    assert probability(0.0) == 0.5


def test_a_species_that_passes_too_often_is_a_known_weakness(tmp_path: Path) -> None:
    found = {name: presented([-5.0] * 200) for name in ATTACKS} | {"live": presented([5.0] * 200)}
    found["mask"] = presented([5.0] * 150 + [-5.0] * 50)
    figures = judged(found, calibrated=6.0)
    met = {figure.name: figure.met for figure in figures}
    assert [name for name in ATTACKS if not met[f"apcer.{name}"]] == ["mask"]
    assert met["bpcer"]
    by_name = {figure.name: figure.value for figure in figures}
    assert (by_name["calibrated.bpcer"], by_name["calibrated.apcer.mask"]) == (100, 0)
    assert pages.weaknesses(tmp_path) == "- not measured yet\n"
    write("door_lock_spoof", "test", figures, tmp_path)
    assert pages.weaknesses(tmp_path).startswith("- mask: 75 % pass (")
    write("door_lock_spoof", "test", [Figure("apcer.mask", "upper <= 7", 0.0, "%", (0.0, 2.0), True)], tmp_path)
    assert "none" in pages.weaknesses(tmp_path)
