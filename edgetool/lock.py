"""recipe.lock.toml: what shipped as a recipe that makes it again, byte for byte on the same machine.

A lock is a recipe with a table `[lock]`: the hashes of the model and the data, the versions of everything that wrote
bytes, and which candidates ship. Nothing is chosen again, since a race may end otherwise; parity, the gate on `test`
and the limits are asked again.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.artifact import Artifact
from edge.errors import BadData, BadModel, BadRecipe
from edge.report import Limits, Report, Skipped
from edgetool.passes.step import Pass, settings

if TYPE_CHECKING:
    from edgetool.recipe import Recipe

NAME = "recipe.lock.toml"
_SUFFIX = {"points": ("pp", 1.0), "relative": ("%", 100.0), "dB": ("dB", 1.0)}
_FILES = ("student", "teachers")


@dataclass(frozen=True)
class Lock:
    """What a lock holds beyond its recipe. `ships` are ids, the one that is bundled first."""

    model_sha256: str
    task_sha256: str
    versions: dict[str, str]
    ships: tuple[str, ...]


def read_lock(table: Mapping[str, Any], path: Path) -> Lock:
    """The table `[lock]` of a recipe.

    Raises BadRecipe: a key is missing or of a wrong type.
    """
    hashes = [table.get(key) for key in ("model_sha256", "task_sha256")]
    versions, ships = table.get("versions"), table.get("ships")
    if not all(isinstance(one, str) for one in hashes) or not isinstance(versions, dict) or not _are_texts(ships):
        raise BadRecipe(
            f"{path.name}: [lock] needs model_sha256, task_sha256, versions and ships",
            "a lock is written by edgetool; leave the table out to run the recipe without it",
        )
    assert isinstance(ships, list)
    return Lock(str(hashes[0]), str(hashes[1]), {str(k): str(v) for k, v in versions.items()}, tuple(ships))


def require_same(lock: Lock, source: Artifact, task_sha256: str) -> None:
    """Raise BadModel or BadData where the model or the data are not those that were locked."""
    hint = "leave out the table [lock] to run its passes on what is there now"
    if source.sha256 != lock.model_sha256:
        raise BadModel(f"{source.path} is not the model that was locked: its hash is {source.sha256[:12]}…", hint)
    if task_sha256 != lock.task_sha256:
        raise BadData(f"the data are not those that were locked: their hash is {task_sha256[:12]}…", hint)


def other_versions(lock: Lock, here: Mapping[str, str]) -> tuple[Skipped, ...]:
    """What the lock cannot promise because other versions are installed; empty where all are the same."""
    names = sorted({*lock.versions, *here})
    differ = [
        f"{name} {here.get(name, 'missing')} (locked: {lock.versions.get(name, 'missing')})"
        for name in names
        if here.get(name) != lock.versions.get(name)
    ]
    return (Skipped("the same bytes as locked", f"not promised: {', '.join(differ)}"),) if differ else ()


def lock_text(
    recipe: "Recipe",
    report: Report,
    source: Artifact,
    sequences: Sequence[tuple[Pass, ...]],
    ships: Sequence[str],
    drop_unit: str,
    folder: Path,
) -> str:
    """The text of a lock that is written to `folder`: files are named from there."""
    task = {"data": _from(folder, recipe.task.data)}
    task |= {
        key: value for key in ("metric", "target_column", "pixels") if (value := getattr(recipe.task, key)) is not None
    }
    versions = {"edgetool": report.edgetool, "python": report.environment.python, **report.environment.versions}
    lines = [
        f"# Written by edgetool {report.edgetool}: `edgetool compress {NAME} --out DIR` makes the same files again.",
        f"model = {_toml(_from(folder, str(source.path)))}",
        f"task = {_toml(task)}",
        f"target = {_toml(recipe.target.name)}",
        f"seed = {recipe.seed}",
        f"trust = {_toml(recipe.trust)}",
        "passes = [",
        *(f"  [{', '.join(_toml(_plain(step, folder)) for step in sequence)}]," for sequence in sequences),
        "]",
        "",
        "[limits]",
        *_limits(report.limits, drop_unit),
        "",
        "[lock]",
        f"model_sha256 = {_toml(source.sha256)}",
        f"task_sha256 = {_toml(report.task.sha256)}",
        f"ships = {_toml(list(ships))}",
        "",
        "[lock.versions]",
        *(f"{_toml(name)} = {_toml(version)}" for name, version in sorted(versions.items())),
    ]
    return "\n".join(lines) + "\n"


def _limits(limits: Limits, drop_unit: str) -> list[str]:
    suffix, factor = _SUFFIX[drop_unit]
    given = {
        "max_drop": None if limits.max_drop is None else f"{_decimal(limits.max_drop * factor)}{suffix}",
        "max_size": None if limits.max_size_bytes is None else f"{limits.max_size_bytes}B",
        "max_p95": None if limits.max_p95_ms is None else f"{_decimal(limits.max_p95_ms)}ms",
        "max_rss": None if limits.max_rss_bytes is None else f"{limits.max_rss_bytes}B",
    }
    return [f"{key} = {_toml(value)}" for key, value in given.items() if value is not None]


def _decimal(value: float) -> str:
    """Without an exponent, which limits are not written with."""
    return f"{value:.12f}".rstrip("0").rstrip(".")


def _plain(step: Pass, folder: Path) -> dict[str, Any]:
    given = settings(step)
    for key in _FILES:
        if isinstance(given.get(key), str) and given[key]:
            given[key] = os.path.relpath(given[key], folder)
        elif isinstance(given.get(key), tuple):
            given[key] = [os.path.relpath(one, folder) for one in given[key]]
    return {"name": step.name, **given}


def _from(folder: Path, name: str) -> str:
    """A file as named from the folder; what is no file (a built-in task) as it is."""
    return os.path.relpath(name, folder) if Path(name).exists() else name


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


def _toml(value: Any) -> str:
    """A plain value as TOML; texts, numbers and truth values are written as in JSON."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items() if one is not None) + " }"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)
