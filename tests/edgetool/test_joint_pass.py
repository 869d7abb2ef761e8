"""Pruning, int8 and distillation in one fit, on a real model and task."""

import numpy as np
import pytest

from convert.load import describe, load_keras
from edge.errors import BadRecipe, UnknownName
from edgetool.conversion_worker import load_source
from edgetool.judge import run_on
from edgetool.passes import pass_from_settings
from edgetool.passes.joint import prepare
from edgetool.recipe import TaskSource
from tests.conftest import REPOSITORY

MODEL = REPOSITORY / "recipes/models/breast_cancer.keras"
PRUNE = {"name": "prune.magnitude", "sparsity": 0.5, "scope": "per_layer"}
LOGITS = {"name": "distill.logits", "temperature": 2.0}


@pytest.fixture(scope="module")
def source():
    return describe(MODEL)


@pytest.fixture(scope="module")
def task(source):
    return load_source(TaskSource("breast_cancer", "f1"), source)


def run(settings, source, task, folder):
    step = pass_from_settings("train.joint", {"batch_size": 32, **settings})
    return step, step(source, task, folder, seed=0, trust=False, progress=lambda *_: None)


def kernels_of(path):
    return [weight.numpy() for weight in load_keras(path).weights if weight.path.endswith("kernel")]


def test_pruning_and_distillation_in_one_fit(source, task, tmp_path):
    step, result = run({"transforms": [PRUNE], "losses": [LOGITS]}, source, task, tmp_path)
    assert step.produces("keras") == "keras"
    for kernel in kernels_of(result.artifact.path):
        assert np.mean(kernel == 0) == pytest.approx(0.5, abs=0.5 / kernel.size + 1e-9)
    assert any("biases" in entry.what for entry in result.skipped)


@pytest.mark.parametrize("form", ["tflite", "onnx"])
def test_pruning_int8_and_distillation_in_one_fit(source, task, tmp_path, form):
    transforms = [PRUNE, {"name": "quantize.lsq", "samples": 64, "format": form}]
    step, result = run({"transforms": transforms, "losses": [LOGITS]}, source, task, tmp_path)
    assert step.produces("keras") == result.artifact.format == form
    inputs, labels = task.val.take(np.arange(task.val.n))
    said = next(iter(run_on(result.artifact, inputs).values()))
    assert task.metric.value(said, labels) > 0.85


def test_frozen_layers_stay_and_a_new_head_starts_anew(source, task, tmp_path):
    first = load_keras(MODEL).layers[1].name
    before = kernels_of(MODEL)
    begun = load_keras(MODEL)
    prepare(begun, (first,), True, 0)
    kernels = [layer.kernel.numpy() for layer in begun.layers if hasattr(layer, "kernel")]
    same = [np.array_equal(new, old) for new, old in zip(kernels, before, strict=True)]
    assert same == [*[True] * (len(before) - 1), False]
    _, result = run({"freeze": [first], "new_head": True, "epochs": 2}, source, task, tmp_path)
    after = kernels_of(result.artifact.path)
    np.testing.assert_array_equal(after[0], before[0])
    assert np.abs(after[-1] - before[-1]).max() > 0.01
    assert all(layer.trainable for layer in load_keras(result.artifact.path).layers)


@pytest.mark.parametrize(
    ("settings", "kind", "reason"),
    [
        ({"transforms": [{"name": "prune.magnitud"}]}, UnknownName, r"prune\.magnitud"),
        ({"losses": [{"name": "prune.magnitude"}]}, UnknownName, "part of losses"),
        ({"losses": [{"temperature": 2.0}]}, BadRecipe, "has no name"),
        ({"transforms": ["prune.magnitude"]}, BadRecipe, "list of tables"),
        ({"transforms": [{**PRUNE, "epochs": 3}]}, BadRecipe, r"epochs of prune\.magnitude belongs to the fit"),
        ({"transforms": [{"name": "quantize.lsq"}, PRUNE]}, BadRecipe, "rounds what the other transforms leave"),
        ({"transforms": [{**PRUNE, "sparsety": 0.3}]}, UnknownName, "sparsety"),
    ],
)
def test_recipes_that_mean_nothing_are_refused(settings, kind, reason):
    with pytest.raises(kind, match=reason):
        pass_from_settings("train.joint", settings)


def test_a_layer_that_is_not_there_cannot_be_frozen(source, task, tmp_path):
    with pytest.raises(UnknownName, match="'nowhere'"):
        run({"freeze": ["nowhere"]}, source, task, tmp_path)
