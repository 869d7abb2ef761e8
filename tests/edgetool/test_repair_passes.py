"""The repair passes on a task: from Keras and .tflite, composed with each other and with int8."""

from pathlib import Path

import pytest

from convert.load import describe
from edge.errors import BadRecipe
from edgetool.conversion_worker import load_source
from edgetool.judge import golden_inputs, parity_of, run_on
from edgetool.passes import pass_from_settings
from edgetool.recipe import TaskSource
from tests.conftest import REPOSITORY

MODEL = REPOSITORY / "recipes/models/breast_cancer.keras"
SOURCE = TaskSource("breast_cancer", "f1")


def test_a_sequence_of_repairs(tmp_path: Path) -> None:
    artifact = describe(MODEL)
    task = load_source(SOURCE, artifact)
    golden = golden_inputs(task.val, 0)
    reference = None
    one = {"per_channel": False}
    steps = (("repair.equalize", {}), ("repair.adaround", one), ("quantize.int8", one))
    for number, (name, settings) in enumerate(steps):
        folder = tmp_path / str(number)
        folder.mkdir()
        step = pass_from_settings(name, settings)
        artifact = step(artifact, task, folder, seed=0, trust=False, progress=lambda *_: None).artifact
        assert artifact.format == "tflite"
        outputs = run_on(artifact, golden)
        if reference is None:
            reference = outputs
        else:
            sqnr = parity_of(artifact, reference, outputs, "tflite").sqnr_db
            assert sqnr is not None
            assert sqnr > 15
    assert artifact.steps == (
        "repair.equalize",
        "repair.adaround(per_channel=False)",
        "quantize.int8(per_channel=False)",
    )


def test_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match=r"repair\.bias: samples must be above 0"):
        pass_from_settings("repair.bias", {"samples": 0})
    artifact = describe(MODEL)
    with pytest.raises(BadRecipe, match=r"repair\.adaround needs data"):
        pass_from_settings("repair.adaround", {})(
            artifact, None, tmp_path, seed=0, trust=False, progress=lambda *_: None
        )
    with pytest.raises(BadRecipe, match=r"per_channel = false is for a \.tflite") as caught:
        pass_from_settings("quantize.int8", {"per_channel": False})(
            artifact, load_source(SOURCE, artifact), tmp_path, seed=0, trust=False, progress=lambda *_: None
        )
    assert caught.value.hint == "put convert.litert in front of it"
