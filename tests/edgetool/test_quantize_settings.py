"""Settings of the post-training quantizations: which formats know them, and what they make of a real model."""

from pathlib import Path
from typing import Any

import pytest

from convert.load import describe
from edge.artifact import Artifact
from edge.errors import BadInput, BadRecipe
from edgetool.conversion_worker import load_source
from edgetool.passes import pass_from_settings
from edgetool.passes.step import PassResult
from edgetool.recipe import TaskSource
from tests import models
from tests.conftest import REPOSITORY

MODEL = REPOSITORY / "recipes/models/breast_cancer.keras"


def run(name: str, settings: dict[str, Any], artifact: Artifact, folder: Path) -> PassResult:
    task = load_source(TaskSource("breast_cancer", "f1"), artifact)
    step = pass_from_settings(name, settings)
    return step(artifact, task, folder, seed=0, trust=False, progress=lambda *_: None)


@pytest.fixture(scope="module")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A small trained model of dense layers."""
    step = pass_from_settings("convert.onnx", {})
    folder = tmp_path_factory.mktemp("onnx")
    return step(describe(MODEL), None, folder, seed=0, trust=False, progress=lambda *_: None).artifact


def test_settings_of_one_format_are_refused_on_another(onnx: Artifact, tmp_path: Path) -> None:
    litert = describe(models.litert_float())
    for name, settings, artifact in (
        ("quantize.int4", {"convolutions": True}, onnx),
        ("quantize.dynamic", {"convolutions": True}, litert),
    ):
        with pytest.raises(BadRecipe, match="convolutions"):
            pass_from_settings(name, settings)(
                artifact, None, tmp_path, seed=0, trust=False, progress=lambda *_: None
            )  # fmt: skip
    for name, wrong in (
        ("quantize.dynamic", {"bits": 6}),
        ("quantize.dynamic", {"convolutions": True, "bits": 9}),
        ("quantize.int4", {"samples": -1}),
        ("quantize.int4", {"bits": 3}),
        ("quantize.int8", {"weight_range": "narrow"}),
    ):
        with pytest.raises(BadInput):
            pass_from_settings(name, wrong)


def test_the_range_of_weights_that_was_chosen_is_named(onnx: Artifact, tmp_path: Path) -> None:
    import numpy as np
    from onnx import load, numpy_helper

    settings = {"calibration": "minmax", "samples": 32}
    largest = {}
    for wanted in ("auto", "full", "reduced"):
        (tmp_path / wanted).mkdir()
        made = run("quantize.int8", {**settings, "weight_range": wanted}, onnx, tmp_path / wanted).artifact
        chosen = made.steps[-1].partition("weight_range=")[2].rstrip(")")
        assert wanted in (chosen, "auto")
        stored = [numpy_helper.to_array(t) for t in load(made.path).graph.initializer if len(t.dims) >= 2]
        largest[wanted] = max(int(np.abs(values.astype(int)).max()) for values in stored)
        assert largest[wanted] == {"full": 127, "reduced": 64}[chosen]
