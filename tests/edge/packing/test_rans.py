import numpy as np
import pytest

from edge.packing.rans import MAX_STEPS, TOTAL, Tables, decode, encode, frequencies_of, lanes_for


def tables_of(*rows):
    table = np.zeros((len(rows), 256), np.int64)
    for row, counts in zip(table, rows, strict=True):
        row[: len(counts)] = counts
    return Tables(np.stack([frequencies_of(row) for row in table]))


@pytest.mark.parametrize("n", [0, 1, 2, 100, MAX_STEPS, MAX_STEPS + 1, 3 * MAX_STEPS + 7])
def test_what_is_encoded_is_decoded(n):
    rng = np.random.default_rng(n)
    tables = tables_of([1, 1], [1000, 1, 30], [5], rng.integers(0, 50, 256))
    contexts = rng.integers(0, 4, n).astype(np.uint16)
    symbols = np.array([rng.choice(np.flatnonzero(tables.frequencies[c])) for c in range(4)])[contexts].astype(np.uint8)
    content = encode(symbols, contexts, tables)
    np.testing.assert_array_equal(decode(content, contexts, tables), symbols)


def test_it_takes_the_entropy_of_the_symbols():
    rng = np.random.default_rng(0)
    p = np.array([0.9, 0.05, 0.03, 0.02])
    symbols = rng.choice(4, 100_000, p=p).astype(np.uint8)
    contexts = np.zeros(len(symbols), np.uint16)
    content = encode(symbols, contexts, tables_of(np.bincount(symbols)))
    ideal = -(np.bincount(symbols) * np.log2(np.bincount(symbols) / len(symbols))).sum() / 8
    assert len(content) < 1.002 * ideal + 4 * lanes_for(len(symbols))


def test_a_certain_symbol_costs_nothing():
    contexts = np.zeros(50_000, np.uint16)
    content = encode(np.full(50_000, 3, np.uint8), contexts, tables_of([0, 0, 0, 7]))
    assert len(content) == 4 * lanes_for(50_000)


def test_frequencies_fill_the_total():
    rng = np.random.default_rng(0)
    for _ in range(200):
        counts = (rng.pareto(0.3, 256) * (rng.random(256) < rng.random())).astype(np.int64)
        frequencies = frequencies_of(counts)
        assert frequencies.sum(dtype=np.int64) == TOTAL
        if counts.any():
            np.testing.assert_array_equal(frequencies > 0, counts > 0)


def test_symbols_without_a_frequency_are_refused():
    with pytest.raises(ValueError, match="does not occur"):
        encode(np.array([1], np.uint8), np.zeros(1, np.uint16), tables_of([5]))
    with pytest.raises(ValueError, match="sum to 4096"):
        Tables(np.ones((1, 256), np.uint16))


def test_cut_or_lengthened_content_is_refused():
    rng = np.random.default_rng(0)
    tables, contexts = tables_of([1, 2, 3]), np.zeros(500, np.uint16)
    content = encode(rng.integers(0, 3, 500).astype(np.uint8), contexts, tables)
    for wrong in (content[:-2], content + b"\0\0", content[:3], b"", content[:-1]):
        with pytest.raises(ValueError, match="coded symbols"):
            decode(wrong, contexts, tables)
