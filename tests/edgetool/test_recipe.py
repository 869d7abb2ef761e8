"""Recipes: every key, type and name is checked; options win over the file."""

from pathlib import Path

import pytest

from edge.errors import BadRecipe, UnknownName
from edgetool.metrics import metric
from edgetool.passes.post_training import Int8
from edgetool.recipe import limits_for, read_recipe, recipe_from_options

GOOD = """
model = "m.keras"
task = "fashion_mnist"
target = "raspberrypi5"
seed = 3
passes = [["quantize.float16"], [{ name = "quantize.int8", samples = 64 }]]
[limits]
max_drop = "2pp"
max_size = "150kB"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "r.toml"
    path.write_text(text)
    return path


def test_a_good_recipe(tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path, GOOD))
    assert recipe.model == tmp_path / "m.keras"
    assert (recipe.task.data, recipe.task.seed, recipe.seed) == ("fashion_mnist", 3, 3)
    assert recipe.target.name == "raspberrypi5"
    assert (recipe.max_drop, recipe.limits.max_size_bytes) == ((2.0, "points"), 150_000)
    assert recipe.sequences is not None
    assert recipe.sequences[1] == (Int8(samples=64),)


def test_data_beside_the_recipe_is_found(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("a,b\n")
    text = 'model = "m.onnx"\ntask = { data = "table.csv", metric = "rmse", target_column = "b" }\n'
    recipe = read_recipe(write(tmp_path, text))
    assert recipe.task.data == str(tmp_path / "table.csv")
    assert (recipe.task.metric, recipe.task.target_column) == ("rmse", "b")
    assert recipe.sequences is None


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ("seed = 3|sead = 3", UnknownName, "did you mean seed"),
        ("quantize.float16|quantize.flot16", UnknownName, "did you mean quantize.float16"),
        ("samples = 64|sample = 64", UnknownName, "did you mean samples"),
        ("samples = 64|samples = 'x'", BadRecipe, "samples must be of type int"),
        ("samples = 64|samples = -1", BadRecipe, "above 0"),
        ("raspberrypi5|rasberrypi5", UnknownName, "did you mean raspberrypi5"),
        ("max_size|max_sise", UnknownName, "did you mean max_size"),
        ("2pp|two points", BadRecipe, "max_drop"),
        ("seed = 3|seed = 'a'", BadRecipe, "seed must be a whole number"),
        ('model = "m.keras"|', BadRecipe, "needs model"),
        ("seed = 3|seed = -3", BadRecipe, "a seed is 0 or more"),
        ("150kB|0kB", BadRecipe, "nothing meets that"),
        ("[limits]|[limits", BadRecipe, "not valid TOML"),
        ('[["quantize.float16"], |["quantize.float16", ', BadRecipe, "list of lists"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: str, error: type[BadRecipe], words: str) -> None:
    before, after = change.split("|")
    assert before in GOOD
    with pytest.raises(error) as caught:
        read_recipe(write(tmp_path, GOOD.replace(before, after)))
    assert words in f"{caught.value.message} {caught.value.hint}"


def options(model: Path, **changes: object) -> dict[str, object]:
    plain: dict[str, object] = {
        "data": None,
        "target_name": None,
        "limits": {},
        "metric": None,
        "target_column": None,
        "pixels": None,
        "seed": None,
        "trust": False,
    }
    return {"model": model, **plain, **changes}


def test_options_win_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    given = options(path, seed=7, limits={"max_size": "9kB", "max_drop": None}, target_name="jetson-orin-nano")
    recipe = recipe_from_options(**given)  # type: ignore[arg-type]  # one dict of many types
    assert (recipe.seed, recipe.task.seed, recipe.target.name) == (7, 7, "jetson-orin-nano")
    assert (recipe.limits.max_size_bytes, recipe.max_drop) == (9_000, (2.0, "points"))


def test_the_drop_is_in_the_unit_of_the_metric(tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path, GOOD))
    assert limits_for(recipe, metric("accuracy")).max_drop == 2.0
    with pytest.raises(BadRecipe, match="drop of mae is in relative"):
        limits_for(recipe, metric("mae"))
    unsaid = read_recipe(write(tmp_path, GOOD.replace('max_drop = "2pp"', "")))
    assert limits_for(unsaid, metric("mae")).max_drop == 0.01
    assert limits_for(unsaid, metric("accuracy")).max_drop == 1.0


def test_a_model_needs_data(tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match="on which data"):
        recipe_from_options(**options(tmp_path / "m.keras"))  # type: ignore[arg-type]  # one dict of many types
