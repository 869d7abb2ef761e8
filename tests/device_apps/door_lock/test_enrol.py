from pathlib import Path

import numpy as np
import pytest

from device_apps.door_lock.enrol import SHOTS, Enrolment, resemblances
from device_apps.door_lock.people import Person
from tests.device_apps.door_lock.findings import finding
from tests.device_apps.door_lock.scenes import scene, vision

THRESHOLD = 0.45


def unit(*values: float) -> np.ndarray:
    vector = np.array(values, np.float32)
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        ({"faces": 0}, "no face"),
        ({"faces": 2}, "only one person, please"),
        ({"wrong": "come closer"}, "come closer"),
        ({"live": 0.2}, "this does not look like a living face"),
    ],
)
def test_frames_that_no_shot_is_taken_of(kind: dict[str, object], advice: str) -> None:
    enrolment = Enrolment(THRESHOLD)
    found = enrolment.offer(finding(1.0, **kind), unit(1, 0))  # type: ignore[arg-type]
    assert (found.outcome, found.text, found.taken) == ("not taken", advice, 0)


def test_the_same_view_is_taken_once_and_another_person_never() -> None:
    enrolment = Enrolment(THRESHOLD)
    assert enrolment.offer(finding(1.0), unit(1, 0, 0)).outcome == "taken"
    again = enrolment.offer(finding(1.1), unit(1, 0.05, 0))
    assert (again.outcome, again.text) == ("not taken", "turn your head a little to one side")
    stranger = enrolment.offer(finding(1.2), unit(0.1, 1, 0))
    assert (stranger.outcome, stranger.text) == ("not taken", "this is another person than before")
    assert enrolment.offer(finding(1.3), None).outcome == "not taken"


def test_enough_shots_are_complete() -> None:
    enrolment = Enrolment(THRESHOLD)
    outcomes = [
        enrolment.offer(finding(1.0 + n), unit(np.cos(0.2 * n), np.sin(0.2 * n), 0)).outcome for n in range(SHOTS + 1)
    ]
    assert outcomes == ["taken"] * (SHOTS - 1) + ["complete"] * 2
    assert enrolment.templates().shape == (SHOTS, 3)


def test_duplicates_and_look_alikes_are_told_apart() -> None:
    people = [
        Person("a", "Ann", np.stack([unit(1, 0)]), "m", 0.0),
        Person("b", "Ben", np.stack([unit(0.4, np.sqrt(1 - 0.16))]), "m", 0.0),
        Person("c", "Cy", np.stack([unit(-1, 0)]), "m", 0.0),
    ]
    found = resemblances(np.stack([unit(1, 0)]), people, THRESHOLD)
    assert [(one.person.name, one.is_duplicate) for one in found] == [("Ann", True), ("Ben", False)]
    assert found[1].similarity == pytest.approx(0.4, abs=1e-6)


@pytest.mark.shared_data
def test_a_person_is_enrolled_from_real_pictures_and_is_a_duplicate_afterwards(shared_data: Path) -> None:
    look = vision(shared_data)

    def enrolled(person: int, first: int) -> np.ndarray:
        enrolment = Enrolment(THRESHOLD)
        for number in range(first, 11):
            enrolment.offer(*look.look(scene(shared_data, person, number), float(number)))
        assert enrolment.is_complete
        return enrolment.templates()

    ann = Person("a", "Ann", enrolled(1, 1), "m", 0.0)
    (again,) = resemblances(enrolled(1, 4), [ann], THRESHOLD)
    assert again.is_duplicate
    assert not any(one.is_duplicate for one in resemblances(enrolled(5, 1), [ann], THRESHOLD))


@pytest.mark.shared_data
def test_two_people_in_turns_are_noticed(shared_data: Path) -> None:
    look, enrolment = vision(shared_data), Enrolment(THRESHOLD)
    enrolment.offer(*look.look(scene(shared_data, 1, 1), 1.0))
    advice = enrolment.offer(*look.look(scene(shared_data, 9, 1), 2.0))
    assert advice.text == "this is another person than before"
