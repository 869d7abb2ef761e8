"""Exact whatever the order and the chunks; constant memory; zero always inside."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.quantize.activation_ranges import BINS, ActivationRange
from edge.errors import BadData

METHODS = ("minmax", "entropy", "percentile")


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 20), st.floats(1e-3, 1e3))
def test_counts_do_not_depend_on_chunks_and_lose_nothing(seed: int, chunks: int, scale: float) -> None:
    values = (np.random.default_rng(seed).normal(size=1000) * scale).astype(np.float32)
    seen = ActivationRange("x")
    for part in np.array_split(values, chunks):
        seen.add(part)
    assert seen.counts.sum() == 1000
    assert (seen.low, seen.high) == (float(values.min()), float(values.max()))
    assert seen.limit >= np.abs(values).max()
    expected, _ = np.histogram(values.astype(np.float64), BINS, (-seen.limit, seen.limit))
    assert np.abs(np.cumsum(expected) - np.cumsum(seen.counts)).max() <= 2  # values that lie on an edge of a bin


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=50), st.sampled_from(METHODS))
def test_ranges_hold_zero_and_never_exceed_what_was_seen(values: list[float], method: str) -> None:
    seen = ActivationRange("x")
    seen.add(np.array(values, np.float32))
    low, high = seen.range(method)  # type: ignore[arg-type]  # hypothesis draws plain strings
    assert min(0.0, *values) <= low <= 0.0 <= high <= max(0.0, *values)


def test_clipping_methods_cut_a_lone_outlier_that_minmax_keeps() -> None:
    values = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    values[0] = 1000.0
    seen = ActivationRange("x")
    seen.add(values)
    assert seen.range("minmax")[1] == 1000.0
    assert seen.range("percentile")[1] < 10.0
    assert seen.range("entropy")[1] < 200.0


def test_only_zeros_then_something() -> None:
    seen = ActivationRange("x")
    seen.add(np.zeros(10, np.float32))
    assert seen.range("entropy") == (0.0, 0.0)
    seen.add(np.ones(10, np.float32))
    assert seen.counts.sum() == 20
    assert seen.range("minmax") == (0.0, 1.0)


def test_nan_and_nothing_seen_are_errors() -> None:
    seen = ActivationRange("conv1")
    with pytest.raises(BadData, match="'conv1' was never seen"):
        seen.range("minmax")
    with pytest.raises(BadData, match="'conv1' became NaN"):
        seen.add(np.array([1.0, np.nan], np.float32))
