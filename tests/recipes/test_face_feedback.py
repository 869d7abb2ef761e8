"""The door lock's feedback in the recipe of its anti-spoof model."""

from pathlib import Path

import numpy as np

from device_apps.door_lock.feedback import export, label, quarantine
from device_apps.door_lock.state import State
from edge.preprocess import ArrayInput
from edgetool.data.examples import ArrayExamples
from recipes.face_liveness_task import with_feedback
from tests.device_apps.door_lock.scenes import POLICY
from tests.device_apps.door_lock.test_feedback import names
from tests.device_apps.door_lock.test_feedback import state as made_state

state = made_state


def test_the_recipes_task_takes_labelled_cases_into_its_training_split_alone(state: State, tmp_path: Path) -> None:
    cases = quarantine(state)
    for case, what in zip(names(state), ("spoof", "Ann", "stranger"), strict=True):
        label(cases, state.people(), case, what)
    export(state, POLICY, tmp_path / "export")
    own = {"input": np.zeros((2, 3, 128, 128), np.float32)}
    steps = {"input": ArrayInput(dtype="float32")}
    found = with_feedback(ArrayExamples(own, np.array([0, 1]), steps, np.array([7, 8])), tmp_path / "export")
    assert found.arrays["input"].shape == (5, 3, 128, 128)
    assert found.targets.tolist() == [0, 1, 1, 0, 0]
    assert found.groups is not None
    assert found.groups.tolist() == [7, 8, 9, 10, 11]
    assert abs(float(found.arrays["input"][3].mean()) - 80 / 255) < 0.01
