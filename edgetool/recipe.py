"""A recipe: which model, judged on which task, for which target, under which limits, by which passes.

```toml
model  = "models/fashion_mnist.keras"     # beside the recipe
task   = "fashion_mnist"                  # DATA, or { data = "…", metric = "f1", target_column = "y" }
target = "raspberrypi5"                   # default: the generic profile of this machine
seed   = 0
passes = [                                # every line is one candidate: passes in order
  ["quantize.float16"],
  [{ name = "prune.magnitude", sparsity = 0.8 }, "quantize.int8"],
]
[limits]
max_drop = "1pp"
max_size = "150kB"
```

In the place of `passes` a table `[search]` with `trials = 24` or `time_budget = "30m"` looks for them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tomllib

from edge.errors import BadModel, BadRecipe, UnknownName
from edge.report import Limits
from edge.target import Target, target, this_machine
from edgetool.lock import Lock, read_lock
from edgetool.metrics import Metric
from edgetool.passes import pass_from_settings
from edgetool.passes.step import Pass
from edgetool.units import format_bytes, parse_bytes, parse_drop, parse_duration, parse_milliseconds

DEFAULT_MAX_DROP = {"points": 1.0, "relative": 0.01, "dB": 0.5}

_KEYS = ("model", "task", "target", "seed", "limits", "passes", "search", "trust", "lock")
_SEARCH_KEYS = ("trials", "time_budget", "latency_model")
_TASK_KEYS = ("data", "metric", "target_column", "pixels")
_KINDS = {int: "a whole number", bool: "true or false", str: "a text", dict: "a table"}
_LIMITS = {
    "max_size": ("max_size_bytes", parse_bytes),
    "max_p95": ("max_p95_ms", parse_milliseconds),
    "max_rss": ("max_rss_bytes", parse_bytes),
}


@dataclass(frozen=True)
class TaskSource:
    """Where a task comes from; every process that needs the task loads it from this."""

    data: str
    metric: str | None = None
    target_column: str | None = None
    pixels: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class Budget:
    """When a search ends: after `trials`, or before a trial that would begin later than `seconds`, where given.

    `latency_model` is a file of `edgetool latency fit`: times are estimated by it, for a target that is not at hand.
    """

    trials: int = 24
    seconds: float | None = None
    latency_model: Path | None = None


@dataclass(frozen=True)
class Recipe:
    """One run of `edgetool compress`. `sequences` are the passes of each candidate, in order; None searches for them
    where there is a `search`, else tries what `edgetool.passes.default_sequences` has for the model's format. With a
    `lock` they ship without a choice, and the model and the data have to be those that were locked.
    """

    model: Path
    task: TaskSource
    target: Target
    sequences: tuple[tuple[Pass, ...], ...] | None = None
    search: Budget | None = None
    limits: Limits = Limits()  # noqa: RUF009 - frozen, so one for all is fine
    max_drop: tuple[float, str] | None = None
    seed: int = 0
    trust: bool = False
    lock: Lock | None = None


def limits_from(texts: Mapping[str, str]) -> Limits:
    """`{"max_size": "300kB", "max_p95": "20ms", …}` to Limits; a `max_drop` is left out, see `limits_for`."""
    values: dict[str, Any] = {}
    for key, text in texts.items():
        if key != "max_drop":
            if key not in _LIMITS:
                raise UnknownName("limit", key, ("max_drop", *_LIMITS))
            name, parse = _LIMITS[key]
            values[name] = parse(str(text), key)
            if not values[name]:
                raise BadRecipe(f"{key} is {text}: nothing meets that", "name a limit above 0, or none")
    return Limits(**values)


def limits_for(recipe: Recipe, metric: Metric) -> Limits:
    """The recipe's limits with `max_drop` in the unit of the metric's drop.

    Raises BadRecipe: the drop was given in another unit (1pp of an error in euros means nothing).
    """
    value, unit = recipe.max_drop or (DEFAULT_MAX_DROP[metric.drop_unit], metric.drop_unit)
    if unit != metric.drop_unit:
        example = {"points": "1pp", "relative": "2%", "dB": "0.5dB"}[metric.drop_unit]
        raise BadRecipe(
            f"max_drop is in {unit}, but the drop of {metric.name} is in {metric.drop_unit}", f"write {example}"
        )
    limits = recipe.limits
    size, memory = limits.max_size_bytes, limits.max_rss_bytes
    if size is not None and memory is not None and size > memory:
        raise BadRecipe(
            f"the limits contradict one another: a model of {format_bytes(size)} is not held in {format_bytes(memory)}",
            "max_rss is for the whole process: name more than max_size",
        )
    return replace(limits, max_drop=value)


def read_recipe(path: Path) -> Recipe:
    """Read a recipe file.

    Raises:
        BadRecipe: the file cannot be read, is not TOML, lacks a key or has a wrong type.
        BadModel: it names weights that have not been brought.
        UnknownName: an unknown key, pass, target or setting; the hint names the nearest.

    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadRecipe(f"cannot read the recipe {path}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise BadRecipe(f"{path} is not valid TOML: {error}") from error
    for key in data:
        if key not in _KEYS:
            raise UnknownName(f"key in {path.name}", key, _KEYS)
    model = _model(_required(data, "model", path), path)
    limits = _of_type(data, "limits", dict, {}, path)
    seed = _of_type(data, "seed", int, 0, path)
    if seed < 0:
        raise BadRecipe(f"{path.name}: the seed is {seed}", "a seed is 0 or more")
    sequences = data.get("passes")
    locked = _of_type(data, "lock", dict, None, path)
    searched = _of_type(data, "search", dict, None, path)
    for key in searched or ():
        if key not in _SEARCH_KEYS:
            raise UnknownName(f"key in the search of {path.name}", key, _SEARCH_KEYS)
    return Recipe(
        model=model,
        task=_task_source(data, path, seed),
        target=target(data["target"]) if "target" in data else this_machine(),
        sequences=None if sequences is None else _sequences(sequences, path, empty=locked is not None),
        search=None if searched is None else _budget(searched, sequences, path),
        limits=limits_from(limits),
        max_drop=parse_drop(str(limits["max_drop"])) if "max_drop" in limits else None,
        seed=seed,
        trust=_of_type(data, "trust", bool, False, path),
        lock=None if locked is None else read_lock(locked, path),
    )


def _budget(searched: Mapping[str, Any], sequences: Any, path: Path) -> Budget:
    found = budget(searched.get("trials"), searched.get("time_budget"), sequences)
    file = _of_type(dict(searched), "latency_model", str, None, path)
    return found if file is None else replace(found, latency_model=path.parent / file)


def budget(trials: Any, time_budget: Any, sequences: Any) -> Budget:
    """The budget of a search: a number of trials, a time, or both; 240 trials at most where only the time is given.

    Raises BadRecipe: no whole number above 0, no duration, or passes that are named leave nothing to search.
    """
    if sequences is not None:
        raise BadRecipe("passes and a search exclude each other", "leave out the passes: the search looks for them")
    if trials is not None and (not isinstance(trials, int) or isinstance(trials, bool) or trials < 1):
        raise BadRecipe(f"trials is {trials!r}", "a whole number above 0")
    seconds = None if time_budget is None else parse_duration(str(time_budget), "time_budget")
    default = Budget.trials if seconds is None else 10 * Budget.trials
    return Budget(default if trials is None else trials, seconds)


def _model(name: str, path: Path) -> Path:
    """The model beside the recipe, else the weights of that name that `edgetool models get` brought."""
    from edgetool.weights import KNOWN, kept

    beside = path.parent / name
    if beside.exists():
        return beside
    brought = kept(name)
    known = [one.name for one in KNOWN.values() if one.file == name]
    if brought is None and known:
        raise BadModel(f"the model of {path.name} is not here", f"edgetool models get {known[0]}")
    return brought or beside


def _task_source(data: dict[str, Any], path: Path, seed: int) -> TaskSource:
    task = data.get("task")
    if isinstance(task, dict):
        for key in task:
            if key not in _TASK_KEYS:
                raise UnknownName(f"key in the task of {path.name}", key, _TASK_KEYS)
        fields = {key: _of_type(task, key, str, None, path) for key in _TASK_KEYS[1:]}
        return TaskSource(_beside(path, _required(task, "data", path)), seed=seed, **fields)
    return TaskSource(_beside(path, _required(data, "task", path)), seed=seed)


def _beside(recipe: Path, data: str) -> str:
    beside = recipe.parent / data
    return str(beside) if beside.exists() else data


def _sequences(value: Any, path: Path, *, empty: bool) -> tuple[tuple[Pass, ...], ...]:
    if not isinstance(value, list) or not (value or empty) or not all(isinstance(line, list) for line in value):
        raise BadRecipe(f"{path.name}: passes must be a list of lists", 'for example passes = [["quantize.int8"]]')
    return tuple(tuple(_one_pass(entry, path) for entry in line) for line in value)


def _one_pass(entry: Any, path: Path) -> Pass:
    if isinstance(entry, str):
        return pass_from_settings(entry, {})
    if isinstance(entry, dict) and isinstance(entry.get("name"), str):
        return pass_from_settings(entry["name"], {k: _files(k, v, path) for k, v in entry.items() if k != "name"})
    raise BadRecipe(f"{path.name}: {entry!r} is no pass", 'write "quantize.int8" or { name = "quantize.int8", … }')


def _files(key: str, value: Any, path: Path) -> Any:
    """The setting of a pass; models that it names are beside the recipe."""
    if key == "student" and isinstance(value, str) and value:
        return str(path.parent / value)
    if key == "teachers" and isinstance(value, list):
        return [str(path.parent / one) if isinstance(one, str) else one for one in value]
    return value


def _required(data: dict[str, Any], key: str, path: Path) -> str:
    value = data.get(key)
    if not isinstance(value, str) or not value:
        raise BadRecipe(f'{path.name} needs {key} = "…"')
    return value


def _of_type(data: dict[str, Any], key: str, kind: type, default: Any, path: Path) -> Any:
    value = data.get(key, default)
    if value is not default and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        raise BadRecipe(f"{path.name}: {key} must be {_KINDS[kind]}, not {value!r}")
    return value


def recipe_from_options(
    model: Path,
    *,
    data: str | None,
    target_name: str | None,
    limits: dict[str, str | None],
    metric: str | None,
    target_column: str | None,
    pixels: str | None,
    seed: int | None,
    trust: bool,
    trials: int | None = None,
    time_budget: str | None = None,
    latency_model: Path | None = None,
) -> Recipe:
    """The recipe that the command line means: options win over what a recipe file says.

    Raises BadRecipe where a model is given without data, and whatever `read_recipe` raises.
    """
    overridden = {key: text for key, text in limits.items() if text is not None}
    if model.suffix == ".toml":
        recipe = read_recipe(model)
    elif data is None:
        raise BadRecipe(
            f"{model.name}: on which data is it judged?", "add --data FOLDER, .npz, .csv, task.py or a name"
        )
    else:
        recipe = Recipe(model=model, task=TaskSource(data), target=this_machine())
    if seed is not None and seed < 0:
        raise BadRecipe(f"the seed is {seed}", "a seed is 0 or more")
    parsed = limits_from(overridden)
    names = [_LIMITS[key][0] for key in overridden if key != "max_drop"]
    new_seed = recipe.seed if seed is None else seed
    search = recipe.search
    if trials is not None or time_budget is not None:
        search = replace(
            budget(trials, time_budget, recipe.sequences),
            latency_model=None if search is None else search.latency_model,
        )
    if latency_model is not None:
        if search is None:
            raise BadRecipe("a latency model is for a search", "add --trials or --time-budget")
        search = replace(search, latency_model=latency_model)
    task = replace(
        recipe.task,
        data=recipe.task.data if data is None else data,
        metric=metric or recipe.task.metric,
        target_column=target_column or recipe.task.target_column,
        pixels=pixels or recipe.task.pixels,
        seed=new_seed,
    )
    return replace(
        recipe,
        task=task,
        search=search,
        target=recipe.target if target_name is None else target(target_name),
        limits=replace(recipe.limits, **{name: getattr(parsed, name) for name in names}),
        max_drop=parse_drop(overridden["max_drop"]) if "max_drop" in overridden else recipe.max_drop,
        seed=new_seed,
        trust=trust or recipe.trust,
    )
