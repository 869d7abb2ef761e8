"""Range asymmetric numeral systems: symbols of known frequencies in close to their entropy of bits.

Duda, "Asymmetric numeral systems", 2013 (arXiv:1311.2540). A state x in [2^16, 2^32) takes in a symbol of frequency f
and cumulated frequency c (of 2^12 in all) by x -> (x // f) 2^12 + x % f + c, which the decoder undoes; 16 bits leave
it where it would grow beyond 2^32. Symbol i belongs to lane i mod lanes: each lane has a state of its own, so that
numpy decodes as many symbols at once. A lane costs 2 bytes, hence as few of them as keep the steps below a bound.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BITS = 12
TOTAL = 1 << BITS
MAX_STEPS = 1 << 13  # of a dozen numpy calls on all lanes, about 15 us a step on a desktop
_LOWEST = 1 << 16

Symbols = npt.NDArray[np.uint8]
Contexts = npt.NDArray[np.uint16]
Frequencies = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Tables:
    """Frequencies [tables, 256] of the 256 symbols in each table; a row sums to 2^12, absent symbols have 0."""

    frequencies: Frequencies

    def __post_init__(self) -> None:
        if self.frequencies.ndim != 2 or self.frequencies.shape[1] != 256:
            raise ValueError(f"frequencies of shape {self.frequencies.shape}, not [tables, 256]")
        if np.any(self.frequencies.sum(axis=1, dtype=np.int64) != TOTAL):
            raise ValueError(f"a table of frequencies does not sum to {TOTAL}")


def frequencies_of(counts: npt.NDArray[np.int64]) -> Frequencies:
    """Counts [256] -> frequencies [256] that sum to 2^12, at least 1 for every symbol that occurs."""
    scaled = np.where(counts > 0, np.maximum(np.rint(counts * (TOTAL / max(int(counts.sum()), 1))), 1), 0)
    frequencies = scaled.astype(np.int64)
    while (excess := int(frequencies.sum()) - TOTAL) != 0:
        # What is rounded away costs least where the frequency is largest.
        largest = int(np.argmax(frequencies))
        frequencies[largest] -= min(excess, int(frequencies[largest]) - 1) if excess > 0 else excess
    return frequencies.astype(np.uint16)


def lanes_for(n: int) -> int:
    """How many lanes `n` symbols are coded in: both sides know it, so a file cannot choose it."""
    return max(1, -(-n // MAX_STEPS))


def encode(symbols: Symbols, contexts: Contexts, tables: Tables) -> bytes:
    """Symbols [n], symbol i by the table contexts[i] -> the lanes' final states and the words they gave off.

    Raises:
        ValueError: a symbol has frequency 0 in its table.

    """
    n, lanes = len(symbols), lanes_for(len(symbols))
    frequency = tables.frequencies[contexts, symbols].astype(np.uint64)
    if n and not frequency.all():
        raise ValueError("a symbol does not occur in its table")
    before = np.cumsum(tables.frequencies, axis=1, dtype=np.uint64) - tables.frequencies
    cumulated = before[contexts, symbols].astype(np.uint64)
    states = np.full(lanes, _LOWEST, np.uint64)
    words: list[npt.NDArray[np.uint16]] = []
    for start in range((n - 1) // lanes * lanes, -1, -lanes):
        f, c = frequency[start : start + lanes], cumulated[start : start + lanes]
        x = states[: len(f)]
        full = x >= f << np.uint64(32 - BITS)
        words.append(x[full].astype(np.uint16))
        x = np.where(full, x >> np.uint64(16), x)
        states[: len(f)] = ((x // f) << np.uint64(BITS)) + x % f + c
    stream = np.concatenate(words[::-1]) if words else np.empty(0, np.uint16)
    return states.astype("<u4").tobytes() + stream.astype("<u2").tobytes()


def decode(content: bytes, contexts: Contexts, tables: Tables) -> Symbols:
    """The symbols [n] for contexts [n] that `encode` was given.

    Raises:
        ValueError: the content was not made by `encode` with these contexts and tables.

    """
    n, lanes = len(contexts), lanes_for(len(contexts))
    if len(content) < 4 * lanes or len(content) % 2 or (n and int(contexts.max()) >= len(tables.frequencies)):
        raise ValueError("coded symbols are cut short, or name a table that is not there")
    states = np.frombuffer(content, "<u4", lanes).astype(np.uint64)
    words = np.frombuffer(content, "<u2", offset=4 * lanes).astype(np.uint64)
    used, rows = _used(contexts, len(tables.frequencies))
    owner, frequency, offset = _slots(tables.frequencies[used].astype(np.int64))
    symbols = np.empty(n, np.uint8)
    taken, mask, bits, sixteen = 0, np.uint64(TOTAL - 1), np.uint64(BITS), np.uint64(16)
    for start in range(0, n, lanes):
        row = rows[start : start + lanes]
        x = states if len(row) == lanes else states[: len(row)]
        slot = row + (x & mask).view(np.int64)
        symbols[start : start + lanes] = owner[slot]
        x = frequency[slot] * (x >> bits) + offset[slot]
        short = np.flatnonzero(x < _LOWEST)
        if len(short):
            if taken + len(short) > len(words):
                raise ValueError("coded symbols are cut short")
            x[short] = (x[short] << sixteen) | words[taken : taken + len(short)]
            taken += len(short)
        states[: len(row)] = x
    if taken != len(words) or np.any(states != _LOWEST):
        raise ValueError("coded symbols do not end as they should")
    return symbols


def _used(contexts: Contexts, n_tables: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The tables that occur, and for each symbol the first slot of its table among those."""
    used = np.flatnonzero(np.bincount(contexts, minlength=n_tables))
    first_slot = np.zeros(n_tables, np.int64)
    first_slot[used] = np.arange(len(used)) << BITS
    return used, first_slot[contexts]


def _slots(frequencies: npt.NDArray[np.int64]) -> tuple[Symbols, npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """For each slot of tables [n, 256], flat [n * 2^12]: its symbol, that one's frequency, and the slot's offset."""
    n = len(frequencies)
    owner = np.repeat(np.tile(np.arange(256), n), frequencies.ravel()).astype(np.uint8)
    table = np.repeat(np.arange(n), TOTAL)
    before = np.cumsum(frequencies, axis=1) - frequencies
    offset = np.tile(np.arange(TOTAL), n) - before[table, owner]
    return owner, frequencies[table, owner].astype(np.uint64), offset.astype(np.uint64)
