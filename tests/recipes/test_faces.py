"""The tasks of the door lock's models on a few of the people, and each recipe's first passes on them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge.engines import open_engine, predict
from edge.errors import BadData
from edgetool.recipe import read_recipe
from edgetool.task import Task
from recipes import face_detector_task, face_embedder_task, face_liveness_task
from recipes.faces import orl
from tests.conftest import REPOSITORY

FEW = {"train": range(1, 3), "val": range(9, 11), "test": range(16, 18)}
TASKS: dict[str, Callable[[dict[str, range]], Task]] = {
    "face_detector": face_detector_task.task,
    "face_embedder": face_embedder_task.task,
    "face_liveness": face_liveness_task.task,
}


@pytest.fixture(autouse=True)
def data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("EDGETOOL_DATA", raising=False)
    if "shared_data" in request.keywords:
        monkeypatch.setenv("EDGETOOL_DATA", str(request.getfixturevalue("shared_data")))


def test_without_the_faces_that_is_said() -> None:
    with pytest.raises(BadData, match="EDGETOOL_DATA"):
        orl()


def outputs(model: Path, task: Task) -> np.ndarray:
    engine = open_engine(model, "onnx")
    inputs, _ = task.test.take(np.arange(task.test.n))
    name = engine.outputs[0].name
    return np.concatenate([predict(engine, {"input": one[None]})[name] for one in inputs["input"]])


@pytest.mark.shared_data
@pytest.mark.parametrize("name", TASKS)
def test_the_first_passes_of_a_recipe_keep_what_the_task_measures(name: str, tmp_path: Path) -> None:
    from convert.load import describe

    recipe = read_recipe(REPOSITORY / f"recipes/{name}.toml")
    assert recipe.sequences is not None
    task = TASKS[name](FEW)
    assert set(task.test.groups.tolist()) == set(task.test.groups.tolist()[:: task.test.n // 2])  # type: ignore[union-attr]
    current = floats = describe(recipe.model)
    for number, step in enumerate(recipe.sequences[0]):
        (tmp_path / str(number)).mkdir()
        current = step(
            current, None, tmp_path / str(number), seed=0, trust=False, progress=lambda done, what: None
        ).artifact
        if floats.format != "onnx":
            floats = current
    assert current.path.stat().st_size < floats.path.stat().st_size / 2.7
    before = task.metric.value(outputs(floats.path, task), task.test.labels())
    after = task.metric.value(outputs(current.path, task), task.test.labels())
    if name == "face_detector":
        assert before == pytest.approx(100, abs=0.1)
        assert after > 40
    else:
        assert before > 0.5
        assert after == pytest.approx(before, abs=0.01)
