"""The passes of distillation on a real model and task, with teachers of every format."""

import dataclasses

import numpy as np
import pytest

from convert.load import describe, load_keras
from edge.errors import BadModel, BadRecipe, CheckFailed
from edgetool.candidates import baseline_sequences
from edgetool.conversion_worker import load_source
from edgetool.passes import pass_from_settings
from edgetool.passes.recovery import goodness
from edgetool.passes.step import KEPT
from edgetool.passes.teacher import teacher_says
from edgetool.recipe import TaskSource, read_recipe
from edgetool.workspace import Workspace
from tests.conftest import REPOSITORY

MODEL = REPOSITORY / "recipes/models/breast_cancer.keras"
SMALL = {"epochs": 20, "batch_size": 32, "width": 0.5}


@pytest.fixture(scope="module")
def source():
    return describe(MODEL)


@pytest.fixture(scope="module")
def task(source):
    return load_source(TaskSource("breast_cancer", "f1"), source)


def run(name, settings, source, task, folder):
    step = pass_from_settings(name, settings)
    folder.mkdir(exist_ok=True)
    return step(source, task, folder, seed=0, trust=False, progress=lambda *_: None)


@pytest.mark.parametrize("name", ["distill.logits", "distill.hints", "distill.relational"])
def test_a_narrower_student_learns_the_task(name, source, task, tmp_path):
    made = run(name, SMALL, source, task, tmp_path).artifact
    teacher, student = load_keras(MODEL), load_keras(made.path)
    assert student.count_params() < 0.6 * teacher.count_params()
    assert goodness(student, task) > goodness(teacher, task) - 0.1
    assert made.steps[-1].startswith(name)
    assert (made.inputs, [spec.shape for spec in made.outputs]) == (source.inputs, [s.shape for s in source.outputs])


def test_every_format_teaches_the_same_and_is_asked_once(source, task, tmp_path):
    said = {"keras": teacher_says(MODEL, task, tmp_path, lambda *_: None)}
    for file_format, steps in baseline_sequences(source, ("litert", "onnxruntime")).items():
        folder = tmp_path / file_format
        folder.mkdir()
        file = steps[0](source, None, folder, seed=0, trust=False, progress=lambda *_: None).artifact.path
        said[file_format] = teacher_says(file, task, tmp_path, lambda *_: None)
    for outputs in said.values():
        # float32 kernels of three runtimes sum in different orders
        np.testing.assert_allclose(outputs, said["keras"], atol=1e-5)
    asked = []
    again = teacher_says(MODEL, task, tmp_path, lambda *at: asked.append(at))
    assert isinstance(again, np.memmap)
    assert not asked
    assert len(list(tmp_path.glob("teacher-*.npy"))) == 3
    with pytest.raises(BadModel, match="no layers to take hints from"):
        teacher_says(file, task, tmp_path, lambda *_: None, layer="dense")


def test_settings_are_checked_and_models_are_beside_the_recipe(source, task, tmp_path):
    for settings in (
        {"width": 0.0},
        {"label_weight": 2.0},
        {"temperature": -1.0},
        {"teachers": "x"},
        {"teachers": [1]},
    ):
        with pytest.raises(BadRecipe, match=r"distill\.logits"):
            pass_from_settings("distill.logits", settings)
    with pytest.raises(BadRecipe, match=r"there is no model nowhere\.keras"):
        pass_from_settings("distill.logits", {"student": "nowhere.keras"})
    with pytest.raises(BadRecipe, match="one teacher, not 2"):
        run("distill.hints", {"teachers": [str(MODEL)] * 2}, source, task, tmp_path / "two")
    (tmp_path / "teacher.keras").write_bytes(MODEL.read_bytes())
    recipe = tmp_path / "recipe.toml"
    line = '[[{ name = "distill.logits", teachers = ["teacher.keras"] }]]'
    recipe.write_text(f'model = "teacher.keras"\ntask = "breast_cancer"\npasses = {line}\n')
    (step,) = read_recipe(recipe).sequences[0]
    assert step.reads == (tmp_path / "teacher.keras",)


def test_a_student_that_ends_worse_than_it_began_is_refused(source, task, tmp_path):
    settings = {"width": 1.0, "learning_rate": 30.0, "epochs": 1, "batch_size": 32}
    with pytest.raises(CheckFailed, match=r"distilling: f1 on val went from|the loss became"):
        run("distill.logits", settings, source, task, tmp_path)


def test_an_interrupted_training_is_kept_for_the_next_run_and_is_not_shipped(source, task, tmp_path):
    workspace = Workspace(tmp_path / "out", resume=False)
    step = pass_from_settings("prune.magnitude", {"epochs": 2, "batch_size": 32, "end": 0.4})
    steps_seen = []

    def stop_in_the_second_epoch(fraction, _):
        steps_seen.append(fraction)
        if fraction > 0.6 and len(steps_seen) < 30:
            raise KeyboardInterrupt

    def make(folder):
        return step(source, task, folder, seed=0, trust=False, progress=stop_in_the_second_epoch)

    with pytest.raises(KeyboardInterrupt):
        workspace.cached_pass("key", make)
    assert (workspace.work / ".making-key" / KEPT / "epoch.npz").is_file()
    first = len(steps_seen)
    steps_seen.extend([0.0] * 30)
    result = workspace.cached_pass("key", make)
    assert len(steps_seen) - 30 - first < first
    assert not (result.artifact.path.parent / KEPT).exists()
    whole = run("prune.magnitude", dataclasses.asdict(step), source, task, tmp_path / "whole").artifact
    for left, right in zip(
        load_keras(result.artifact.path).get_weights(), load_keras(whole.path).get_weights(), strict=True
    ):
        np.testing.assert_array_equal(left, right)
    workspace.close()
