"""A precision for every layer: the allocation is the best there is, and the model that comes out keeps its limits."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.quantize.litert_mixed import mixable
from compress.quantize.mixable import PRECISIONS, Mixable
from compress.quantize.mixed import Limits, Measured, Option, allocate, mix, options_of
from compress.quantize.sensitivity import Sensitivity, measure, noise
from edge.errors import CheckFailed
from tests.compress.quantize.conftest import outputs, spots

Options = dict[str, tuple[Option, ...]]


def total(options: Options, chosen: dict[str, Any], what: str) -> float:
    return sum(
        getattr(option, what) for name in options for option in options[name] if option.precision == chosen[name]
    )


@st.composite
def problems(draw: Any) -> tuple[Options, Limits]:
    options = {}
    for number in range(draw(st.integers(1, 4))):
        weights, loud = draw(st.integers(1, 1000)), 10.0 ** -draw(st.integers(0, 5))
        options[f"layer{number}"] = tuple(
            Option(precision, loud * quieter, weights * size, weights * bits, weights * slower)
            for precision, quieter, size, bits, slower in zip(
                PRECISIONS, (1, draw(st.floats(0.01, 1)), 0), (1, 1, 4), (64, 128, 1024), (1, 3, 2), strict=True
            )
        )
    least = sum(min(option.size_bytes for option in given) for given in options.values())
    size = least * draw(st.floats(0.8, 4.5))
    time = least * draw(st.floats(0.8, 3.5))
    return options, Limits(10.0 ** -draw(st.integers(0, 6)), size, draw(st.sampled_from([math.inf, time])))


@settings(max_examples=60)
@given(problems())
def test_no_other_allocation_is_better(problem: tuple[Options, Limits]) -> None:
    options, limits = problem
    chosen = allocate(options, limits)
    all_of_them = [
        dict(zip(options, picked, strict=True)) for picked in itertools.product(PRECISIONS, repeat=len(options))
    ]
    slack = 1 + 1e-6  # of the solver
    fits = [
        other
        for other in all_of_them
        if total(options, other, "size_bytes") <= limits.size_bytes
        and total(options, other, "time_ms") <= limits.time_ms
    ]
    if chosen is None:
        assert not fits
        return
    assert total(options, chosen, "size_bytes") <= limits.size_bytes * slack
    assert total(options, chosen, "time_ms") <= limits.time_ms * slack
    quiet = [other for other in fits if total(options, other, "noise") <= limits.noise]
    if quiet:
        assert total(options, chosen, "noise") <= limits.noise * slack
        least = min(total(options, other, "bit_operations") for other in quiet)
        assert total(options, chosen, "bit_operations") <= least * slack
    elif fits:
        least = min(total(options, other, "noise") for other in fits)
        loudest = max(option.noise for given in options.values() for option in given)
        assert total(options, chosen, "noise") <= least + loudest * 1e-6


@pytest.fixture(scope="module")
def source(uneven: bytes, calibration: Any) -> Mixable:
    return mixable(uneven, calibration, per_channel=False)


@pytest.fixture(scope="module")
def sensitivity(source: Mixable) -> Sensitivity:
    return measure(source, lambda model: {"scores": outputs(model, "tflite")}, lambda _: 0.0, lambda *_: None)


def judged(source: Mixable) -> Any:
    wanted = {"scores": outputs(source.model, "tflite")}
    return lambda made: Measured(noise(wanted, {"scores": outputs(made.model, "tflite")}), len(made.model))


def test_only_the_layer_that_needs_it_stays_float(source: Mixable, sensitivity: Sensitivity) -> None:
    mixed = mix(source, options_of(sensitivity, ("int8", "float32")), Limits(10**-2.0), judged(source))
    wide = [layer.kind for layer in source.layers if mixed.chosen[layer.name] == "float32"]
    assert wide == ["DEPTHWISE_CONV_2D"]
    assert mixed.measured.noise <= 10**-2.0
    labels = spots(100, 9)[1]
    plain = source.build({layer.name: "int8" for layer in source.layers}).model
    right = {
        name: np.mean(outputs(model, "tflite").argmax(1) == labels)
        for name, model in (("float32", source.model), ("int8", plain), ("mixed", mixed.model.model))
    }
    assert right["mixed"] >= right["float32"] - 0.02 > right["int8"] + 0.1
    assert len(plain) < len(mixed.model.model) < 0.75 * len(source.model)


def test_a_budget_is_kept_by_the_file_and_spent_on_the_least_noise(source: Mixable, sensitivity: Sensitivity) -> None:
    options = options_of(sensitivity, ("int8", "float32"))
    judge = judged(source)
    smallest = judge(source.build({layer.name: "int8" for layer in source.layers}))
    noises = []
    for extra in (0, 600, 2000, 10_000):
        limits = Limits(1e-9, smallest.size_bytes + extra)
        mixed = mix(source, options, limits, judge)
        assert mixed.measured.size_bytes <= limits.size_bytes
        noises.append(mixed.measured.noise)
    assert noises == sorted(noises, reverse=True)
    assert noises[0] == smallest.noise > 100 * noises[1]


def test_a_budget_that_nothing_fits_names_the_smallest(source: Mixable, sensitivity: Sensitivity) -> None:
    judge = judged(source)
    smallest = judge(source.build({layer.name: "int8" for layer in source.layers})).size_bytes
    with pytest.raises(CheckFailed, match=f"smallest model.*has {smallest:,} bytes; max_size is {smallest - 1:,}"):
        mix(source, options_of(sensitivity, PRECISIONS), Limits(0.01, smallest - 1), judge)


def test_a_time_that_the_estimate_misses_is_tightened(source: Mixable, sensitivity: Sensitivity) -> None:
    """Float layers are told to take 1 ms and take 2: what was measured counts."""
    options = options_of(sensitivity, ("int8", "float32"), lambda _, p: 1.0 if p == "float32" else 0.5)
    judge = judged(source)

    def slow(made: Any) -> Measured:
        seen = judge(made)
        return Measured(seen.noise, seen.size_bytes, 2.5 + 1.5 * made_float(made.model))

    mixed = mix(source, options, Limits(1e-9, time_ms=6.0), slow)
    assert mixed.measured.time_ms <= 6.0
    assert list(mixed.chosen.values()).count("float32") in (1, 2)
    with pytest.raises(CheckFailed, match=r"the fastest model takes 2\.5 ms, max_time is 2 ms"):
        mix(source, options, Limits(1e-9, time_ms=2.0), slow)


def made_float(model: bytes) -> int:
    from compress.quantize.litert_model import stored_as

    return sum(stored_as(model, "float32").values())


def test_a_limit_that_only_float_meets_is_refused(source: Mixable, sensitivity: Sensitivity) -> None:
    with pytest.raises(CheckFailed, match="no layer can be narrower than float32 at an SQNR of 200 dB"):
        mix(source, options_of(sensitivity, PRECISIONS), Limits(10**-20.0), judged(source))
