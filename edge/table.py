"""Tables: csv files and the z-score of their columns. The same code in training and on the device."""

import csv
import difflib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edge.errors import BadData


@dataclass(frozen=True)
class TableInput:
    """A row of numbers to (x - mean) / std, with the statistics of the training split: [columns] -> [columns]."""

    columns: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    kind: Literal["table"] = "table"

    def __post_init__(self) -> None:
        if not len(self.columns) == len(self.mean) == len(self.std) or not self.columns:
            raise BadData(
                f"a table input of {len(self.columns)} columns, {len(self.mean)} means and {len(self.std)} deviations"
            )
        if not all(math.isfinite(m) and 0 < s < math.inf for m, s in zip(self.mean, self.std, strict=True)):
            raise BadData("a table input needs finite means and finite deviations above 0")
        if self.kind != "table":
            raise BadData(f"a table input of kind {self.kind!r}")

    @classmethod
    def fit(cls, columns: tuple[str, ...], rows: npt.NDArray[Any]) -> "TableInput":
        """The statistics of `rows` [n, columns]; a constant column keeps its unit (deviation 1)."""
        std = rows.std(axis=0, dtype=np.float64)
        std = np.where(std > 0, std, 1.0)
        return cls(columns, tuple(rows.mean(axis=0, dtype=np.float64).tolist()), tuple(std.tolist()))

    def __call__(self, raw: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """One row [columns] to float32 [columns].

        Raises:
            BadData: another number of columns.

        """
        if raw.shape != (len(self.columns),):
            raise BadData(f"a row of shape {list(raw.shape)}, not [{len(self.columns)}]")
        return np.asarray((raw - np.array(self.mean)) / np.array(self.std), np.float32)


@dataclass(frozen=True)
class Table:
    """A csv file as text: the names of the columns, and the rows, each as long as `columns`, with their lines."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]

    def column(self, name: str) -> tuple[str, ...]:
        """The cells of one column.

        Raises:
            BadData: there is no such column; the hint has the nearest names.

        """
        if name not in self.columns:
            near = difflib.get_close_matches(name, self.columns, n=3, cutoff=0.4) or self.columns[:8]
            raise BadData(f"{self.path} has no column {name!r}", f"it has {', '.join(near)}")
        position = self.columns.index(name)
        return tuple(row[position] for row in self.rows)

    def numbers(self, names: tuple[str, ...]) -> npt.NDArray[np.float64]:
        """The columns `names` as finite numbers: [n, names].

        Raises:
            BadData: a column is missing, or a cell is text, empty, NaN or infinite (its line is named).

        """
        values = np.empty((len(self.rows), len(names)))
        for position, name in enumerate(names):
            for row, cell in enumerate(self.column(name)):
                values[row, position] = _number(cell, f"{self.path}, line {self.lines[row]}: column {name!r}")
        return values


def _number(cell: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        what = f"the text {cell!r}" if cell.strip() else "an empty cell"
        raise BadData(
            f"{where} has {what}, not a number",
            "columns must be numbers: encode categories as 0/1 columns first, fill or drop gaps",
        ) from None
    if not math.isfinite(value):
        raise BadData(f"{where} is {cell}", "fill or drop such rows")
    return value


def read_csv(path: Path) -> Table:
    """A csv file with a header line, comma separated, UTF-8.

    Raises:
        BadData: the file is missing, empty, not text, has a nameless or doubled column, or a ragged row.

    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, cells) for cells in reader if cells]
    except OSError as error:
        raise BadData(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadData(f"{path} is no csv file: {error}", "expected UTF-8 text, comma separated") from error
    if len(lines) < 2:
        raise BadData(f"{path} has no rows", "the first line names the columns, the others are rows")
    columns = tuple(name.strip() for name in lines[0][1])
    twice = [name for name in columns if not name or columns.count(name) > 1]
    if twice:
        raise BadData(f"{path}: the column name {twice[0]!r} is empty or used twice")
    for line, cells in lines[1:]:
        if len(cells) != len(columns):
            raise BadData(f"{path}, line {line}: {len(cells)} cells, but {len(columns)} columns", "is it cut short?")
    return Table(path, columns, tuple(tuple(cells) for _, cells in lines[1:]), tuple(line for line, _ in lines[1:]))
