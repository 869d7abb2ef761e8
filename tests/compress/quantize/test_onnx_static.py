"""Static QDQ of ONNX: three ways to calibrate, 16 bits, flat memory, and the samples that do not fit."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

from compress.quantize.onnx_model import count_ops, preprocess, read_model
from compress.quantize.onnx_static import collect_ranges, observe, quantize_static, quantize_static_each
from edge.errors import BadData
from tests import models
from tests.compress.quantize.conftest import outputs, rss_bytes, sqnr_db


def test_int8_by_every_method_from_one_pass(onnx: bytes, calibration: Any) -> None:
    made = quantize_static_each(onnx, calibration)
    wanted = outputs(onnx, "onnx")
    for method, result in made.items():
        got = outputs(result.model, "onnx")
        assert np.mean(wanted.argmax(1) == got.argmax(1)) > 0.95, method
        assert sqnr_db(wanted, got) > (25 if method == "minmax" else 10), method
        assert count_ops(result.model).floating == 0
    assert quantize_static(onnx, calibration, "percentile").model == made["percentile"].model


def test_weights_are_int8_per_channel_and_activations_uint8(onnx: bytes, calibration: Any) -> None:
    from onnx import TensorProto

    model = read_model(quantize_static(onnx, calibration).model)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    weights = [t for t in constants.values() if t.data_type == TensorProto.INT8 and len(t.dims) >= 2]
    assert len(weights) == 5
    per_channel = [
        n
        for n in model.graph.node
        if n.op_type == "DequantizeLinear" and n.input[0] in {t.name for t in weights} and constants[n.input[1]].dims
    ]
    assert len(per_channel) >= 3  # the convolutions
    points = [n.input[2] for n in model.graph.node if n.op_type == "QuantizeLinear"]
    assert {constants[name].data_type for name in points} == {TensorProto.UINT8}


def test_one_scale_a_kernel_makes_a_smaller_file(onnx: bytes, calibration: Any) -> None:
    wide = quantize_static_each(onnx, calibration, ("minmax",))["minmax"].model
    narrow = quantize_static_each(onnx, calibration, ("minmax",), per_channel=False)["minmax"].model
    assert len(narrow) < len(wide)
    assert sqnr_db(outputs(onnx, "onnx"), outputs(narrow, "onnx")) > 15
    constants = {tensor.name: tensor for tensor in read_model(narrow).graph.initializer}
    scales = [n.input[1] for n in read_model(narrow).graph.node if n.op_type == "DequantizeLinear"]
    assert all(np.prod(constants[name].dims, dtype=int) == 1 for name in scales)


def test_a_reduced_range_leaves_weights_seven_bits(onnx: bytes, calibration: Any) -> None:
    seen = observe(onnx, calibration, with_histogram=False)
    largest = []
    for reduced in (False, True):
        model = seen.quantized("minmax", reduce_range=reduced).model
        stored = [numpy_helper.to_array(t) for t in read_model(model).graph.initializer if len(t.dims) >= 2]
        largest.append(max(int(np.abs(values.astype(int)).max()) for values in stored))
        assert sqnr_db(outputs(onnx, "onnx"), outputs(model, "onnx")) > 20
    assert largest == [127, 64]


def test_int16x8_is_better_than_int8(onnx: bytes, calibration: Any) -> None:
    wanted = outputs(onnx, "onnx")
    wide = quantize_static(onnx, calibration, precision="int16x8")
    narrow = quantize_static(onnx, calibration)
    assert sqnr_db(wanted, outputs(wide.model, "onnx")) > sqnr_db(wanted, outputs(narrow.model, "onnx"))


def test_an_operation_without_a_rule_stays_float_and_is_named() -> None:
    result = quantize_static(models.onnx_unusual_op().read_bytes(), lambda: iter([{"x": np.eye(3, dtype="f")[None]}]))
    assert [entry.what for entry in result.skipped] == ["1 x Det"]


def test_memory_stays_flat(onnx: bytes) -> None:
    """4,000 samples pass through; kept, their activations alone would be 4,000 x 10 kB = 40 MB."""
    after_first: list[int] = []

    def samples() -> Iterator[dict[str, Any]]:
        image = np.ones((1, 16, 16, 1), np.float32)
        for i in range(4000):
            if i == 100:
                after_first.append(rss_bytes())
            yield {"image": image * (i % 7)}

    collect_ranges(preprocess(read_model(onnx)), samples, with_histogram=True)
    assert rss_bytes() - after_first[0] < 8_000_000


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({"picture": np.zeros((1, 16, 16, 1))}, "sample 1 lacks input 'image'"),
        ({"image": np.zeros((16, 16, 1))}, r"is \[16, 16, 1\], not \[1, 16, 16, 1\]"),
        ({"image": np.full((1, 16, 16, 1), np.nan)}, "NaN or infinite"),
        (None, "no calibration sample"),
    ],
)
def test_samples_that_do_not_fit(onnx: bytes, sample: Any, message: str) -> None:
    with pytest.raises(BadData, match=message):
        quantize_static(onnx, lambda: iter([sample] if sample else []))
