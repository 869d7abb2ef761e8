"""lowrank.svd on a trained model."""

from pathlib import Path

import pytest

from convert.load import describe, load_keras
from edge.errors import BadRecipe
from edgetool.conversion_worker import load_source
from edgetool.passes import pass_from_settings
from edgetool.passes.recovery import goodness
from edgetool.recipe import TaskSource
from tests.conftest import REPOSITORY

SOURCE = describe(REPOSITORY / "recipes/models/diabetes.keras")


def test_it_is_smaller_and_as_good(tmp_path: Path) -> None:
    task = load_source(TaskSource("diabetes", "mae"), SOURCE)
    step = pass_from_settings("lowrank.svd", {"macs": 0.8, "epochs": 5, "batch_size": 32})
    made = step(SOURCE, task, tmp_path, seed=0, trust=False, progress=lambda *_: None).artifact
    small, whole = load_keras(made.path, trust=False), load_keras(SOURCE.path, trust=False)
    assert small.count_params() < 0.9 * whole.count_params()
    assert goodness(small, task) > 1.05 * goodness(whole, task)  # both are minus the error
    assert made.steps == ("lowrank.svd(macs=0.8, epochs=5, batch_size=32)",)


def test_no_data_is_needed_without_a_fine_tune(tmp_path: Path) -> None:
    step = pass_from_settings("lowrank.svd", {"macs": 0.8, "epochs": 0})
    assert step(SOURCE, None, tmp_path, seed=0, trust=False, progress=lambda *_: None).artifact.sha256 != SOURCE.sha256
    with pytest.raises(BadRecipe, match=r"lowrank\.svd needs data"):
        pass_from_settings("lowrank.svd", {})(SOURCE, None, tmp_path, seed=0, trust=False, progress=lambda *_: None)
    for given in ({"macs": 1.0}, {"energy": 1.5}, {"multiple": 0}, {"epochs": -1}, {"batch_size": 0}):
        with pytest.raises(BadRecipe, match=r"lowrank\.svd: " + next(iter(given))):
            pass_from_settings("lowrank.svd", given)
