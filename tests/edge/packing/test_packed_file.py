"""Packed models come back bit for bit; damaged ones are refused in bounded memory."""

import lzma
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from edge.packing import constants, pack, unpack
from edge.packing.packed_file import _LITERALS, _START, MAGIC, _expanded

DATA = Path(__file__).parent.parent / "data"
FILES = ("tiny.tflite", "tiny_int8.tflite", "tiny.onnx")


@pytest.mark.parametrize("file", FILES)
def test_real_models_come_back(file):
    model = (DATA / file).read_bytes()
    packed = pack(model, Path(file).suffix[1:])
    assert unpack(packed, len(model)) == model
    assert len(packed) < len(model)


@pytest.mark.parametrize("file", FILES)
def test_the_constants_of_a_model_are_found(file):
    model = (DATA / file).read_bytes()
    found = constants.find_constants(model, Path(file).suffix[1:])
    assert sum(constant.size for constant in found) > 100
    assert all(c.size % (c.rows * c.item_bytes) == 0 for c in found)
    ends = [c.start + c.size for c in found]
    assert all(end <= following.start for end, following in zip(ends, found[1:], strict=False))


@pytest.mark.parametrize("content", [b"", b"\0" * 1000, bytes(range(256)) * 3, b"no model at all"])
@pytest.mark.parametrize("file_format", ["tflite", "onnx", "fake"])
def test_anything_comes_back(content, file_format):
    assert unpack(pack(content, file_format), 1000) == content


@pytest.fixture
def one_constant(monkeypatch):
    """A file that is all one constant, so that each form of it can be looked at."""

    def install(weights):
        found = constants.Constant(4, weights.nbytes, weights.itemsize, weights.shape[0])
        monkeypatch.setattr("edge.packing.packed_file.find_constants", lambda *_: (found,))
        return b"head" + weights.tobytes() + b"tail"

    return install


def pruned(shape, density, values, seed=0):
    rng = np.random.default_rng(seed)
    weights = rng.choice(values, shape)
    return np.where(rng.random(shape) < density, weights, 0).astype(values.dtype)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("density", [0.0, 0.001, 0.05, 0.5, 1.0])
def test_sparse_and_clustered_weights_come_near_their_entropy(one_constant, dtype, density):
    weights = pruned((200, 300), density, np.array([-3, -1, 2, 5, 8]).astype(dtype))
    model = one_constant(weights)
    packed = pack(model, "tflite")
    assert unpack(packed, 1 << 20) == model
    p = np.count_nonzero(weights) / weights.size
    bits = 0 if p in (0, 1) else -weights.size * (p * np.log2(p) + (1 - p) * np.log2(1 - p))
    ideal = (bits + np.count_nonzero(weights) * np.log2(5)) / 8
    assert len(packed) < 1.02 * ideal + 150  # the head, the tables and the rounding of frequencies


def test_rows_and_columns_of_unequal_density_pay(one_constant):
    rng = np.random.default_rng(0)
    density = np.outer(rng.uniform(0, 1, 300), rng.uniform(0, 0.2, 800) * (np.arange(800) % 3 > 0))
    weights = np.where(rng.random(density.shape) < density, 1, 0).astype(np.int8)
    p = weights.mean()
    model = one_constant(weights)
    packed = pack(model, "tflite")
    assert unpack(packed, 1 << 20) == model
    assert len(packed) < 0.9 * weights.size * -(p * np.log2(p) + (1 - p) * np.log2(1 - p)) / 8


def test_float_weights_lose_their_exponents_redundancy(one_constant):
    model = one_constant(np.random.default_rng(0).normal(0, 0.1, (100, 300)).astype(np.float32))
    packed = pack(model, "tflite")
    assert unpack(packed, 1 << 20) == model
    assert len(packed) < 0.88 * len(model)


def test_pruned_float_weights_that_are_not_clustered(one_constant):
    model = one_constant(pruned((100, 300), 0.05, np.random.default_rng(0).normal(0, 0.1, 9999).astype(np.float32)))
    packed = pack(model, "tflite")
    assert unpack(packed, 1 << 20) == model
    assert len(packed) < 0.06 * len(model)


@pytest.mark.parametrize("file", FILES)
def test_damage_is_an_error_in_one_line_or_harmless(file):
    model = (DATA / file).read_bytes()
    whole = pack(model, Path(file).suffix[1:])
    rng = np.random.default_rng(0)
    found = 0
    for position in rng.integers(0, len(whole), 400):
        content = bytearray(whole)
        content[position] ^= 1 << rng.integers(8)
        try:
            unpack(bytes(content), 1 << 20)
        except ValueError as error:
            found += "\n" not in str(error)
        # else: other weights, which the sha256 of the manifest tells apart
    assert found > 100
    for length in range(0, len(whole), 7):
        with pytest.raises(ValueError, match=r"."):
            unpack(whole[:length], 1 << 20)


@pytest.mark.parametrize("density", [0.001, 0.05, 1.0])
def test_damage_behind_lzma_is_an_error_in_one_line_or_harmless(one_constant, density):
    """The head decides what is decoded: here it is changed and packed again, as an attacker would."""
    model = one_constant(pruned((20, 30), density, np.array([-3, -1, 2, 5, 8], np.float32)))
    whole = pack(model, "tflite")
    magic, size, n_plain, n_packed, n_first = _START.unpack_from(whole)
    body = whole[_START.size :]
    plain = _expanded(body[1:n_packed], body[0], n_plain)
    # A small dictionary, since preparing the default one takes the encoder longer than all the rest.
    lc, lp, pb = _LITERALS[body[0]]
    quick = [{"id": lzma.FILTER_LZMA1, "preset": 0, "dict_size": 1 << 16, "lc": lc, "lp": lp, "pb": pb}]
    rng = np.random.default_rng(0)
    changed = []
    for position in rng.integers(0, n_plain, 60):
        content = bytearray(plain)
        content[position] ^= 1 << rng.integers(8)
        packed = body[:1] + lzma.compress(bytes(content), lzma.FORMAT_RAW, filters=quick)
        changed.append(_START.pack(magic, size, n_plain, len(packed), n_first) + packed + body[n_packed:])
    errors = 0
    tracemalloc.start()
    for content in changed:
        try:
            assert len(unpack(content, 1 << 20)) == size
        except ValueError as error:
            errors += "\n" not in str(error)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert errors > 5
    assert peak < 32 << 20


def test_a_small_file_cannot_claim_much_memory():
    model = (DATA / "tiny.tflite").read_bytes()
    whole = pack(model, "tflite")
    rng = np.random.default_rng(1)
    tracemalloc.start()
    for size in (1 << 16, 1 << 24, 0xFFFFFFFF):
        for place in (4, 8, 12, 16):
            content = bytearray(whole)
            content[place : place + 4] = size.to_bytes(4, "little")
            with pytest.raises(ValueError, match=r"."):
                unpack(bytes(content), 1 << 20)
    for _ in range(200):
        with pytest.raises(ValueError, match=r"."):
            unpack(MAGIC + rng.bytes(400), 1 << 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 32 << 20


def test_a_model_larger_than_allowed_is_refused():
    packed = pack(bytes(100_000), "tflite")
    with pytest.raises(ValueError, match="above 99999"):
        unpack(packed, 99_999)
