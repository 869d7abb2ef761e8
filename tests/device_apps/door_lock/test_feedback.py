"""What was called wrong: kept sealed, labelled by a person, exported, taken by calibration."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from device_apps.door_lock.__main__ import main
from device_apps.door_lock.calibrate import trials
from device_apps.door_lock.feedback import export, exported, label, quarantine
from device_apps.door_lock.people import Person
from device_apps.door_lock.state import State, open_state
from edge.errors import BadData, BadInput
from tests.device_apps.door_lock.scenes import POLICY

ANN = Person("aa" * 8, "Ann", np.ones((5, 8), np.float32), "a" * 64, 0.0)
EVENT = {"outcome": "accept", "person": ANN.id, "reasons": ["3 frames agree"], "faces": [[10.5, 12.0, 30.0, 40.0]]}


@pytest.fixture
def state(tmp_path: Path) -> State:
    """A lock with Ann, and three cases that somebody called wrong."""
    made = open_state(tmp_path / "state")
    made.people().add(ANN)
    cases = quarantine(made)
    for shade in (40, 80, 120):
        picture = np.full((60, 80, 3), shade, np.uint8)
        cases.add({"at": float(shade), "event": "frame", **EVENT}, cv2.imencode(".jpg", picture)[1].tobytes())
    return made


def names(state: State) -> list[str]:
    return [case.name for case in quarantine(state).cases()]


def test_cases_come_in_order_unlabelled_and_are_labelled_one_by_one(state: State) -> None:
    cases = quarantine(state)
    assert [case.label for case in cases.cases()] == [None] * 3
    assert [case.event["at"] for case in cases.cases()] == [40, 80, 120]
    first, second, _ = names(state)
    assert label(cases, state.people(), first, "spoof") == "spoof"
    assert label(cases, state.people(), second, "Ann") == ANN.id
    assert [case.label for case in cases.cases()] == ["spoof", ANN.id, None]
    with pytest.raises(BadInput, match="nobody is enrolled as 'Zoe'"):
        label(cases, state.people(), first, "Zoe")
    with pytest.raises(BadInput):
        label(cases, state.people(), "0" * 16, "spoof")
    sealed = b"".join(path.read_bytes() for path in (state.folder / "quarantine").iterdir())
    assert b"spoof" not in sealed


def test_only_labelled_cases_are_exported_each_to_its_place(state: State, tmp_path: Path) -> None:
    cases, folder = quarantine(state), tmp_path / "export"
    with pytest.raises(BadInput, match="no case is labelled"):
        export(state, POLICY, folder)
    assert not folder.exists()
    first, second, third = names(state)
    for case, what in ((first, "spoof"), (second, "Ann"), (third, "stranger")):
        label(cases, state.people(), case, what)
    assert export(state, POLICY, folder) == 3
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))
    assert found == sorted(
        [f"spoof/{first}.png", f"faces/{ANN.id}/{second}.png", f"faces/stranger-{third}/{third}.png"]
    )
    assert folder.stat().st_mode & 0o077 == 0
    with pytest.raises(BadInput, match="not empty"):
        export(state, POLICY, folder)
    read = exported(folder)
    assert [one.is_spoof for one in read] == [True, False, False]
    assert read[0].box == (10.5, 12.0, 30.0, 40.0)
    assert abs(int(read[1].picture.mean()) - 80) <= 1


@pytest.mark.parametrize("text", ["", "{}", '{"schema": "other"}', '{"schema": "edgetool.door-lock.feedback/1"}'])
def test_a_folder_that_is_no_export_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadData):
        exported(tmp_path)
    (tmp_path / "feedback.json").write_text(text)
    with pytest.raises(BadData):
        exported(tmp_path)


def test_the_commands_list_show_label_forget_and_export(
    state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = '{ file = "x.onnx", sha256 = "' + "a" * 64 + '" }'
    state.policy.write_text(f"[models]\ndetector = {settings}\nliveness = {settings}\nembedder = {settings}\n")
    where = ["--state", str(state.folder)]
    first, second, _ = names(state)
    assert main(["label", "--json", *where]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["case"] for row in rows] == names(state)
    assert rows[0]["reasons"] == ["3 frames agree"]
    assert main(["label", first, "--picture", str(tmp_path / "look.jpg"), *where]) == 0
    assert cv2.imread(str(tmp_path / "look.jpg")).shape == (60, 80, 3)
    assert main(["label", first, *where]) == 2
    assert "what was the case" in capsys.readouterr().err
    assert main(["label", first, "stranger", *where]) == 0
    assert main(["label", second, "--delete", *where]) == 0
    assert len(names(state)) == 2
    assert main(["export-feedback", str(tmp_path / "out"), *where]) == 0
    assert "1 labelled cases" in capsys.readouterr().out
    assert [one.label for one in exported(tmp_path / "out")] == ["stranger"]
    assert main(["audit", "verify", *where]) == 0
    main(["audit", "show", *where])
    assert '"feedback exported"' in capsys.readouterr().out


def test_a_stranger_with_one_picture_is_an_impostor_to_everybody() -> None:
    along = np.eye(4, dtype=np.float32)
    people = {"a": along[[0, 0]], "b": along[[1, 1]]}
    before, after = trials(people), trials(people | {"stranger-1": along[[0]]})
    assert len(after.impostor) == len(before.impostor) + 2
    assert max(after.impostor) == 1.0
    assert after.genuine == before.genuine


def test_nothing_is_learned_from_what_is_kept(state: State) -> None:
    people, refused = state.people().load(None)
    assert [len(one.templates) for one in people] == [5]
    assert refused == ()
    assert not state.calibration.exists()
