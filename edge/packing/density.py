"""Which elements of a sparse tensor are kept, as one bit each whose probability depends on its row and its column.

Pruning leaves rows and columns of very different density (the border of a picture goes first), and a bit of
probability p costs -log2 p, so each row and each column names one of a few classes of density, and each pair of
classes its probability. The alternative, gaps between kept elements, is that of Han et al., "Deep Compression", 2016.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.packing.rans import TOTAL, Frequencies

CLASSES = (1, 2, 4, 8, 16)
# Probabilities of a bit, 128 of them: impossible, certain, and between them equal steps of log(p / (1 - p)), of which
# the nearest costs less than 0.2 % more than the exact one.
_LOGITS = np.linspace(-8.3, 8.3, 126)
LONGEST_GAP = 255  # a gap of this length is followed by no kept element

Mask = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]


def bit_tables() -> Frequencies:
    """Frequencies [128, 256] of the symbols 0 and 1."""
    ones = np.clip(np.rint(TOTAL / (1 + np.exp(-_LOGITS))), 1, TOTAL - 1)
    tables = np.zeros((len(_LOGITS) + 2, 256), np.uint16)
    tables[:, 1] = np.concatenate([[0], ones, [TOTAL]])
    tables[:, 0] = TOTAL - tables[:, 1]
    return tables


@dataclass(frozen=True)
class Classes:
    """The class of each row and each column, and the bit table of each pair of classes [row classes, columns']."""

    rows: Bytes
    columns: Bytes
    tables: Bytes

    def contexts(self) -> npt.NDArray[np.uint16]:
        """The table of each element, row by row, flat."""
        per_row = self.tables.astype(np.uint16)[self.rows]
        return per_row[:, self.columns].ravel()


def classes_of(kept: Mask) -> tuple[Classes, float]:
    """The classes of a mask [rows, columns] that cost least, and their cost in bits with that of the mask.

    A class number is counted with the entropy of its list.
    """
    by_row = {n: _classified(kept.mean(axis=1), n) for n in CLASSES if n <= kept.shape[0]}
    by_column = {n: _classified(kept.mean(axis=0), n) for n in CLASSES if n <= kept.shape[1]}
    best: tuple[Classes, float] | None = None
    for rows in by_row.values():
        summed = np.zeros((int(rows.max()) + 1, kept.shape[1]), np.int64)
        np.add.at(summed, rows, kept)
        for columns in by_column.values():
            ones = np.zeros((len(summed), int(columns.max()) + 1), np.int64)
            np.add.at(ones.T, columns, summed.T)
            elements = np.outer(np.bincount(rows), np.bincount(columns))
            tables = _nearest_tables(ones, elements)
            cost = _bits(ones, elements, tables) + entropy_bits(rows) + entropy_bits(columns) + 8 * tables.size
            if best is None or cost < best[1]:
                best = Classes(rows, columns, tables), cost
    assert best is not None, "one class is always possible"
    return best


def gaps_of(kept: npt.NDArray[np.bool_]) -> Bytes:
    """The lengths of the runs of holes before each kept element of a flat mask; 255 stands for a run that goes on."""
    places = np.flatnonzero(kept)
    lengths = np.diff(places, prepend=-1) - 1
    fillers = lengths // LONGEST_GAP
    gaps = np.full(len(places) + int(fillers.sum()), LONGEST_GAP, np.uint8)
    gaps[np.arange(len(places)) + np.cumsum(fillers)] = lengths % LONGEST_GAP
    return gaps


def places_of(gaps: Bytes, n: int) -> npt.NDArray[np.int64]:
    """Where the kept elements stand among `n`. Raises ValueError where they lead beyond."""
    ends = gaps != LONGEST_GAP
    places: npt.NDArray[np.int64] = (np.cumsum(gaps, dtype=np.int64) + np.cumsum(ends) - 1)[ends]
    if len(gaps) and (not ends[-1] or places[-1] >= n):
        raise ValueError("gaps lead beyond the end of a tensor")
    return places


def entropy_bits(symbols: Bytes) -> float:
    """The bits that an ideal coder with fitted frequencies spends on the symbols."""
    counts = np.bincount(symbols.ravel()).astype(np.float64)
    counts = counts[counts > 0]
    return float(-(counts * np.log2(counts / counts.sum())).sum())


def _classified(density: npt.NDArray[np.float64], n: int) -> Bytes:
    """`n` classes or fewer, each of equally many rows; empty rows are a class of their own."""
    if n == 1 or not np.any(density > 0):
        return np.zeros(len(density), np.uint8)
    edges = np.unique(np.quantile(density[density > 0], np.arange(1, n) / n))
    classes = np.searchsorted(np.concatenate([[0.0], edges]), density, side="left")
    return np.unique(classes, return_inverse=True)[1].astype(np.uint8)


def _nearest_tables(ones: npt.NDArray[np.int64], elements: npt.NDArray[np.int64]) -> Bytes:
    tables = np.empty(ones.shape, np.uint8)
    fraction = ones / np.maximum(elements, 1)
    inner = np.clip(fraction, 1e-9, 1 - 1e-9)
    step = _LOGITS[1] - _LOGITS[0]
    tables[:] = 1 + np.clip(np.rint((np.log(inner / (1 - inner)) - _LOGITS[0]) / step), 0, len(_LOGITS) - 1)
    tables[fraction == 0] = 0
    tables[fraction == 1] = len(_LOGITS) + 1
    return tables


def _bits(ones: npt.NDArray[np.int64], elements: npt.NDArray[np.int64], tables: Bytes) -> float:
    p = bit_tables()[tables].astype(np.float64)[..., :2] / TOTAL
    with np.errstate(divide="ignore", invalid="ignore"):
        cost = -np.where(ones > 0, ones * np.log2(p[..., 1]), 0)
        cost -= np.where(elements > ones, (elements - ones) * np.log2(p[..., 0]), 0)
    return float(cost.sum())
