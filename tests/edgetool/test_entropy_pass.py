"""cluster.entropy as a pass: a trained model in, a smaller one out that is still right."""

from pathlib import Path

import pytest

from convert.load import describe, load_keras
from edge.errors import BadRecipe
from edgetool.conversion_worker import load_source
from edgetool.passes import pass_from_settings
from edgetool.passes.recovery import goodness
from edgetool.recipe import TaskSource
from tests.conftest import REPOSITORY

MODEL = REPOSITORY / "recipes/models/breast_cancer.keras"


def test_a_model_of_the_recipes_is_compressed(tmp_path: Path) -> None:
    source = describe(MODEL)
    task = load_source(TaskSource("breast_cancer", "f1"), source)
    step = pass_from_settings("cluster.entropy", {"ratio": 16.0, "epochs": 20, "batch_size": 32})
    result = step(source, task, tmp_path, seed=0, trust=False, progress=lambda *_: None)
    before, after = load_keras(MODEL, trust=False), load_keras(result.artifact.path, trust=False)
    zeros = sum(int((w == 0).sum()) for w in after.get_weights()) / sum(w.size for w in after.get_weights())
    assert zeros > 0.2
    assert goodness(after, task) > goodness(before, task) - 0.05
    assert result.artifact.steps[-1] == "cluster.entropy(ratio=16.0, epochs=20, batch_size=32)"
    assert any("biases" in entry.what for entry in result.skipped)


@pytest.mark.parametrize("settings", [{"ratio": 1.0}, {"clusters": 1}, {"epochs": 0}, {"distill": 2.0}])
def test_settings_out_of_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(BadRecipe, match=r"cluster\.entropy"):
        pass_from_settings("cluster.entropy", settings)


def test_data_is_needed(tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match=r"cluster\.entropy needs data"):
        pass_from_settings("cluster.entropy", {})(
            describe(MODEL), None, tmp_path, seed=0, trust=False, progress=lambda *_: None
        )
