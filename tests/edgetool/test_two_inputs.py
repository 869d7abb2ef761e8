"""The main job on a model with two inputs and two outputs, judged by a task.py."""

from pathlib import Path

import pytest

from edge.bundle import open_bundle
from edge.target import this_machine
from edgetool.passes.post_training import Float16, Int8
from edgetool.pipeline import run
from edgetool.progress import Silent
from edgetool.recipe import Recipe, TaskSource

TASK = """
import numpy as np
from edge.preprocess import ArrayInput
from edgetool.data.examples import ArrayExamples
from edgetool.metrics import metric
from edgetool.task import Task


def task():
    rng = np.random.default_rng(0)
    steps = {"left": ArrayInput(), "right": ArrayInput()}

    def examples(n):
        left, right = (rng.normal(size=(n, 8)).astype(np.float32) for _ in range(2))
        labels = (left.sum(axis=1) > right.sum(axis=1)).astype(np.int64)
        return ArrayExamples({"left": left, "right": right}, labels, steps)

    return Task("larger", examples(500), examples(200), examples(1000), metric("accuracy"), steps, ("right", "left"))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Which of two vectors has the larger sum, and by how much; the weights are set, so no training is needed."""
    import keras
    import numpy as np

    left, right = keras.Input((8,), name="left"), keras.Input((8,), name="right")
    both = keras.layers.Concatenate()([left, right])
    margin = keras.layers.Dense(1, name="margin")
    scores = keras.layers.Dense(2, activation="softmax", name="scores")
    network = keras.Model([left, right], [scores(both), margin(both)])
    sign = np.concatenate([np.ones(8), -np.ones(8)])[:, None]
    margin.set_weights([sign, np.zeros(1)])
    scores.set_weights([np.concatenate([-sign, sign], axis=1), np.zeros(2)])
    path = tmp_path_factory.mktemp("two") / "larger.keras"
    network.save(path)
    return path


def test_two_inputs_and_two_outputs_go_the_whole_way(model: Path, tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(TASK)
    recipe = Recipe(
        model=model,
        task=TaskSource(str(tmp_path / "task.py")),
        target=this_machine(),
        sequences=((Float16(),), (Int8(),)),
        max_drop=(3.0, "points"),
    )
    done = run(recipe, tmp_path / "out", resume=False, progress=Silent())
    rows = {row.id: row for row in (done.report.baseline, *done.report.candidates)}
    assert rows["tflite-float32"].accuracy is not None
    assert rows["tflite-float32"].accuracy.value == 1.0
    for row in rows.values():
        assert row.parity is not None
        assert row.parity.first_divergence is None
    assert done.report.chosen is not None
    bundle = open_bundle(tmp_path / "out" / "larger.edge")
    assert [spec.name for spec in bundle.manifest.inputs] == ["left", "right"]
    assert {spec.name for spec in bundle.manifest.outputs} == {"scores", "margin"}
    assert set(bundle.golden.outputs) == {"scores", "margin"}
