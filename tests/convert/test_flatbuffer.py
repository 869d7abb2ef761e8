"""Damaged .tflite files end in an error of ours, never in the runtime."""

import numpy as np
import pytest

from convert.flatbuffer import parse_flatbuffer, read_flatbuffer, signature_specs
from edge.errors import BadModel
from edge.tensors import Quantization
from tests import models


def test_specs_carry_signature_names_shapes_and_quantization() -> None:
    inputs, outputs = signature_specs(read_flatbuffer(models.litert_int8()))
    assert [spec.name for spec in inputs] == ["image"]
    assert [spec.name for spec in outputs] == ["scores"]
    assert inputs[0].shape == (1, 8, 8, 1)
    assert inputs[0].dtype == "int8"
    assert isinstance(inputs[0].quantization, Quantization)
    dynamic, _ = signature_specs(read_flatbuffer(models.litert_dynamic_batch()))
    assert dynamic[0].shape == (None, 8, 8, 1)


def test_truncation_anywhere_is_an_error() -> None:
    data = models.litert_float().read_bytes()
    for length in np.linspace(0, len(data) - 1, 40).astype(int):
        with pytest.raises(BadModel) as error:
            parse_flatbuffer(data[:length], "cut.tflite")
        assert "cut.tflite" in error.value.message
        assert error.value.hint


def test_flipped_bits_never_raise_anything_but_bad_model() -> None:
    data = models.litert_float().read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(data)
        for position in rng.integers(0, len(data), 20):
            damaged[position] ^= 1 << int(rng.integers(8))
        try:
            signature_specs(parse_flatbuffer(bytes(damaged)))
        except BadModel:
            refused += 1
    assert refused > 100  # bits of weights cannot be told from other weights; those of the structure can


def test_a_nan_among_the_weights_is_found() -> None:
    data = bytearray(models.litert_float().read_bytes())
    model = parse_flatbuffer(bytes(data))
    weights = next(b.data for b in model.buffers if b.data is not None and len(b.data) >= 64)
    start = bytes(data).index(weights.tobytes())
    data[start : start + 4] = np.float32(np.nan).tobytes()
    with pytest.raises(BadModel, match="NaN"):
        parse_flatbuffer(bytes(data))
