"""`quantize.mixed` on a real task, what it keeps of its measurement, and `inspect --sensitivity`, which reads that."""

from pathlib import Path
from typing import Any

import pytest

from compress.quantize.litert_model import stored_as
from convert.load import describe
from edge.artifact import Artifact
from edge.errors import BadModel, BadRecipe, CheckFailed, UnknownName
from edgetool import sensitivity
from edgetool.conversion_worker import load_source
from edgetool.inspection import inspect_sensitivity
from edgetool.layer_times import layer_ms, whole_ms
from edgetool.passes import pass_from_settings
from edgetool.passes.mixed import MixedPrecision
from edgetool.passes.step import PassResult, label
from edgetool.progress import Silent
from edgetool.recipe import TaskSource
from edgetool.sensitivity import LayerRow, PrecisionEffect, SensitivityReport, mixable, sensitivity_report, short_name
from tests.conftest import REPOSITORY

SOURCE = TaskSource("breast_cancer", "f1")
# Both layers of weights that matter are 47 and 53 dB as int8, and above 65 dB as int16x8.
WIDE_DB = 60.0


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder / "edgetool" / "sensitivity"


@pytest.fixture(scope="module")
def tflite(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    keras = describe(REPOSITORY / "recipes/models/breast_cancer.keras")
    step = pass_from_settings("convert.litert", {})
    folder = tmp_path_factory.mktemp("tflite")
    return step(keras, None, folder, seed=0, trust=False, progress=lambda *_: None).artifact


def mixed(artifact: Artifact, folder: Path, **settings: Any) -> PassResult:
    task = load_source(SOURCE, artifact)
    step = pass_from_settings("quantize.mixed", settings)
    return step(artifact, task, folder, seed=0, trust=False, progress=lambda *_: None)


def test_a_layer_is_as_narrow_as_the_outputs_bear(tflite: Artifact, cache: Path, tmp_path: Path) -> None:
    narrow = mixed(tflite, tmp_path)
    assert narrow.skipped == ()
    assert stored_as(narrow.artifact.path.read_bytes(), "int8") == {"FULLY_CONNECTED": 3}
    assert len(list(cache.glob("*.json"))) == 1
    wide = mixed(tflite, tmp_path, sqnr_db=WIDE_DB, precisions=["int8", "int16x8", "float32"])
    said = {entry.what: entry.reason for entry in wide.skipped}
    assert any("hidden1" in layer and "is int16x8: int8 of this layer alone is" in said[layer] for layer in said)
    floating = mixed(tflite, tmp_path, sqnr_db=45.0)
    assert all("is float32" in entry.reason for entry in floating.skipped)
    left = stored_as(floating.artifact.path.read_bytes(), "float32")
    assert sum(left.values()) == len(floating.skipped) > 0
    assert len(list(cache.glob("*.json"))) == 1  # measured once for all of them


def test_a_budget_decides_where_not_all_can_be_wide(tflite: Artifact, cache: Path, tmp_path: Path) -> None:
    assert cache.name == "sensitivity"
    settings = {"sqnr_db": 80.0}
    smallest = mixed(tflite, tmp_path).artifact.size_bytes
    budget = smallest + 2200
    within = mixed(tflite, tmp_path, max_size=f"{budget}B", **settings)
    assert smallest < within.artifact.size_bytes <= budget
    assert within.artifact.steps[-1].startswith(f"quantize.mixed(max_size={budget}B, sqnr_db=80.0)")
    with pytest.raises(CheckFailed, match=r"smallest model.*has [0-9,]+ bytes; max_size is 1,000"):
        mixed(tflite, tmp_path, max_size="1kB", **settings)
    with pytest.raises(CheckFailed, match="no layer can be narrower than float32"):
        mixed(tflite, tmp_path, sqnr_db=150.0)


def test_settings_that_cannot_be_honoured_are_refused(tflite: Artifact, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"precisions of quantize\.mixed"):
        MixedPrecision(precisions=("int9",))
    with pytest.raises(BadRecipe, match="no integers"):
        MixedPrecision(precisions=("float32",))
    with pytest.raises(BadRecipe, match="max_size: cannot read"):
        MixedPrecision(max_size="60")
    with pytest.raises(BadRecipe, match="max_time: cannot read"):
        MixedPrecision(max_time="2kB")
    with pytest.raises(BadRecipe, match="sqnr_db must be above 0"):
        MixedPrecision(sqnr_db=0.0)
    with pytest.raises(BadRecipe, match=r"quantize\.mixed needs data"):
        MixedPrecision()(tflite, None, tmp_path, seed=0, trust=False, progress=lambda *_: None)
    assert label(MixedPrecision()) == "quantize.mixed"


def test_times_of_layers_add_up_to_no_more_than_the_model(tflite: Artifact, cache: Path) -> None:
    assert cache.name == "sensitivity"
    source = mixable(tflite, load_source(SOURCE, tflite), 16, 0)
    times = layer_ms(source, ("float32",))
    parts = [times(layer, "float32") for layer in source.layers]
    assert all(part > 0 for part in parts)
    # the whole is timed anew, on a machine that others use as well
    assert sum(parts) < 20 * whole_ms(source.model)


def test_what_is_kept_is_read_again(tflite: Artifact, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = load_source(SOURCE, tflite)
    first = sensitivity_report("model.tflite", tflite, task, progress=lambda *_: None)
    assert [row.weights for row in first.layers] == [960, 512, 16]
    assert [row.macs for row in first.layers] == [960, 512, 16]
    assert all(row.effects[0].sqnr_db < row.effects[1].sqnr_db for row in first.layers if row.effects[0].sqnr_db)
    monkeypatch.setattr(sensitivity, "mixable", None)  # neither calibrated nor measured a second time
    assert sensitivity_report("model.tflite", tflite, task, progress=lambda *_: None) == first
    (kept,) = cache.glob("*.json")
    kept.write_text("{")
    monkeypatch.undo()
    assert sensitivity_report("model.tflite", tflite, task, progress=lambda *_: None) == first


def test_inspect_shows_a_row_and_a_bar_for_every_layer(tflite: Artifact, cache: Path) -> None:
    assert cache.name == "sensitivity"
    found = inspect_sensitivity(tflite.path, SOURCE, False, Silent())
    lines = found.as_text().splitlines()
    assert "f1" in lines[1]
    rows = lines[6:]
    assert len(rows) == 3
    assert all("FULLY_CONNECTED" in row and "pp" in row for row in rows)
    assert rows[0].count("#") > rows[1].count("#") > 0
    assert '"schema": "edgetool.sensitivity/1"' in found.as_json()


def test_a_quantized_model_has_no_sensitivity(tflite: Artifact, cache: Path, tmp_path: Path) -> None:
    assert cache.name == "sensitivity"
    once = mixed(tflite, tmp_path).artifact
    with pytest.raises(BadModel, match="quantized already"):
        inspect_sensitivity(once.path, SOURCE, False, Silent())


def test_bars_and_names_of_the_table() -> None:
    effects = [(None, 0.0), (60.0, 0.0), (0.0, 0.5), (-3.0, 1.0)]
    rows = tuple(
        LayerRow(f"net/{'x' * 40}/layer{n};fused", "CONV_2D", 10, None, (PrecisionEffect("int8", db, 1 - lost, lost),))
        for n, (db, lost) in enumerate(effects)
    )
    report = SensitivityReport("m", "tflite", "accuracy", "points", 1.0, 8, 8, rows, ())
    lines = report.as_text().splitlines()[6:]
    assert [line.count("#") for line in lines] == [0, 0, 40, 40]
    assert "exact" in lines[0]
    assert "50.00pp" in lines[2]
    assert short_name(rows[0].layer).endswith("/layer0")
    assert len(short_name(rows[0].layer)) == 28
