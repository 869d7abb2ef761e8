"""A finished model becomes a bundle as it is, with what its data says and the thresholds it was given."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from edge.__main__ import main as edge_main
from edge.bundle import PROVENANCE, SBOM, open_bundle
from edge.errors import BadInput, BadRecipe, UnknownName
from edgetool.cli.main import app
from tests.conftest import REPOSITORY

MODEL = REPOSITORY / "tests/edge/data/tiny.onnx"
runner = CliRunner()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    arrays = {f"x_{part}": rng.random((60, 1, 8, 8), np.float32) for part in ("train", "test")}
    classes = {f"y_{part}": np.arange(60) % 3 for part in ("train", "test")}
    np.savez(tmp_path / "data.npz", **arrays, **classes)
    return tmp_path / "data.npz"


def test_the_bundle_verifies_and_says_what_it_is(tmp_path: Path, data: Path) -> None:
    paths = [tmp_path / "a.edge", tmp_path / "b.edge"]
    for out in paths:
        words = ["bundle", MODEL, "--data", data, "--target", "raspberrypi5", "--threshold", "scores=0.6", "--out", out]
        done = runner.invoke(app, [str(word) for word in words], catch_exceptions=False)
        assert done.exit_code == 0
        assert "unsigned" in done.output
    assert paths[0].read_bytes() == paths[1].read_bytes()
    bundle = open_bundle(paths[0])
    assert bundle.model == MODEL.read_bytes()
    assert bundle.manifest.target == "raspberrypi5"
    assert bundle.manifest.thresholds == {"scores": 0.6}
    assert bundle.report is None
    made = json.loads(bundle.documents[PROVENANCE])["predicate"]["buildDefinition"]
    assert made["buildType"] == "edgetool.bundle/1"
    assert made["externalParameters"]["thresholds"] == {"scores": 0.6}
    subject = json.loads(bundle.documents[SBOM])["metadata"]["component"]
    assert subject["hashes"][0]["content"] == bundle.manifest.members["model.onnx"]
    assert edge_main(["verify", str(paths[0])]) == 0


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        (["--threshold", "score=0.6"], UnknownName, "label or output"),
        (["--threshold", "scores"], BadRecipe, "NAME=VALUE"),
        (["--threshold", "scores=much"], BadRecipe, "NAME=VALUE"),
        (["--target", "raspberrypi9"], UnknownName, "raspberrypi9"),
        (["--out", "out.zip"], BadInput, r"no \*\.edge"),
    ],
)
def test_what_cannot_be_bundled(
    tmp_path: Path, data: Path, words: list[str], error: type[Exception], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = [] if "--out" in words else ["--out", "out.edge"]
    done = runner.invoke(app, ["bundle", str(MODEL), "--data", str(data), *out, *words])
    assert isinstance(done.exception, error)
    with pytest.raises(error, match=says):
        raise done.exception
    assert not list(tmp_path.glob("out.*"))
