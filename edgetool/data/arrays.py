"""An .npz file with x_train, y_train, x_test, y_test, read without pickle."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.errors import BadData
from edge.preprocess import ArrayInput, read_npz
from edge.tensors import TensorSpec
from edgetool.data.examples import ArrayExamples
from edgetool.data.fits import TargetForm, array_input, targets
from edgetool.data.split import validation_split

Arrays = Mapping[str, npt.NDArray[Any]]
FORM = "it needs x_train, y_train, x_test and y_test; with several inputs x_train.<input> and x_test.<input>"


def read_arrays(
    path: Path, inputs: Sequence[TensorSpec], output: TensorSpec, seed: int, *, form: TargetForm | None
) -> tuple[dict[str, ArrayExamples], dict[str, ArrayInput], tuple[str, ...]]:
    """(splits by name, step by input, class names) of an .npz file.

    Optional are x_val and y_val (else a tenth of the training data is drawn), groups_test [n] (the person or
    speaker of each test example), and labels, the names of the classes.

    Raises:
        BadData: the file is missing, damaged or pickled; a key is missing or unknown; an array does not fit.

    """
    arrays = read_npz(path)
    names = [spec.name for spec in inputs]
    sides = [side for side in ("train", "val", "test") if side != "val" or _has_val(arrays, path)]
    keys = {side: {name: _key(arrays, side, name, names) for name in names} for side in sides}
    needed = {key for side in sides for key in (*keys[side].values(), f"y_{side}")}
    _check_keys(arrays, needed, path)
    steps = {spec.name: _steps(arrays, keys, spec, path) for spec in inputs}
    splits = {}
    for side in sides:
        truth = targets(arrays[f"y_{side}"], output, f"{path}: y_{side}", form)
        raw = {name: arrays[key] for name, key in keys[side].items()}
        groups = _groups(arrays, path) if side == "test" else None
        _check_lengths(raw, truth, groups, f"{path}: {side}")
        splits[side] = ArrayExamples(raw, truth, steps, groups)
    if "val" not in splits:
        whole = splits["train"]
        rest, drawn = validation_split(whole.targets, seed, where=f"{path}: y_train")
        for side, indices in (("train", rest), ("val", drawn)):
            raw = {name: array[indices] for name, array in whole.arrays.items()}
            splits[side] = ArrayExamples(raw, whole.targets[indices], steps)
    kinds = {split.targets.dtype.kind for split in splits.values()}
    if len(kinds) > 1:
        raise BadData(f"{path}: some targets are class labels and others are floats", "store all in one way")
    labels = tuple(str(label) for label in arrays["labels"]) if "labels" in arrays else ()
    return splits, steps, labels


def _has_val(arrays: Arrays, path: Path) -> bool:
    has_x = any(key.split(".")[0] == "x_val" for key in arrays)
    if has_x != ("y_val" in arrays):
        raise BadData(f"{path} has only one of x_val and y_val", "give both, or neither to have them drawn")
    return has_x


def _key(arrays: Arrays, side: str, name: str, names: Sequence[str]) -> str:
    named = f"x_{side}.{name}"
    return named if len(names) > 1 or named in arrays else f"x_{side}"


def _check_keys(arrays: Arrays, needed: set[str], path: Path) -> None:
    missing = sorted(needed - set(arrays))
    if missing:
        raise BadData(f"{path} has no {missing[0]} (it has {', '.join(sorted(arrays)) or 'nothing'})", FORM)
    known = needed | {"groups_test", "labels"}
    for key in sorted(set(arrays) - known):
        near = difflib.get_close_matches(key, known, n=1)
        raise BadData(f"{path}: the key {key!r} means nothing here", f"is it {near[0]}?" if near else FORM)


def _steps(arrays: Arrays, keys: Mapping[str, Mapping[str, str]], spec: TensorSpec, path: Path) -> ArrayInput:
    found = {
        keys[side][spec.name]: array_input(arrays[keys[side][spec.name]], spec, f"{path}: {keys[side][spec.name]}")
        for side in keys
    }
    if len(set(found.values())) > 1:
        raise BadData(f"{path}: {' and '.join(found)} hold different kinds of numbers")
    return next(iter(found.values()))


def _groups(arrays: Arrays, path: Path) -> npt.NDArray[np.int64] | None:
    groups = arrays.get("groups_test")
    if groups is None:
        return None
    if groups.ndim != 1 or groups.dtype.kind not in "iuU":
        raise BadData(f"{path}: groups_test is {groups.dtype} {list(groups.shape)}", "one whole number or name each")
    return np.unique(groups, return_inverse=True)[1].astype(np.int64)


def _check_lengths(raw: Arrays, truth: npt.NDArray[Any], groups: npt.NDArray[np.int64] | None, where: str) -> None:
    lengths = {name: len(array) for name, array in raw.items()} | {"y": len(truth)}
    if groups is not None:
        lengths["groups"] = len(groups)
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise BadData(f"{where} has different numbers of examples, or none: {shown}")
