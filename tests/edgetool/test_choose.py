"""Which candidate ships."""

import dataclasses

import pytest

from edge.report import Limits
from edgetool.choose import choose, failed_limits, reasons_against
from tests.edgetool.reports import candidate, drop

LIMITS = Limits(max_drop=1.0)
SMALL_LOSS = drop(0.1, 0.4, "pass")


def test_faster_beats_smaller_that_is_not_faster() -> None:
    tiny = candidate("tiny", 1.0, "not_slower", gzip_bytes=10, lost=SMALL_LOSS)
    fast = candidate("fast", 0.6, "faster", gzip_bytes=90_000, lost=SMALL_LOSS)
    choice = choose((tiny, fast), LIMITS)
    assert choice.chosen == "fast"
    assert choice.rejected == {"tiny": ("fast is better",)}


def test_among_equally_fast_ones_the_smallest_packed_wins() -> None:
    plain = candidate("plain", 0.50, gzip_bytes=80_000, lost=SMALL_LOSS)
    pruned = candidate("pruned", 0.51, gzip_bytes=40_000, lost=SMALL_LOSS)
    slow_but_tiny = candidate("tiny", 0.90, gzip_bytes=1_000, lost=SMALL_LOSS)
    assert choose((plain, pruned, slow_but_tiny), LIMITS).chosen == "pruned"


def test_bytes_in_the_bundle_count_where_they_are_known() -> None:
    clustered = dataclasses.replace(candidate("clustered", gzip_bytes=60_000, lost=SMALL_LOSS), stored_bytes=20_000)
    plain = dataclasses.replace(candidate("plain", gzip_bytes=40_000, lost=SMALL_LOSS), stored_bytes=39_000)
    assert choose((plain, clustered), LIMITS).chosen == "clustered"
    unknown = tuple(dataclasses.replace(row, stored_bytes=None) for row in (plain, clustered))
    assert choose(unknown, LIMITS).chosen == "plain"


def test_where_nothing_is_faster_the_smallest_not_slower_wins() -> None:
    big = candidate("big", 1.0, "not_slower", gzip_bytes=90_000, lost=SMALL_LOSS)
    small = candidate("small", 1.01, "not_slower", gzip_bytes=20_000, lost=SMALL_LOSS)
    assert choose((big, small), LIMITS).chosen == "small"


@pytest.mark.parametrize(
    ("row", "word"),
    [
        (candidate("x", 1.4, "slower", lost=SMALL_LOSS), "slower"),
        (candidate("x", 1.0, "inconclusive", lost=SMALL_LOSS), "inconclusive"),
        (candidate("x", lost=drop(3, 4, "fail")), "accuracy"),
        (dataclasses.replace(candidate("x", lost=SMALL_LOSS), measurements=()), "latency was not measured"),
    ],
)
def test_what_may_not_ship_says_why(row: object, word: str) -> None:
    choice = choose((row,), LIMITS)  # type: ignore[arg-type]  # the parameter's type is object for pytest's sake
    assert choice.chosen is None
    assert word in choice.rejected["x"][0]


def test_diverged_parity_may_not_ship() -> None:
    row = candidate("x", lost=SMALL_LOSS)
    assert row.parity is not None
    row = dataclasses.replace(row, parity=dataclasses.replace(row.parity, first_divergence="probabilities"))
    assert "parity: output probabilities" in reasons_against(row, LIMITS)[0]


def test_resolved_on_val_comes_before_unresolved() -> None:
    unsure = candidate("unsure", 0.3, lost=drop(0.5, 2, "unresolved"))
    sure = candidate("sure", 0.6, lost=SMALL_LOSS)
    assert choose((unsure, sure), LIMITS).chosen == "sure"
    assert choose((unsure,), LIMITS).chosen == "unsure"


def test_limits_name_the_value_and_the_limit() -> None:
    row = candidate("x", 0.5, lost=SMALL_LOSS, size_bytes=100_000)
    assert failed_limits(row, Limits(max_size_bytes=99_000)) == ("size 100.0 kB is over 99.0 kB",)
    assert failed_limits(row, Limits(max_size_bytes=100_000)) == ()
    assert failed_limits(row, Limits(max_p95_ms=0.06)) == ("p95 (upper bound) 0.065 ms is over 0.06 ms",)
    assert failed_limits(row, Limits(max_p95_ms=0.07)) == ()
    assert failed_limits(row, Limits(max_rss_bytes=30_000_000)) == ("peak RSS 40.0 MB is over 30.0 MB",)
    assert failed_limits(dataclasses.replace(row, measurements=()), Limits(max_p95_ms=1)) == ("p95 was not measured",)


def test_one_format_only() -> None:
    rows = (candidate("a", 0.2, lost=SMALL_LOSS), candidate("b", 0.9, lost=SMALL_LOSS, file_format="onnx"))
    assert choose(rows, LIMITS, "onnx").chosen == "b"


def test_the_knee_of_a_search_without_limits_comes_before_faster_and_smaller_ones() -> None:
    knee, fast = candidate("knee", 0.8, lost=SMALL_LOSS), candidate("fast", 0.2, gzip_bytes=10, lost=SMALL_LOSS)
    assert choose((fast, knee), LIMITS).chosen == "fast"
    assert choose((fast, knee), LIMITS, preferred="knee").chosen == "knee"
    slow = candidate("knee", 1.4, "slower", lost=SMALL_LOSS)
    assert choose((fast, slow), LIMITS, preferred="knee").chosen == "fast"
    unsure = candidate("knee", 0.8, lost=drop(0.5, 2, "unresolved"))
    assert choose((fast, unsure), LIMITS, preferred="knee").chosen == "fast"
