"""What is confirmed on test, and what is said where nothing ships."""

import dataclasses

from edge.report import Limits, Parity, Verdict
from edgetool.shipping import confirmed, failure_of, wanted
from tests.edgetool.reports import candidate, drop, report

LIMITS = Limits(max_drop=1.0)
LITTLE = drop(0.1, 0.4, "pass")
BASELINES = {
    "tflite": candidate("tflite-float32", None, None, size_bytes=400_000),
    "onnx": candidate("onnx-float32", None, None, size_bytes=410_000, file_format="onnx"),
}


def test_the_best_of_each_format_is_confirmed_the_winner_first() -> None:
    rows = [
        candidate("tflite-int8", 0.6, lost=LITTLE),
        candidate("tflite-slow", 2.0, "slower", lost=LITTLE),
        candidate("onnx-int8", 0.8, lost=LITTLE, file_format="onnx"),
    ]
    ids, rejected = wanted(rows, BASELINES, LIMITS)
    assert ids == ["tflite-int8", "onnx-int8"]
    assert set(rejected) == {"tflite-slow"}


def test_a_format_in_which_nothing_won_ships_its_float32() -> None:
    rows = [
        candidate("tflite-int8", 0.6, lost=LITTLE),
        candidate("onnx-x", 2.0, "slower", lost=LITTLE, file_format="onnx"),
    ]
    assert wanted(rows, BASELINES, LIMITS)[0] == ["tflite-int8", "onnx-float32"]


def test_where_nothing_is_proven_better_the_baseline_stands() -> None:
    rows = [candidate("a", 1.0, "inconclusive", lost=LITTLE), candidate("b", 0.5, lost=drop(3.0, 4.0, "fail"))]
    ids, rejected = wanted(rows, BASELINES, LIMITS)
    assert ids == ["tflite-float32", "onnx-float32"]
    assert set(rejected) == {"a", "b"}


def test_a_baseline_over_a_limit_or_out_of_parity_does_not_stand() -> None:
    rows = [candidate("a", 2.0, "slower", lost=LITTLE)]
    assert wanted(rows, BASELINES, Limits(max_drop=1.0, max_size_bytes=1000))[0] == []
    broken = dataclasses.replace(BASELINES["tflite"], parity=Parity("keras", 9.0, None, 0.0, 0.1, "scores", 32))
    assert wanted(rows, {"tflite": broken}, LIMITS)[0] == []


def test_only_a_passed_gate_on_test_ships() -> None:
    passed = dataclasses.replace(candidate("a"), drop=LITTLE)
    assert confirmed(passed, LIMITS).verdict == Verdict(ship=True)
    unresolved = confirmed(dataclasses.replace(passed, drop=drop(0.5, 1.5, "unresolved", n=100)), LIMITS)
    assert unresolved.verdict is not None
    assert not unresolved.verdict.ship
    assert "unresolved: drop 0.50 pp, at most 1.50 pp on test (n = 100)" in unresolved.verdict.failed_limits[0]
    assert "n = 9,000" in unresolved.verdict.failed_limits[0]


def test_the_failure_names_the_nearest_candidate() -> None:
    rows = (
        dataclasses.replace(candidate("big", 2.0, "slower", lost=LITTLE), verdict=Verdict(False, ("slower", "size"))),
        dataclasses.replace(candidate("near", 0.5, lost=LITTLE), verdict=Verdict(False, ("size 2 kB is over 1 kB",))),
    )
    failure = failure_of(report(*rows))
    assert failure is not None
    assert failure.exit_code == 1
    assert "nearest is near: size 2 kB is over 1 kB" in failure.message
    shipped = report(candidate("a", lost=LITTLE), chosen="a")
    assert failure_of(shipped) is None
