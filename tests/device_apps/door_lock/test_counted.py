"""Which part of a face counted: found by occlusion, told after the lock has acted, shown to who may see the camera."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from device_apps.door_lock.align import SIDE as FACE_SIDE
from device_apps.door_lock.align import TEMPLATE
from device_apps.door_lock.counted import RUNS, SIDE, Question, WhatCounted, answered, marked, words
from device_apps.door_lock.policy import Policy, read_policy
from device_apps.door_lock.recogniser import Recogniser
from device_apps.door_lock.state import open_state
from edge.errors import BadModel
from tests.device_apps.door_lock.scenes import scene
from tests.device_apps.door_lock.test_app import ALONE, POLICY, Door
from tests.device_apps.door_lock.test_cli import lock as made_lock

lock = made_lock


def textured() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (FACE_SIDE, FACE_SIDE, 3), np.uint8)


def of_part(middle: tuple[float, float], picture: np.ndarray) -> Question:
    """A score that is the texture around one point of the face, and nothing else."""
    x, y = (int(v) for v in middle)
    part = np.s_[:, y - 10 : y + 10, x - 10 : x + 10]
    return Question("similarity", picture, lambda pictures: pictures[part].astype(float).std(axis=(1, 2, 3)) / 100)


@pytest.mark.parametrize(("number", "name"), [(0, "left eye"), (2, "nose"), (4, "right of the mouth")])
def test_the_part_that_the_score_looks_at_is_the_one_that_counted(number: int, name: str) -> None:
    question = of_part(tuple(TEMPLATE[number]), textured())
    found = answered(question)
    assert found.runs <= RUNS
    assert found.deletion.faithful
    assert words(question, found).startswith(f"the match rests most on: {name}")
    picture = marked(question.picture, found)
    assert picture.shape == (SIDE, SIDE, 3)
    redness = picture[:, :, 2].astype(int) - picture[:, :, 1]
    x, y = (TEMPLATE[number] * SIDE / FACE_SIDE).astype(int)
    assert redness[y, x] > 60
    far_x, far_y = SIDE - 1 - x, SIDE - 1
    assert abs(redness[far_y, far_x]) < 10


def test_where_nothing_counted_that_is_said() -> None:
    question = Question("similarity", textured(), lambda pictures: np.full(len(pictures), 0.7))
    assert words(question, answered(question)) == "no part of the face counted more than the rest"


class Told:
    """What is told and shown, and how the lock stood when it was asked."""

    def __init__(self, folder: Path, policy: Policy) -> None:
        self.door = Door(folder, policy)
        self.open_when_asked: list[bool] = []
        self.told: list[dict[str, Any]] = []
        self.shown: list[bytes] = []
        self.question: Question | None = of_part((56.0, 71.0), textured())
        self.door.lock._events.add(WhatCounted(self._ask, self._tell, self.shown.append))

    def _ask(self, captured_s: float) -> Question | None:
        assert captured_s <= self.door.clock.monotonic()
        self.open_when_asked.append(self.door.is_open)
        return self.question

    def _tell(self, kind: str, **fields: Any) -> None:
        self.told.append({"kind": kind, **fields})


def test_the_picture_is_made_after_the_lock_has_acted(tmp_path: Path) -> None:
    told = Told(tmp_path / "state", ALONE)
    told.door.see(frames=2)
    assert told.told == []
    told.door.see(frames=1)
    assert told.open_when_asked == [True]
    (event,) = told.told
    assert (event["kind"], event["outcome"], event["person"]) == ("counted", "accept", "ann")
    assert "nose" in event["reasons"][0]
    assert all(0 <= edge <= 1 for region in event["regions"] for edge in region)
    assert cv2.imdecode(np.frombuffer(told.shown[0], np.uint8), cv2.IMREAD_COLOR).shape == (SIDE, SIDE, 3)


def test_a_face_that_waits_for_its_pin_and_one_that_is_refused_have_theirs(tmp_path: Path) -> None:
    told = Told(tmp_path / "state", POLICY)
    told.door.see()
    assert [event["outcome"] for event in told.told] == ["accept"]
    told.door.leave()
    told.door.clock.advance(10)
    told.question = dataclasses.replace(of_part((56.0, 71.0), textured()), what="not live")
    told.door.see(frames=POLICY.decision.refuse_frames, live=0.1)
    assert [event["outcome"] for event in told.told] == ["accept", "refuse"]
    assert told.told[1]["reasons"] == ["what counted most is marked"]


def test_a_frame_that_is_forgotten_has_none_and_a_model_that_fails_says_so(tmp_path: Path) -> None:
    told = Told(tmp_path / "state", ALONE)
    told.question = None
    told.door.see()
    assert (told.told, told.shown) == ([], [])

    def fails(pictures: np.ndarray) -> np.ndarray:
        raise BadModel("the model is gone")

    again = Told(tmp_path / "again", ALONE)
    again.question = Question("similarity", textured(), fails)
    again.door.see()
    assert again.told[0]["reasons"] == ["the model is gone"]
    assert again.shown == []
    assert again.door.is_open


@pytest.mark.shared_data
def test_real_faces_on_real_models_are_asked(lock: Path, shared_data: Path, tmp_path: Path) -> None:
    shutil.copytree(lock / "state", tmp_path / "state")
    state = open_state(tmp_path / "state")
    look = Recogniser(state, read_policy(state.policy), state.folder / "models", lambda refused: None)
    seen = look(scene(shared_data, 2, 3), 1.0)
    assert seen.match is not None
    question = look.question(1.0)
    assert question is not None
    assert question.what == "similarity"
    found = answered(question)
    assert found.score == pytest.approx(seen.match.similarity, abs=1e-5)
    assert found.explains
    spoof = np.asarray(cv2.imread(str(shared_data / "faces/spoof_samples/image_F1.jpg")), np.uint8)
    refused = look(spoof, 2.0)
    assert not refused.is_live
    question = look.question(2.0)
    assert question is not None
    assert question.what == "not live"
    assert answered(question).score > 0
    assert look.question(3.0) is None
    for number in range(20):
        look(scene(shared_data, 2, 3), 10.0 + number)
    assert look.question(1.0) is None
    state.people().remove(state.people().find("Ann").id)
    look(scene(shared_data, 2, 3), 50.0)
    assert look.question(29.0) is None
