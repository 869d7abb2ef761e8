"""Static int8 and int16x8 of a .tflite: accuracy, names, flat memory, and the samples that do not fit."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from compress.quantize.litert_model import count_ops, read_model
from compress.quantize.litert_static import collect_ranges, quantize_static
from edge.engines import open_engine
from edge.errors import BadData, BadModel
from tests.compress.quantize.conftest import outputs, rss_bytes, spots, sqnr_db


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
def test_int8_keeps_decisions_and_names(litert: bytes, calibration: Any, method: Any) -> None:
    result = quantize_static(litert, calibration, method=method)
    engine = open_engine(result.model, "tflite")
    ends = [(spec.name, spec.dtype) for spec in (*engine.inputs, *engine.outputs)]
    assert ends == [("image", "float32"), ("scores", "float32")]
    counts = count_ops(result.model)
    assert counts.floating == 0
    assert result.skipped == ()
    wanted, got = outputs(litert, "tflite"), outputs(result.model, "tflite")
    assert np.mean(wanted.argmax(1) == got.argmax(1)) > 0.95
    assert sqnr_db(wanted, got) > (25 if method == "minmax" else 10)


def test_int16x8_is_better_than_int8_and_integer_ends_are_kept(litert: bytes, calibration: Any) -> None:
    wanted = outputs(litert, "tflite")
    wide = quantize_static(litert, calibration, "int16x8")
    narrow = quantize_static(litert, calibration, io="integer", dense_per_channel=False)
    assert sqnr_db(wanted, outputs(wide.model, "tflite")) > sqnr_db(wanted, outputs(narrow.model, "tflite")) > 20
    engine = open_engine(narrow.model, "tflite")
    assert (engine.inputs[0].dtype, engine.outputs[0].dtype) == ("int8", "int8")


def test_a_channel_with_tiny_weights_and_a_large_bias_survives_int16x8() -> None:
    """Its bias does not fit 32 bits at its scale; litert_quantizer clips it there."""
    import keras

    from convert.to_litert import to_litert

    x = keras.Input((8,), name="x")
    dense = keras.layers.Dense(3, name="y")
    model = keras.Model(x, dense(x))
    kernel = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    kernel[:, 1] *= 1e-7
    dense.set_weights([kernel, np.array([0.0, 5.0, 0.0], np.float32)])
    data = np.random.default_rng(1).normal(size=(50, 1, 8)).astype(np.float32)
    model_bytes = to_litert(model, "float32", None)
    result = quantize_static(model_bytes, lambda: ({"x": row} for row in data), "int16x8")
    engine = open_engine(result.model, "tflite")
    assert abs(float(engine.run({"x": data[0]})["y"][0, 1]) - 5.0) < 0.01


def test_ranges_are_the_exact_extremes_in_any_order(litert: bytes, calibration: Any) -> None:
    forward = collect_ranges(litert, calibration, with_histogram=False)
    backward = collect_ranges(litert, lambda: iter(list(calibration())[::-1]), with_histogram=False)
    assert {k: (v.low, v.high) for k, v in forward.items()} == {k: (v.low, v.high) for k, v in backward.items()}
    images = spots(64, 2)[0]
    (name,) = (n for n in forward if "image" in n)
    assert (forward[name].low, forward[name].high) == (float(images.min()), float(images.max()))


def test_memory_stays_flat(litert: bytes) -> None:
    """4,000 samples pass through; kept, their activations alone would be 4,000 x 10 kB = 40 MB."""
    after_first: list[int] = []

    def samples(n: int) -> Iterator[dict[str, Any]]:
        image = np.ones((1, 16, 16, 1), np.float32)
        for i in range(n):
            if i == 100:
                after_first.append(rss_bytes())
            yield {"image": image * (i % 7)}

    collect_ranges(litert, lambda: samples(4000), with_histogram=True)
    assert rss_bytes() - after_first[0] < 8_000_000


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({"picture": np.zeros((1, 16, 16, 1))}, "sample 1 lacks input 'image'"),
        ({"image": np.zeros((16, 16, 1))}, r"is \[16, 16, 1\], not \[1, 16, 16, 1\]"),
        ({"image": np.full((1, 16, 16, 1), np.inf)}, "NaN or infinite"),
        (None, "no calibration sample"),
    ],
)
def test_samples_that_do_not_fit(litert: bytes, sample: Any, message: str) -> None:
    with pytest.raises(BadData, match=message):
        quantize_static(litert, lambda: iter([sample] if sample else []))


def test_a_loop_is_refused_before_anything_runs(calibration: Any) -> None:
    import keras

    from convert.to_litert import to_litert

    sequence = keras.Input((5, 4), name="sequence")
    model = to_litert(keras.Model(sequence, keras.layers.GRU(3)(sequence)), "float32", None)
    assert len(read_model(model).subgraphs) > 1
    with pytest.raises(BadModel, match="WHILE cannot be quantized to int8") as error:
        quantize_static(model, calibration)
    assert error.value.hint is not None
    assert "unroll" in error.value.hint
