"""Drawing one split from another: stratified for classes, seeded, in the order of the data."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.errors import BadData

VAL_FRACTION = 0.1
TEST_FRACTION = 0.2

Indices = npt.NDArray[np.int64]


def stratified_split(labels: npt.NDArray[Any], fraction: float, seed: int) -> tuple[Indices, Indices]:
    """Split `labels` [n, ...] into (rest, drawn), both ascending; `drawn` has about `fraction` of the examples.

    Integer labels [n] are drawn class by class, classes ascending: the first round(n_class * fraction) of a
    permutation of the class. Anything else (float targets, several labels an example) is drawn from one
    permutation of all. One generator, `np.random.default_rng(seed)`, serves all classes.
    """
    rng = np.random.default_rng(seed)
    if labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer):
        strata = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    else:
        strata = [np.arange(len(labels))]
    parts = [rng.permutation(indices)[: round(len(indices) * fraction)] for indices in strata]
    drawn = np.sort(np.concatenate([np.zeros(0, np.int64), *parts])).astype(np.int64)
    rest = np.setdiff1d(np.arange(len(labels)), drawn, assume_unique=True).astype(np.int64)
    return rest, drawn


def validation_split(
    labels: npt.NDArray[Any], seed: int, *, where: str, names: Sequence[str] = ()
) -> tuple[Indices, Indices]:
    """(train, val): a tenth of `labels` [n, ...] for validation.

    Raises:
        BadData: a class has so few examples that a split would have none of it; `where` is named.

    """
    rest, drawn = stratified_split(labels, VAL_FRACTION, seed)
    _check_classes(labels, (rest, drawn), where, names)
    return rest, drawn


def three_splits(
    labels: npt.NDArray[Any], seed: int, *, where: str, names: Sequence[str] = ()
) -> tuple[Indices, Indices, Indices]:
    """(train, val, test): 70, 10 and 20 percent of `labels` [n, ...].

    Raises:
        BadData: a class has so few examples that a split would have none of it; `where` is named.

    """
    rest, test = stratified_split(labels, TEST_FRACTION, seed)
    inner_rest, inner_val = stratified_split(labels[rest], VAL_FRACTION / (1 - TEST_FRACTION), seed)
    train, val = rest[inner_rest], rest[inner_val]
    _check_classes(labels, (train, val, test), where, names)
    return train, val, test


def _check_classes(labels: npt.NDArray[Any], parts: Sequence[Indices], where: str, names: Sequence[str]) -> None:
    hint = "add examples, or give the splits yourself"
    if any(len(part) == 0 for part in parts):
        raise BadData(f"{where}: {len(labels)} examples are too few to split in {len(parts)}", hint)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        return
    for c in np.unique(labels).tolist():
        if not all((labels[part] == c).any() for part in parts):
            name = names[c] if 0 <= c < len(names) else c
            n = np.count_nonzero(labels == c)
            raise BadData(f"{where}: class {name!r} has {n} examples, too few to split in {len(parts)}", hint)
