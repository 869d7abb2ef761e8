import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edge.audio import AudioInput
from edge.errors import EdgetoolError
from edge.image import ImageInput
from edge.preprocess import ArrayInput
from edge.table import TableInput
from edgetool.serve.payload import Payload, raw_example
from edgetool.serve.refusal import Refusal
from tests.edgetool.serve.test_predict import pgm, wav

STEPS = {
    "image": ImageInput(4, 4, 1),
    "audio": AudioInput(16000, 100),
    "table": TableInput(("a", "b"), (0.0, 0.0), (1.0, 1.0)),
    "array": ArrayInput(),
    "tokens": ArrayInput(dtype="int64"),
    "flags": ArrayInput(dtype="bool"),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
)


def example(kind, body, content_type="application/json"):
    return raw_example(Payload(content_type, body), {"x": STEPS[kind]})["x"]


@given(st.sampled_from(sorted(STEPS)), JSON)
def test_any_json_is_an_array_of_numbers_or_refused(kind, values):
    try:
        raw = example(kind, json.dumps({"inputs": {"x": values}}).encode())
    except Refusal as found:
        refusal = found
    else:
        assert raw.size > 0
        assert raw.dtype.kind in "biuf"
        assert np.isfinite(raw).all()
        np.testing.assert_allclose(raw.astype(np.float64), np.array(values, np.float64), rtol=1e-6)
        return
    assert refusal.status in {400, 422}
    assert "\n" not in refusal.message


@given(arrays.arrays(np.int64, arrays.array_shapes(max_dims=3, max_side=4)))
def test_whole_numbers_arrive_exactly(values):
    np.testing.assert_array_equal(example("tokens", json.dumps({"inputs": {"x": values.tolist()}}).encode()), values)


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 9223372036854775808.0, 0.5])
def test_numbers_beside_the_range_are_refused(number):
    with pytest.raises(Refusal, match=r"whole numbers|more than 64 bits"):
        example("tokens", json.dumps({"inputs": {"x": [number, 1]}}).encode())


def test_booleans_are_booleans_only():
    body = json.dumps({"inputs": {"x": [True, False]}}).encode()
    assert example("flags", body).tolist() == [True, False]
    for kind in ("array", "table", "image", "audio", "tokens"):
        with pytest.raises(Refusal, match="something else than numbers"):
            example(kind, body)
    with pytest.raises(Refusal, match="true and false"):
        example("flags", b'{"inputs": {"x": [1, 0]}}')


def npy():
    stream = io.BytesIO()
    np.save(stream, np.arange(6.0).reshape(2, 3))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("kind", "content_type", "content"),
    [
        ("array", "application/x-npy", npy()),
        ("image", "image/x-portable-graymap", pgm(np.arange(12, dtype=np.uint8).reshape(3, 4))),
        ("audio", "audio/wav", wav(np.linspace(-1, 1, 50), 44100)),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Python literals that damaged headers hold
def test_damaged_files_are_refused_whatever_byte_is_wrong(kind, content_type, content):
    example(kind, content, content_type)
    rng = np.random.default_rng(0)
    messages = set()
    for _ in range(1500):
        damaged = bytearray(content)
        for position in rng.integers(0, min(len(content), 140), rng.integers(1, 4)):
            damaged[position] = rng.integers(256)
        try:
            example(kind, bytes(damaged[: rng.integers(1, len(content) + 1)]), content_type)
        except (Refusal, EdgetoolError) as error:
            messages.add(error.message)
    assert len(messages) > 5
    assert not any("\n" in message for message in messages)
