"""The main job end to end: a real regression through every stage, its files, its resumption."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge.bundle import DOCUMENTS, PROVENANCE, open_bundle
from edge.errors import BadData, BadRecipe
from edge.report import Report, from_plain
from edge.target import TARGETS, this_machine
from edgetool.data.tables import load_arrays
from edgetool.passes.post_training import Float16, Int8
from edgetool.pipeline import SEARCH, STAGES, Finished, plan, run
from edgetool.progress import Silent
from edgetool.recipe import Recipe, TaskSource, read_recipe
from edgetool.verify import speed_gate
from tests.conftest import REPOSITORY


class Recorder(Silent):
    """Keeps the stages that were announced and entered."""

    def __init__(self) -> None:
        self.announced: list[str] = []
        self.entered: list[str] = []

    def begin(self, stages: object) -> None:
        self.announced = list(stages)  # type: ignore[call-overload]  # a sequence of names

    def stage(self, name: str) -> None:
        self.entered.append(name)


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    """Diabetes with two candidates, so that a run is short."""
    full = read_recipe(REPOSITORY / "recipes/diabetes.toml")
    assert full.sequences is not None
    return dataclasses.replace(full, sequences=(full.sequences[0], full.sequences[2]))


@pytest.fixture(scope="module")
def finished(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, Path, Recorder]:
    out = tmp_path_factory.mktemp("run") / "out"
    told = Recorder()
    return run(recipe, out, resume=False, progress=told), out, told


def test_every_stage_is_announced_and_entered(finished: tuple[Finished, Path, Recorder]) -> None:
    _, _, told = finished
    assert tuple(told.announced) == tuple(told.entered) == tuple(stage for stage in STAGES if stage != SEARCH)


def test_the_report_is_whole(finished: tuple[Finished, Path, Recorder]) -> None:
    done, out, _ = finished
    again: Report = from_plain(Report, json.loads((out / "report.json").read_text()))
    assert again == done.report
    assert again.schema == "edgetool.report/1"
    assert again.baseline.id == "tflite-float32"
    assert {row.id for row in again.candidates} == {"onnx-float32", "tflite-float16", "tflite-int8"}
    for row in (again.baseline, *again.candidates):
        assert row.accuracy is not None
        assert row.parity is not None
        assert row.parity.first_divergence is None
        assert row.params is not None
        assert {m.threads for m in row.measurements} >= {1}
        for measured in row.measurements:
            assert measured.status == "measured"
            assert measured.joules_per_inference is None
            assert measured.p50_ms <= measured.p95_ms <= measured.p95_upper_ms
            assert (measured.ratio is None) == row.id.endswith("float32")
    assert "<svg" in (out / "report.html").read_text()


def test_only_what_ships_was_judged_on_test(finished: tuple[Finished, Path, Recorder]) -> None:
    done, _, _ = finished
    for row in done.report.candidates:
        assert row.accuracy is not None
        assert row.verdict is not None
        assert (row.accuracy.split == "test") == row.verdict.ship
        assert row.val_accuracy is not None
        assert row.val_accuracy.split == "val"


def test_what_ships_is_there_and_runs_as_a_bundle(finished: tuple[Finished, Path, Recorder]) -> None:
    done, out, _ = finished
    assert done.failure is None
    rows = {row.id: row for row in (done.report.baseline, *done.report.candidates)}
    assert done.report.chosen is not None
    chosen = rows[done.report.chosen]
    assert chosen.drop is None or chosen.drop.verdict == "pass"
    assert (out / chosen.file).stat().st_size == chosen.size_bytes
    assert {path.suffix for path in out.glob("diabetes.*")} == {".tflite", ".onnx", ".edge"}
    assert (out / "recipe.lock.toml").is_file()
    bundle = open_bundle(out / "diabetes.edge")
    assert bundle.manifest.format == chosen.format
    assert set(bundle.documents) == set(DOCUMENTS)
    made = json.loads(bundle.documents[PROVENANCE])["predicate"]["buildDefinition"]
    assert made["externalParameters"]["steps"] == list(chosen.steps)
    assert made["resolvedDependencies"][1]["digest"]["sha256"] == done.report.task.sha256
    verified = subprocess.run(
        [sys.executable, "-m", "edge", "verify", str(out / "diabetes.edge")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert verified.returncode == 0, verified.stderr


def test_resuming_a_finished_run_does_no_work_again(finished: tuple[Finished, Path, Recorder], recipe: Recipe) -> None:
    done, out, _ = finished
    before = {path: path.stat().st_mtime_ns for path in (out / "work").rglob("*") if path.is_file()}
    again = run(recipe, out, resume=True, progress=Silent())
    after = {path: path.stat().st_mtime_ns for path in (out / "work").rglob("*") if path.is_file()}
    assert before == after
    assert again.report.candidates == done.report.candidates
    assert again.report.chosen == done.report.chosen


def test_a_limit_that_nothing_meets_ships_nothing(finished: tuple[Finished, Path, Recorder], recipe: Recipe) -> None:
    _, out, _ = finished
    small = dataclasses.replace(recipe, limits=dataclasses.replace(recipe.limits, max_size_bytes=100))
    done = run(small, out, resume=True, progress=Silent())
    assert done.report.chosen is None
    assert done.failure is not None
    assert "nearest is tflite-" in done.failure.message
    assert "is over 100 B" in done.failure.message
    assert not list(out.glob("*.edge")) + list(out.glob("*.tflite")) + list(out.glob("*.onnx"))


def test_a_test_set_too_small_is_unresolved_with_the_n_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixty examples on which float16 and float32 agree cannot prove a drop of at most one point."""
    for bound in ("SLOWER_ABOVE", "NOT_SLOWER_BELOW"):  # whatever the machine does meanwhile, float16 is not slower
        monkeypatch.setattr(speed_gate, bound, 100.0)
    x, y, x_test, y_test, _ = load_arrays("breast_cancer")
    mean, std = x.mean(axis=0), x.std(axis=0)
    arrays = {"x_train": x, "x_test": x_test[:60]}
    scaled = {name: ((values - mean) / std).astype(np.float32) for name, values in arrays.items()}
    np.savez(tmp_path / "small.npz", **scaled, y_train=y, y_test=y_test[:60])
    recipe = Recipe(
        model=REPOSITORY / "recipes/models/breast_cancer.keras",
        task=TaskSource(str(tmp_path / "small.npz")),
        target=this_machine(),
        sequences=((Float16(),),),
    )
    done = run(recipe, tmp_path / "out", resume=False, progress=Silent())
    assert done.report.chosen is None
    assert done.failure is not None
    assert done.failure.exit_code == 1
    assert "unresolved" in done.failure.message
    assert "would pass with n = 381" in done.failure.message
    assert not list((tmp_path / "out").glob("*.edge"))


def test_a_model_that_knows_nothing_ships_nothing(tmp_path: Path) -> None:
    """Inputs of another range than the model expects: it names one class, and no quantization can make that worse."""
    x, y, x_test, y_test, _ = load_arrays("breast_cancer")
    raw = {"x_train": -x.astype(np.float32), "x_test": -x_test.astype(np.float32)}
    np.savez(tmp_path / "raw.npz", **raw, y_train=y, y_test=y_test)
    recipe = Recipe(
        model=REPOSITORY / "recipes/models/breast_cancer.keras",
        task=TaskSource(str(tmp_path / "raw.npz")),
        target=this_machine(),
        sequences=((Float16(),),),
    )
    done = run(recipe, tmp_path / "out", resume=False, progress=Silent())
    assert done.report.chosen is None
    assert done.failure is not None
    assert "the most frequent class alone" in done.failure.message
    assert not list((tmp_path / "out").glob("*.edge"))


def test_the_plan_writes_nothing(recipe: Recipe, tmp_path: Path) -> None:
    text = plan(recipe, tmp_path / "out", Silent())
    assert "tflite-int8     quantize.int8" in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"task": TaskSource("fashion_mnist")}, BadData),
        ({"max_drop": (1.0, "points")}, BadRecipe),
    ],
)
def test_bad_input_leaves_nothing_behind(
    recipe: Recipe, tmp_path: Path, change: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        run(dataclasses.replace(recipe, **change), tmp_path / "a" / "out", resume=False, progress=Silent())  # type: ignore[arg-type]  # fields of many types
    assert list(tmp_path.iterdir()) == []


def test_a_converter_that_crashes_costs_its_candidate_not_the_run(tmp_path: Path) -> None:
    """int8 calibration of a rolled GRU kills TensorFlow's converter with SIGSEGV; the report says so."""
    import keras

    inputs = keras.Input((10, 6), name="steps")
    outputs = keras.layers.Dense(3, activation="softmax", name="scores")(keras.layers.GRU(32)(inputs))
    keras.Model(inputs, outputs).save(tmp_path / "gru.keras")
    rng = np.random.default_rng(0)
    arrays = {f"x_{split}": rng.normal(size=(300, 10, 6)).astype(np.float32) for split in ("train", "test")}
    labels = {f"y_{split}": np.arange(300) % 3 for split in ("train", "test")}
    np.savez(tmp_path / "steps.npz", **arrays, **labels)
    recipe = Recipe(
        model=tmp_path / "gru.keras",
        task=TaskSource(str(tmp_path / "steps.npz")),
        target=TARGETS["raspberrypi5"],
        sequences=((Int8(samples=8),), (Float16(),)),
        max_drop=(5.0, "points"),
    )
    done = run(recipe, tmp_path / "out", resume=False, progress=Silent())
    (crashed,) = [skipped for skipped in done.report.skipped if skipped.what == "tflite-int8"]
    assert "killed by SIGSEGV" in crashed.reason
    assert "tflite-float16" in {row.id for row in done.report.candidates}
    assert any("the target is aarch64" in skipped.reason for skipped in done.report.skipped)
