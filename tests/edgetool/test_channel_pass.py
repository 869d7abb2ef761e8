"""prune.channel on a trained model: what comes out, what is refused, and a fine-tune that is taken back."""

from pathlib import Path

import numpy as np
import pytest

from compress.training import FineTune
from convert.load import describe, load_keras
from edge.errors import BadRecipe, CheckFailed, UnknownName
from edgetool.conversion_worker import load_source
from edgetool.passes import pass_from_settings
from edgetool.passes.recovery import goodness, recover
from edgetool.passes.step import PassResult
from edgetool.recipe import TaskSource
from edgetool.task import Task
from tests.conftest import REPOSITORY

SOURCE = describe(REPOSITORY / "recipes/models/breast_cancer.keras")


@pytest.fixture(scope="module")
def task() -> Task:
    return load_source(TaskSource("breast_cancer", "f1"), SOURCE)


def run(task: Task | None, folder: Path, **given: object) -> PassResult:
    step = pass_from_settings("prune.channel", given)
    return step(SOURCE, task, folder, seed=0, trust=False, progress=lambda *_: None)


def test_it_is_smaller_and_as_good(task: Task, tmp_path: Path) -> None:
    result = run(task, tmp_path, macs=0.5, epochs=5, batch_size=32)
    small, whole = load_keras(result.artifact.path, trust=False), load_keras(SOURCE.path, trust=False)
    assert small.count_params() < 0.6 * whole.count_params()
    # 114 people of val: one wrong answer is about one point
    assert goodness(small, task) > goodness(whole, task) - 0.03
    assert result.artifact.steps == ("prune.channel(epochs=5, batch_size=32)",)
    assert [spec.name for spec in result.artifact.outputs] == [spec.name for spec in SOURCE.outputs]
    (tmp_path / "again").mkdir()
    again = load_keras(run(task, tmp_path / "again", macs=0.5, epochs=5, batch_size=32).artifact.path, trust=False)
    assert all(np.array_equal(*pair) for pair in zip(small.get_weights(), again.get_weights(), strict=True))


def test_rounds_reach_the_same_budget(task: Task, tmp_path: Path) -> None:
    small = load_keras(run(task, tmp_path, rounds=2, epochs=1, multiple=1).artifact.path, trust=False)
    widths = [layer.units for layer in small.layers[1:]]
    assert widths[0] * (30 + widths[1]) + widths[1] <= 0.5 * (32 * (30 + 16) + 16)


def test_without_a_fine_tune_l1_needs_no_data(tmp_path: Path) -> None:
    assert run(None, tmp_path, importance="l1", epochs=0).artifact.sha256 != SOURCE.sha256
    for given in ({"epochs": 0}, {"importance": "l1"}):
        with pytest.raises(BadRecipe, match=r"prune\.channel needs data"):
            run(None, tmp_path, **given)


def test_settings_out_of_range_are_refused(task: Task, tmp_path: Path) -> None:
    for given in ({"macs": 1.0}, {"keep": 1.5}, {"rounds": 0}, {"epochs": -1}, {"multiple": 0}):
        with pytest.raises(BadRecipe, match=r"prune\.channel: " + next(iter(given))):
            pass_from_settings("prune.channel", given)
    with pytest.raises(UnknownName, match="importance of prune"):
        pass_from_settings("prune.channel", {"importance": "l2"})
    with pytest.raises(CheckFailed, match="cannot reach the budget"):
        run(task, tmp_path, macs=0.01)


def test_onnx_is_pruned_without_training(tmp_path: Path) -> None:
    from convert.to_onnx import to_onnx

    path = tmp_path / "whole.onnx"
    path.write_bytes(to_onnx(load_keras(SOURCE.path, trust=False)))
    source, step = describe(path), pass_from_settings("prune.channel", {"macs": 0.6})
    result = step(source, None, tmp_path, seed=0, trust=False, progress=lambda *_: None)
    made = result.artifact
    assert result.skipped[-1].what == "fine-tune"
    assert (made.format, made.steps) == ("onnx", ("prune.channel(macs=0.6)",))
    assert made.path.stat().st_size < 0.8 * path.stat().st_size
    with pytest.raises(BadRecipe, match="taylor needs gradients"):
        pass_from_settings("prune.channel", {"importance": "taylor"})(
            source, None, tmp_path, seed=0, trust=False, progress=lambda *_: None
        )


def test_a_fine_tune_that_diverges_or_ends_worse_is_taken_back(task: Task, tmp_path: Path) -> None:
    model = load_keras(SOURCE.path, trust=False)
    before = model.get_weights()
    for rate in (1e30, 30.0):
        (said,) = recover(model, task, FineTune(1, rate, 32), tmp_path / str(rate), lambda *_: None)
        assert said.what == "fine-tune"
        assert "the weights before it are kept" in said.reason
        assert all(np.array_equal(*pair) for pair in zip(before, model.get_weights(), strict=True))
