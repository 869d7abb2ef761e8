"""recipe.lock.toml makes the same files again, and refuses other models and other data."""

import dataclasses
from pathlib import Path

import pytest

from convert.load import describe
from edge.artifact import Artifact, sha256_of
from edge.errors import BadData, BadModel, BadRecipe
from edge.report import Limits
from edgetool.conversion_worker import load_source
from edgetool.lock import Lock, lock_text, other_versions, require_same
from edgetool.passes import pass_from_settings
from edgetool.passes.step import Pass
from edgetool.pipeline import Finished, run
from edgetool.progress import Silent
from edgetool.recipe import limits_for, read_recipe
from edgetool.shipping import locked
from tests.conftest import REPOSITORY
from tests.edgetool.reports import candidate, report

LOCK = Lock("a" * 64, "b" * 64, {"numpy": "2.1"}, ("tflite-int8",))
SOURCE = Artifact(REPOSITORY / "recipes/models/diabetes.keras", "keras", (), (), "a" * 64)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, Path]:
    """Diabetes with one candidate, which ships whatever the race says."""
    recipe = read_recipe(REPOSITORY / "recipes/diabetes.toml")
    task = load_source(recipe.task, describe(recipe.model))
    lock = Lock(sha256_of(recipe.model), task.sha256, {"numpy": "another"}, ("tflite-float16", "onnx-float32"))
    passes = ((pass_from_settings("quantize.float16", {}),),)
    out = tmp_path_factory.mktemp("lock") / "out"
    return run(dataclasses.replace(recipe, sequences=passes, lock=lock), out, resume=False, progress=Silent()), out


def test_a_lock_makes_the_same_bytes(finished: tuple[Finished, Path], tmp_path: Path) -> None:
    done, out = finished
    again = run(read_recipe(out / "recipe.lock.toml"), tmp_path / "again", resume=False, progress=Silent())
    assert again.failure is None
    assert again.report.chosen == done.report.chosen == "tflite-float16"
    assert "numpy" in done.report.skipped[-1].reason
    shipped = {path.name for path in out.glob("diabetes.*") if path.suffix != ".edge"}
    assert shipped == {"diabetes.tflite", "diabetes.onnx"}
    for name in shipped:
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()
    assert (tmp_path / "again/recipe.lock.toml").is_file()
    assert not [one for one in again.report.skipped if "locked" in one.reason]


def test_other_data_than_the_locked_are_refused(finished: tuple[Finished, Path], tmp_path: Path) -> None:
    recipe = read_recipe(finished[1] / "recipe.lock.toml")
    assert recipe.lock is not None
    other = dataclasses.replace(recipe, lock=dataclasses.replace(recipe.lock, task_sha256="0" * 64))
    with pytest.raises(BadData, match="not those that were locked"):
        run(other, tmp_path / "out", resume=False, progress=Silent())
    assert not (tmp_path / "out").exists()


def test_what_is_locked_is_asked_for_by_hash_and_versions() -> None:
    require_same(LOCK, SOURCE, "b" * 64)
    with pytest.raises(BadModel, match="not the model that was locked"):
        require_same(dataclasses.replace(LOCK, model_sha256="0"), SOURCE, "b" * 64)
    assert other_versions(LOCK, {"numpy": "2.1"}) == ()
    (said,) = other_versions(LOCK, {"numpy": "2.2", "keras": "3"})
    assert said.reason == "not promised: keras 3 (locked: missing), numpy 2.2 (locked: 2.1)"


def test_every_setting_and_limit_comes_back(tmp_path: Path) -> None:
    passes: tuple[Pass, ...] = (
        pass_from_settings("prune.channel", {"macs": 0.35}),
        pass_from_settings("train.joint", {"transforms": [{"name": "prune.magnitude", "sparsity": 0.5}]}),
        pass_from_settings("quantize.int8", {}),
    )
    recipe = dataclasses.replace(read_recipe(REPOSITORY / "recipes/diabetes.toml"), seed=7)
    limits = Limits(max_drop=0.02, max_size_bytes=12_345, max_p95_ms=0.0625, max_rss_bytes=10**9)
    told = dataclasses.replace(report(candidate("x")), limits=limits)
    text = lock_text(recipe, told, SOURCE, [passes], ["tflite-channel-joint-int8"], "relative", tmp_path)
    (tmp_path / "recipe.lock.toml").write_text(text)
    again = read_recipe(tmp_path / "recipe.lock.toml")
    assert again.sequences == (passes,)
    assert (again.seed, again.target, again.task.data) == (7, recipe.target, recipe.task.data)
    assert again.model.resolve() == SOURCE.path.resolve()
    assert dataclasses.replace(again.limits, max_drop=again.max_drop[0] if again.max_drop else None) == limits
    assert again.lock is not None
    assert again.lock.ships == ("tflite-channel-joint-int8",)
    assert str(tmp_path) not in text


def test_a_lock_ships_what_it_names_or_nothing() -> None:
    rows = {name: candidate(name, 1.4, "slower", size_bytes=size) for name, size in (("a", 100), ("b", 300))}
    assert locked(rows, ["a", "b"], ["a", "b"], Limits()) == (["a", "b"], {})
    ids, against = locked(rows, ["a", "b"], ["a", "b"], Limits(max_size_bytes=200))
    assert (ids, against) == (["a"], {"b": ("size 300 B is over 200 B",)})
    assert locked(rows, ["a", "b"], ["b", "a"], Limits(max_size_bytes=200))[0] == []


def test_a_damaged_lock_and_limits_that_contradict_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.lock.toml"
    path.write_text('model = "m.keras"\ntask = "diabetes"\n[lock]\nmodel_sha256 = "x"\n')
    with pytest.raises(BadRecipe, match=r"\[lock\] needs"):
        read_recipe(path)
    recipe = read_recipe(REPOSITORY / "recipes/diabetes.toml")
    both = dataclasses.replace(recipe, limits=Limits(max_size_bytes=2000, max_rss_bytes=1000))
    from edgetool.metrics import metric

    with pytest.raises(BadRecipe, match="contradict one another"):
        limits_for(both, metric("mae"))
