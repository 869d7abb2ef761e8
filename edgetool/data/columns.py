"""Tables as tasks: a .csv file with a target column, and the tables that scikit-learn ships."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.errors import BadData
from edge.table import Table, TableInput, read_csv
from edge.tensors import TensorSpec
from edgetool.data.examples import ArrayExamples
from edgetool.data.fits import TargetForm, check_names, check_shape, only_input, targets
from edgetool.data.split import three_splits

Splits = dict[str, ArrayExamples]


def read_columns(
    path: Path,
    inputs: Sequence[TensorSpec],
    output: TensorSpec,
    seed: int,
    *,
    form: TargetForm | None,
    target_column: str | None,
) -> tuple[Splits, TableInput, tuple[str, ...]]:
    """(splits, step, class names) of a .csv file, split in 70, 10 and 20 percent.

    The target is the column `target_column`, else the one called "target". Text there names classes (numbered
    in the order of their sorted names), whole numbers are class labels, other numbers are values to predict.

    Raises:
        BadData: the file is damaged, the target column is missing, another column has text in it, or the
            columns do not fit the model.

    """
    spec = only_input(inputs, str(path))
    table = read_csv(path)
    if target_column is None and "target" not in table.columns:
        shown = ", ".join(table.columns[:10])
        raise BadData(f"{path}: which column is the target?", f"choose the target column of: {shown}")
    name = target_column or "target"
    values, labels = _target(table, name)
    if labels and form == "values":
        raise BadData(f"{path}: column {name!r} holds text, but the metric needs values", "use accuracy")
    if labels:
        check_names(labels, output, f"{path}: column {name!r}")
    truth = targets(values, output, f"{path}: column {name!r}", form)
    columns = tuple(column for column in table.columns if column != name)
    rows = table.numbers(columns)
    drawn = three_splits(truth, seed, where=str(path), names=labels)
    parts = {side: (rows[part], truth[part]) for side, part in zip(("train", "val", "test"), drawn, strict=True)}
    splits, step = table_splits(parts, columns, spec, str(path))
    return splits, step, labels


def table_splits(
    parts: dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]],
    columns: tuple[str, ...],
    spec: TensorSpec,
    where: str,
) -> tuple[Splits, TableInput]:
    """The (rows, targets) of each split as examples, scaled by the statistics of the training rows alone.

    Raises:
        BadData: the number of columns is not what the input `spec` takes.

    """
    check_shape((len(columns),), spec, where)
    if np.dtype(spec.dtype).kind != "f" and spec.quantization is None:
        raise BadData(f"{where}: scaled columns are real numbers, but input {spec.name!r} takes {spec.dtype}")
    step = TableInput.fit(columns, parts["train"][0])
    steps = {spec.name: step}
    return {side: ArrayExamples({spec.name: rows}, truth, steps) for side, (rows, truth) in parts.items()}, step


def _target(table: Table, name: str) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    cells = table.column(name)
    for convert in (int, float):
        try:
            return np.array([convert(cell) for cell in cells]), ()
        except (ValueError, OverflowError):
            continue
    empty = [line for line, cell in zip(table.lines, cells, strict=True) if not cell.strip()]
    if empty:
        raise BadData(f"{table.path}, line {empty[0]}: the target column {name!r} is empty", "drop such rows")
    names = tuple(sorted(set(cells)))
    return np.array([names.index(cell) for cell in cells], np.int64), names
