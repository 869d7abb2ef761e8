"""The three forms of a tensor in a packed file, and the tables of frequencies that the tensors of a file share.

Dense: every element by its frequency. Sparse: which elements are kept (bits with classes of density, or gaps), then
the kept ones; all others are the hole, the most frequent value. Elements of at most 256 different values are coded
by their place in a codebook, others byte by byte, each byte of an element with a table of its own.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.packing import density
from edge.packing.fields import Reader, Writer
from edge.packing.rans import TOTAL, Symbols, frequencies_of

DENSE, BITS, GAPS = range(3)
LARGEST_CODEBOOK = 256
FIRST_OWN_TABLE = len(density.bit_tables())
MAX_TABLES = 1 << 12
# A stream is worth sparse coding only where one value is this frequent.
LEAST_HOLES = 0.3
_HOLDERS = {1: "<u1", 2: "<u2", 4: "<u4", 8: "<u8"}

Elements = npt.NDArray[np.unsignedinteger[Any]]


class TableList:
    """Tables of the file so far; a stream takes the one that codes it in the fewest bits, or one of its own."""

    def __init__(self) -> None:
        self.rows: list[npt.NDArray[np.uint16]] = []

    def cost(self, symbols: Symbols) -> tuple[float, npt.NDArray[np.uint16] | int]:
        """The bits that a stream takes, its table included; and the table: its place, or a new one."""
        counts = np.bincount(symbols, minlength=256).astype(np.int64)
        fitted = frequencies_of(counts)
        # Small frequencies stand in one byte, others in two; LZMA then takes about a quarter off.
        best: tuple[float, npt.NDArray[np.uint16] | int] = (
            _bits(counts, fitted) + 6 * (np.count_nonzero(fitted) + np.count_nonzero(fitted > 127)),
            fitted,
        )
        for place, row in enumerate(self.rows):
            if np.all(row[counts > 0] > 0) and (shared := _bits(counts, row)) < best[0]:
                best = shared, place
        return best

    def add(self, found: npt.NDArray[np.uint16] | int) -> int:
        """The place of a table that `cost` chose."""
        if isinstance(found, int):
            return found
        self.rows.append(found)
        return len(self.rows) - 1


@dataclass(frozen=True)
class Values:
    """How elements become streams of bytes: by a codebook of at most 256 of them, or byte by byte (None)."""

    item_bytes: int
    codebook: Elements | None

    @property
    def streams(self) -> int:
        """How many streams there are."""
        return self.item_bytes if self.codebook is None else 1

    def split(self, elements: Elements) -> list[Symbols]:
        """Elements [n] -> streams of symbols [n] each."""
        if self.codebook is not None:
            return [np.searchsorted(self.codebook, elements).astype(np.uint8)]
        planes = elements.astype(_HOLDERS[self.item_bytes]).view(np.uint8).reshape(-1, self.item_bytes)
        return [np.ascontiguousarray(planes[:, place]) for place in range(self.item_bytes)]

    def join(self, streams: list[Symbols]) -> Elements:
        """What `split` was given."""
        if self.codebook is not None:
            if len(streams[0]) and int(streams[0].max()) >= len(self.codebook):
                raise ValueError("a symbol lies beyond its codebook")
            return self.codebook[streams[0]]
        whole = np.ascontiguousarray(np.stack(streams, axis=1)) if len(streams[0]) else np.empty(0, np.uint8)
        return whole.view(_HOLDERS[self.item_bytes]).ravel()


def values_of(elements: Elements, item_bytes: int) -> Values:
    """A codebook where there are few values, else bytes. Single bytes of many values need no codebook."""
    found = np.unique(elements)
    few = len(found) <= (LARGEST_CODEBOOK // 4 if item_bytes == 1 else LARGEST_CODEBOOK)
    return Values(item_bytes, found if few and len(found) else None)


def elements_of(content: bytes, item_bytes: int) -> Elements:
    """The bytes of a tensor as unsigned numbers."""
    return np.frombuffer(content, _HOLDERS[item_bytes])


@dataclass(frozen=True)
class Coded:
    """One tensor in one form. `bits` is what its streams, tables and lists take, about."""

    form: int
    hole: int
    mask: npt.NDArray[np.bool_] | None
    classes: density.Classes | None
    gaps: Symbols | None
    values: Values
    streams: list[Symbols]
    tables: list[npt.NDArray[np.uint16] | int]
    bits: float


def forms_of(elements: Elements, item_bytes: int, rows: int, known: TableList) -> list[Coded]:
    """Every form that may pay for a tensor, the shortest first."""
    found = [_coded(DENSE, elements, item_bytes, known, 0.0)]
    numbers, counts = np.unique(elements, return_counts=True)
    hole = int(numbers[np.argmax(counts)])
    if counts.max() < LEAST_HOLES * len(elements) or len(numbers) < 2:
        return found
    kept = elements != hole
    classes, bits = density.classes_of(kept.reshape(rows, -1))
    found.append(_coded(BITS, elements[kept], item_bytes, known, bits, hole=hole, mask=kept, classes=classes))
    gaps = density.gaps_of(kept)
    gap_bits, _ = known.cost(gaps)
    found.append(_coded(GAPS, elements[kept], item_bytes, known, gap_bits, hole=hole, gaps=gaps))
    return sorted(found, key=lambda coded: coded.bits)


def _coded(form: int, elements: Elements, item_bytes: int, known: TableList, bits: float, **more: Any) -> Coded:
    values = values_of(elements, item_bytes)
    streams = values.split(elements)
    costs = [known.cost(stream) for stream in streams]
    total = bits + sum(cost for cost, _ in costs)
    if values.codebook is not None:
        total += 8 * item_bytes * len(values.codebook)
    settings = {"hole": 0, "mask": None, "classes": None, "gaps": None, **more}
    return Coded(form, values=values, streams=streams, tables=[t for _, t in costs], bits=total, **settings)


def write_tables(tables: TableList, head: Writer) -> None:
    """The frequencies of all tables."""
    head.number(len(tables.rows))
    for row in tables.rows:
        head.numbers(row[: int(np.flatnonzero(row)[-1]) + 1].tolist())


def read_tables(head: Reader) -> npt.NDArray[np.uint16]:
    """All tables [n, 256], those of single bits first."""
    n = head.number(MAX_TABLES)
    own = np.zeros((n, 256), np.uint16)
    for row in own:
        length = head.number(256)
        row[:length] = [head.number(TOTAL) for _ in range(length)]
    return np.concatenate([density.bit_tables(), own])


def _bits(counts: npt.NDArray[np.int64], frequencies: npt.NDArray[np.uint16]) -> float:
    used = counts > 0
    return float((counts[used] * (12 - np.log2(frequencies[used].astype(np.float64)))).sum())
