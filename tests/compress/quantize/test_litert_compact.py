"""Smaller files that compute exactly the same."""

import struct
from typing import Any

import numpy as np

from compress.quantize.litert_compact import compact, write_model
from compress.quantize.litert_model import read_model
from tests import models
from tests.compress.quantize.conftest import outputs


def _data_positions(model: bytes) -> list[int]:
    """Where each buffer's data begins in the file, by walking the flatbuffer itself."""
    from ai_edge_litert import schema_py_generated as schema

    root = schema.Model.GetRootAs(model, 0)
    positions = []
    for i in range(root.BuffersLength()):
        buffer = root.Buffers(i)
        if buffer.DataLength():
            field = buffer._tab.Offset(4)
            start = buffer._tab.Vector(field)
            assert struct.unpack_from("<I", model, start - 4)[0] == buffer.DataLength()
            positions.append(start)
    return positions


def test_an_int8_model_shrinks_and_answers_bit_by_bit_the_same(network: Any, calibration: Any) -> None:
    from convert.to_litert import to_litert

    model = to_litert(network, "int8", calibration)
    small = compact(model)
    assert len(small) < 0.95 * len(model)
    assert np.array_equal(outputs(small, "tflite"), outputs(model, "tflite"))
    assert all(position % 16 == 0 for position in _data_positions(small))
    assert compact(small) == small


def test_a_model_that_cannot_shrink_is_returned_as_it_is() -> None:
    small = compact(models.litert_float().read_bytes())
    assert compact(small) is small


def test_writing_keeps_every_field_of_the_model() -> None:
    before = read_model(models.litert_int8().read_bytes())
    after = read_model(write_model(before))

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return value.tolist()
        if isinstance(value, list):
            return [plain(item) for item in value]
        return {k: plain(v) for k, v in vars(value).items()} if hasattr(value, "__dict__") else value

    assert plain(after) == plain(before)


def test_what_says_nothing_is_left_out_and_the_ends_keep_their_names(litert: bytes) -> None:
    before, after = read_model(litert), read_model(compact(litert))
    (old,), (new,) = before.subgraphs, after.subgraphs
    assert [old.tensors[i].name for i in (*old.inputs, *old.outputs)] == [
        new.tensors[i].name for i in (*new.inputs, *new.outputs)
    ]
    inner = [t.name for i, t in enumerate(new.tensors) if i not in (*new.inputs, *new.outputs)]
    assert any(b";" in tensor.name for tensor in old.tensors)
    assert len(set(inner)) == len(inner)
    assert all(t.quantization is None for t in new.tensors)
    assert {t.buffer for t in new.tensors} | {0} | {m.buffer for m in after.metadata or ()} == set(
        range(len(after.buffers))
    )
    assert np.array_equal(outputs(compact(litert), "tflite"), outputs(litert, "tflite"))


def test_a_compact_model_can_be_quantized(litert: bytes, calibration: Any) -> None:
    from compress.quantize.litert_dynamic import quantize_dynamic
    from compress.quantize.litert_int4 import quantize_int4
    from compress.quantize.litert_static import quantize_static

    small = compact(litert)
    made = [quantize_dynamic(small), quantize_int4(small, convolutions=True), quantize_static(small, calibration)]
    before = [quantize_dynamic(litert), quantize_int4(litert, convolutions=True), quantize_static(litert, calibration)]
    for one, other in zip(made, before, strict=True):
        assert np.array_equal(outputs(one.model, "tflite"), outputs(other.model, "tflite"))
