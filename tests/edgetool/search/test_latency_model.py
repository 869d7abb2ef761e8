"""A latency model: real operations are timed, a law of times is found again, estimates are kept apart from measured."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from edge.artifact import Artifact
from edge.errors import BadRecipe
from edge.target import target, this_machine
from edgetool.cli.main import app
from edgetool.progress import Silent
from edgetool.recipe import Budget, Recipe, TaskSource, read_recipe
from edgetool.search import latency_model
from edgetool.search.op_times import TimedModel, TimedOp, Work, time_models, works
from edgetool.search.start import _latency_model

TINY = Path(__file__).resolve().parents[2] / "edge" / "data" / "tiny.tflite"


def _law(work: Work) -> float:
    rate = 4e-4 if work.kind == "CONV_2D" else 9e-4
    return 2.0 + work.macs * rate * (0.4 if work.dtype == "int8" else 1.0) + work.elements_out * 1e-3


def _network(seed: int) -> list[TimedModel]:
    rng = np.random.default_rng(seed)
    side, forms = int(rng.integers(8, 40)), []
    widths = [int(8 * rng.integers(1, 9)) for _ in range(int(rng.integers(3, 9)))]
    for dtype in ("float32", "int8"):
        does = []
        for before, after in itertools.pairwise(widths):
            pixels = side * side
            for kind, macs, kernel in (
                ("CONV_2D", pixels * before * after, 1),
                ("DEPTHWISE_CONV_2D", pixels * before * 9, 9),
            ):
                elements = pixels * before, pixels * after
                does.append(Work(kind, dtype, macs, *elements, before * after, before, after, kernel, 1))
        operations = tuple(TimedOp(work, _law(work)) for work in does)
        whole = 3.0 + 0.8 * sum(_law(work) - 2 for work in does)
        forms.append(TimedModel(f"net{seed}.{dtype}", f"net{seed}", "0" * 64, whole, operations))
    return forms


@pytest.fixture(scope="module")
def fitted() -> latency_model.LatencyModel:
    return latency_model.fit([one for seed in range(6) for one in _network(seed)])


def test_a_law_of_times_is_found_again_for_networks_that_were_not_timed(fitted: latency_model.LatencyModel) -> None:
    assert fitted.networks == 6
    assert fitted.error < 0.1
    for one in _network(99):
        does = [op.work for op in one.operations]
        assert fitted.estimator().us(does) == pytest.approx(one.us, rel=0.15)


def test_what_is_kept_is_what_was_fitted(fitted: latency_model.LatencyModel, tmp_path: Path) -> None:
    latency_model.write(fitted, tmp_path / "m.json")
    assert latency_model.read(tmp_path / "m.json") == fitted
    (tmp_path / "other.json").write_text('{"schema": "something/1"}')
    for damaged in ("other.json", "none.json"):
        with pytest.raises(BadRecipe, match="latency"):
            latency_model.read(tmp_path / damaged)


def test_a_real_model_is_timed_by_operation(tmp_path: Path) -> None:
    (one,) = time_models([("tiny", "tiny", TINY)], 1, Silent().at, tmp_path / "lock")
    assert [op.work for op in one.operations] == list(works(TINY))
    assert one.us > 0
    assert sum(op.us is not None for op in one.operations) >= len(one.operations) - 1


def test_few_networks_are_too_few() -> None:
    with pytest.raises(BadRecipe, match="4 networks are too few"):
        latency_model.fit([one for seed in range(4) for one in _network(seed)])


def test_the_command_estimates_and_says_the_error(fitted: latency_model.LatencyModel, tmp_path: Path) -> None:
    latency_model.write(fitted, tmp_path / "m.json")
    said = CliRunner().invoke(app, ["latency", "show", str(tmp_path / "m.json"), str(TINY)])
    assert said.exit_code == 0
    assert f"ms (estimated, median error {fitted.error:.0%})" in said.output
    assert "6 networks" in CliRunner().invoke(app, ["latency", "show", str(tmp_path / "m.json")]).output


def test_only_a_target_that_is_not_at_hand_is_estimated(fitted: latency_model.LatencyModel, tmp_path: Path) -> None:
    path, here = tmp_path / "m.json", this_machine()
    elsewhere = target("raspberrypi5" if here.arch != "aarch64" else "generic-x86_64")
    latency_model.write(dataclasses.replace(fitted, arch=elsewhere.arch), path)
    recipe = Recipe(TINY, TaskSource("breast_cancer"), elsewhere, search=Budget(4, None, path))
    found = _latency_model(recipe)
    assert found is not None
    assert found.model.error == fitted.error
    artifact = Artifact(TINY, "tflite", (), (), "0" * 64)
    assert (latency_model.estimated_ms(artifact, found.model.estimator()) or 0) > 0
    assert latency_model.estimated_ms(dataclasses.replace(artifact, format="onnx"), found.model.estimator()) is None
    with pytest.raises(BadRecipe, match="its times are measured"):
        _latency_model(dataclasses.replace(recipe, target=here))
    latency_model.write(fitted, path)
    with pytest.raises(BadRecipe, match="fitted for LiteRT on"):
        _latency_model(recipe)
    assert _latency_model(dataclasses.replace(recipe, search=Budget(4))) is None


def test_a_recipe_names_the_model_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text('model = "m.tflite"\ntask = "diabetes"\n[search]\ntrials = 3\nlatency_model = "pi5.json"\n')
    (tmp_path / "m.tflite").write_bytes(TINY.read_bytes())
    assert read_recipe(path).search == Budget(3, None, tmp_path / "pi5.json")
