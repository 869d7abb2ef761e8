import io
import json
import struct

import numpy as np
import pytest

from edge import frames
from edge.errors import BadData, EnvironmentFailed
from edge.frames import MAX_ARRAYS_BYTES, MAX_HEADER_BYTES, PREFIX, Frame


def written(frame: Frame) -> bytes:
    stream = io.BytesIO()
    frames.write(stream, frame)
    return stream.getvalue()


class Trickle:
    """A stream that gives a few bytes at a time, as pipes and sockets do."""

    def __init__(self, content: bytes, piece: int) -> None:
        self.stream, self.piece = io.BytesIO(content), piece

    def read(self, size: int) -> bytes:
        return self.stream.read(min(size, self.piece))


@pytest.mark.parametrize("dtype", sorted(frames.DTYPES))
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4), (1, 0, 2)])
def test_arrays_come_back_as_they_were(dtype, shape):
    values = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    back = frames.read(io.BytesIO(written(Frame({"op": "x"}, {"a": values}))))
    assert back.message == {"op": "x"}
    assert (back.arrays["a"].dtype, back.arrays["a"].shape) == (values.dtype, shape)
    np.testing.assert_array_equal(back.arrays["a"], values)
    assert back.arrays["a"].flags.writeable


@pytest.mark.parametrize("seed", range(20))
def test_random_frames_survive_any_piece_size(seed):
    rng = np.random.default_rng(seed)
    sent = [
        Frame(
            {"n": i, "text": "Füße\n" * i, "nested": {"list": [1, None, 2.5, True]}},
            {f"a{k}": rng.normal(size=rng.integers(0, 5, rng.integers(0, 4))) for k in range(i)},
        )
        for i in range(4)
    ]
    stream = Trickle(b"".join(map(written, sent)), int(rng.integers(1, 50)))
    for frame in sent:
        back = frames.read(stream)
        assert back.message == frame.message
        assert list(back.arrays) == list(frame.arrays)
        for name, values in frame.arrays.items():
            np.testing.assert_array_equal(back.arrays[name], values)
    assert frames.read(stream) is None


def test_foreign_byte_order_and_memory_order_are_put_right():
    values = np.arange(12, dtype=">i4").reshape(3, 4).T
    back = frames.read(io.BytesIO(written(Frame({}, {"a": values})))).arrays["a"]
    np.testing.assert_array_equal(back, values)
    assert back.dtype == np.dtype("=i4")
    assert written(Frame({}, {"a": values})).endswith(np.ascontiguousarray(values, "<i4").tobytes())


def test_every_truncation_is_told_from_an_end():
    content = written(Frame({"op": "load"}, {"a": np.arange(5.0), "b": np.arange(3)}))
    assert frames.read(io.BytesIO(b"")) is None
    for cut in range(1, len(content)):
        with pytest.raises(EnvironmentFailed, match="truncated frame"):
            frames.read(io.BytesIO(content[:cut]))


def test_what_is_no_frame_is_shown():
    with pytest.raises(EnvironmentFailed, match="no frame: it begins with b'Traceback"):
        frames.read(io.BytesIO(b"Traceback (most recent call last)"))


@pytest.mark.parametrize("sizes", [(MAX_HEADER_BYTES + 1, 0), (10, MAX_ARRAYS_BYTES + 1), (10, 2**64 - 1)])
def test_an_announced_size_above_the_limit_is_refused_before_it_is_read(sizes):
    with pytest.raises(EnvironmentFailed, match="above the limit"):
        frames.read(io.BytesIO(PREFIX.pack(b"EDF1", *sizes)))


def test_a_frame_too_large_to_send_is_bad_data():
    with pytest.raises(BadData, match="above the limit"):
        frames.write(io.BytesIO(), Frame({"text": "x" * MAX_HEADER_BYTES}))
    huge = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (2, MAX_HEADER_BYTES), (0, 0))
    stream = io.BytesIO()
    frames.write(stream, Frame({}, {"a": huge}))
    assert len(stream.getvalue()) > 2 * MAX_HEADER_BYTES


def test_no_object_is_ever_packed():
    for values in (np.array([{}]), np.array(["text"]), np.array([1 + 2j]), np.zeros(1, [("a", "i4")])):
        with pytest.raises(BadData, match="which no frame carries"):
            frames.write(io.BytesIO(), Frame({}, {"a": values}))


def raw(header: object, arrays: bytes = b"") -> io.BytesIO:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return io.BytesIO(struct.pack("<4sIQ", b"EDF1", len(text), len(arrays)) + text + arrays)


@pytest.mark.parametrize(
    "header",
    [
        b"\xff\xfe",
        b"[" * 100_000,
        [],
        {"message": {}},
        {"message": 3, "arrays": []},
        {"message": {}, "arrays": [{"name": "a", "dtype": "object", "shape": [1]}]},
        {"message": {}, "arrays": [{"name": "a", "dtype": "float32", "shape": [-1]}]},
        {"message": {}, "arrays": [{"name": "a", "dtype": "float32", "shape": [1]}]},
        {"message": {}, "arrays": [{"name": "a", "dtype": "uint8", "shape": ["x"]}]},
        {"message": {}, "arrays": [{"dtype": "uint8", "shape": [4]}]},
        {"message": {}, "arrays": 5},
    ],
)
def test_a_damaged_header_is_one_clear_error(header):
    with pytest.raises(EnvironmentFailed, match="damaged frame"):
        frames.read(raw(header, b"12"))
