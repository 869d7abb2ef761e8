"""Models whose dependence is known are explained right, through the whole path: file, runtime, picture."""

import json
import wave
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.artifact import sha256_of
from edge.bundle import Golden, write_bundle
from edge.errors import BadData, BadRecipe, UnknownName
from edge.table import TableInput
from edgetool.conversion_worker import ConversionWorker, describe_model
from edgetool.explain import Question, explain_model
from edgetool.progress import Silent
from edgetool.recipe import TaskSource
from tests.conftest import REPOSITORY
from tests.models import linear_onnx

PICTURE_WEIGHTS = np.zeros((12, 12, 1), np.float32)
PICTURE_WEIGHTS[2, 9] = 4.0
PICTURE_WEIGHTS[8, 1] = 3.0


def explain(model: Path, path: object, out: Path | None = None, **how: object) -> object:
    return explain_model(model, Question(str(path), **how), out=out, trust=False, progress=Silent())


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "noise.png"
    pixels = np.random.default_rng(0).integers(0, 100, (12, 12), dtype=np.uint8)
    pixels[2, 9] = pixels[8, 1] = 255
    assert cv2.imwrite(str(path), pixels)
    return path


def test_two_pixels_of_a_picture(picture: Path, tmp_path: Path) -> None:
    model = linear_onnx((12, 12, 1), PICTURE_WEIGHTS, tmp_path)
    out = tmp_path / "why.png"
    found = explain(model, picture, out, pixels="0..1", baseline="zero")
    single = [region.where for region in found.regions if region.stop[0] - region.start[0] == 1]
    assert single[:2] == ["rows 2, columns 9", "rows 8, columns 1"]
    assert found.regions[0].drop == pytest.approx(4.0, rel=0.2)
    assert found.score == pytest.approx(7.0, abs=1e-5)
    assert found.class_index is None
    assert found.deletion.faithful
    assert cv2.imread(str(out)).shape[1] >= 800
    assert json.loads(found.as_json())["regions"][0]["drop"] == found.regions[0].drop
    assert "the map holds" in found.as_text()


def test_a_constant_model_explains_nothing(picture: Path, tmp_path: Path) -> None:
    model = linear_onnx((12, 12, 1), np.zeros_like(PICTURE_WEIGHTS), tmp_path)
    found = explain(model, picture, tmp_path / "why.png", pixels="-1..1")
    assert not found.explains
    assert "nothing is explained" in found.verdict
    assert (tmp_path / "why.png").is_file()


def test_a_time_slice_of_a_wav(tmp_path: Path) -> None:
    samples = np.random.default_rng(1).integers(-20_000, 20_000, 4000).astype("<i2")
    with wave.open(str(tmp_path / "noise.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, len(samples), "NONE", ""))
        file.writeframes(samples.tobytes())
    weights = np.zeros(4000, np.float32)
    weights[2000:2250] = np.sign(samples[2000:2250])
    found = explain(linear_onnx((4000,), weights, tmp_path), tmp_path / "noise.wav", tmp_path / "why.png")
    assert found.kind == "sound"
    assert found.baseline == "silence"
    first = found.regions[0]
    assert first.start[0] < 2250
    assert first.stop[0] > 2000
    assert found.regions[0].where.endswith(" s")
    assert found.deletion.faithful


def test_columns_of_a_bundle_by_name(tmp_path: Path) -> None:
    weights = np.array([0.0, 2.0, -1.0], np.float32)
    model = linear_onnx((3,), weights, tmp_path)
    with ConversionWorker() as worker:
        artifact, _, _ = worker.call(describe_model, model, False)
    rows = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    golden = Golden({artifact.inputs[0].name: rows}, {artifact.outputs[0].name: rows @ weights[:, None]})
    step = TableInput(("age", "height", "weight"), (10.0, 20.0, 30.0), (2.0, 2.0, 2.0))
    bundle = tmp_path / "m.edge"
    write_bundle(
        bundle,
        artifact,
        golden,
        name="m",
        target="generic-x86_64",
        task="t",
        preprocess={artifact.inputs[0].name: step},
    )
    table = tmp_path / "rows.csv"
    table.write_text("age,height,weight\n10,20,30\n14,24,34\n")
    found = explain(bundle, table, tmp_path / "why.png", example=1)
    assert [(r.where, round(r.drop, 5)) for r in found.regions] == [("height", 4.0), ("weight", -2.0), ("age", 0.0)]
    assert found.baseline == "the column's mean in the preprocessing"
    assert found.input.endswith("rows.csv:3")
    at_mean = explain(bundle, table, example=0)
    assert "nothing is explained: the input is the column's mean" in at_mean.verdict


def test_a_keras_classifier_on_an_example_of_its_data() -> None:
    model = REPOSITORY / "recipes/models/breast_cancer.keras"
    found = explain(model, "test:3", source=TaskSource("breast_cancer"))
    assert found.label == "malignant"
    assert found.class_index == 0
    assert found.baseline.startswith("the column's mean over 358 rows")
    assert found.deletion.top_effect > 0.5 > found.deletion.bottom_effect
    other = explain(model, "test:3", source=TaskSource("breast_cancer"), class_name="benign")
    assert other.score == pytest.approx(1 - found.score, abs=1e-6)
    with pytest.raises(UnknownName, match="unknown class"):
        explain(model, "test:3", source=TaskSource("breast_cancer"), class_name="bening")


def test_what_is_missing_is_said_with_a_hint(picture: Path, tmp_path: Path) -> None:
    model = linear_onnx((12, 12, 1), PICTURE_WEIGHTS, tmp_path)
    with pytest.raises(BadData, match="range") as error:
        explain(model, picture)
    assert "--pixels" in str(error.value.hint)
    with pytest.raises(BadRecipe, match=r"\.png"):
        explain(model, picture, tmp_path / "why.jpg", pixels="0..1")
    with pytest.raises(UnknownName, match="baseline"):
        explain(model, picture, pixels="0..1", baseline="noise")
    with pytest.raises(BadRecipe, match="no data"):
        explain(model, "test:3")
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BadData, match="columns"):
        explain(linear_onnx((2,), np.ones(2, np.float32), tmp_path), tmp_path / "rows.csv")


def test_an_array_of_a_row_needs_a_mean_or_zero(tmp_path: Path) -> None:
    model = linear_onnx((3,), np.array([1.0, 0.0, 0.0], np.float32), tmp_path)
    np.save(tmp_path / "row.npy", np.ones(3, np.float32))
    with pytest.raises(BadData, match="mean of a column"):
        explain(model, tmp_path / "row.npy")
    found = explain(model, tmp_path / "row.npy", baseline="zero")
    assert found.regions[0].where == "column 0"


def test_the_model_is_not_changed(picture: Path, tmp_path: Path) -> None:
    model = linear_onnx((12, 12, 1), PICTURE_WEIGHTS, tmp_path)
    before = sha256_of(model)
    explain(model, picture, pixels="0..1", budget=20)
    assert sha256_of(model) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [model.name]
