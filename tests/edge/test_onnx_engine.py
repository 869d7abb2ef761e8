"""The CPU path of the ONNX Runtime engine: nothing is copied on the way in, nothing is left on the Python side."""

import importlib.util
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from edge.engines import open_engine
from edge.engines.feeds import fixed

DATA = Path(__file__).parent / "data"
pytestmark = pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="ONNX Runtime is not installed")


def resident_bytes(field):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    pytest.skip(f"this system does not tell {field}")


def test_64_mb_of_input_are_read_where_they_lie():
    engine = open_engine(DATA / "tiny_wide.onnx", "onnx")
    view = engine.views()["x"]
    view[:] = 1
    view[0, 12345] = 9
    engine.run({"x": view})
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again here
    except OSError:
        pytest.skip("this system does not let a process reset its peak memory")
    before = resident_bytes("VmHWM")
    assert engine.run({"x": view})["largest"] == [[9]]
    # a copy would be 67 MB
    assert resident_bytes("VmHWM") - before < 8e6


def test_views_are_the_same_arrays_every_time():
    engine = open_engine(DATA / "tiny_state.onnx", "onnx")
    views = engine.views()
    assert {name: (a.shape, a.dtype) for name, a in views.items()} == {
        "sound": ((1, 4), np.float32),
        "state": ((1, 4), np.float32),
    }
    assert engine.views()["sound"] is views["sound"]
    views["sound"][:] = 3
    assert engine.run(views)["loudness"] == [[12]]


def test_a_quantized_run_leaves_nothing_behind_but_its_outputs():
    engine = open_engine(DATA / "tiny_uint8.onnx", "onnx")
    image = np.random.default_rng(3).integers(0, 256, (1, 1, 8, 8), np.uint8)
    assert engine.run({"image": image})["map"].dtype == np.uint8
    feeds = {"image": image}
    for _ in range(100):
        engine.run(feeds)
    tracemalloc.start()
    try:
        engine.run(feeds)
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        outputs = engine.run(feeds)
        held = tracemalloc.get_traced_memory()[0] - before
        del outputs
        for _ in range(1000):
            engine.run(feeds)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 8000  # 8 bytes a call: no object is that small; these are caches of the interpreter
    # one output of 64 bytes, its array and the dictionary: far less than the 256 bytes more that a float image takes
    assert held < 700
    assert peak - before < 10_000


def test_a_dynamic_batch_is_one_and_reset_forgets_nothing():
    engine = open_engine(DATA / "tiny_det.onnx", "onnx")
    assert engine.inputs[0].shape == (1, 3, 3)
    feeds = fixed(engine.inputs)
    first = engine.run(feeds)["determinant"]
    engine.reset()
    np.testing.assert_array_equal(engine.run(feeds)["determinant"], first)
