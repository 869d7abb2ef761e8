"""LiteRT's engine: memory that is shared, state that is kept, and signatures."""

import gc
import importlib.util
import shutil
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from edge.engines import open_engine
from edge.engines.feeds import fixed
from edge.engines.litert import interpreter_class
from edge.engines.litert_signature import main_subgraph
from edge.errors import BadData, BadModel, BadRecipe, UnknownName

DATA = Path(__file__).parent / "data"
HAS_LITERT = any(importlib.util.find_spec(name) for name in ("ai_edge_litert", "tflite_runtime"))
pytestmark = pytest.mark.skipif(not HAS_LITERT, reason="LiteRT is not installed")


@pytest.mark.parametrize("file", ["tiny.tflite", "tiny_int8.tflite", "tiny_fallback.tflite"])
def test_views_are_the_interpreters_memory_and_give_what_a_copy_gives(file):
    engine, other = open_engine(DATA / file, "tflite"), open_engine(DATA / file, "tflite")
    views = engine.views()
    assert views is engine.views()
    for seed in range(3):
        feeds = fixed(other.inputs, seed)
        for name, values in feeds.items():
            views[name][...] = values
        expected = other.run(feeds)
        for _ in range(2):  # a second run on the same memory: nothing has written into it
            for name, values in engine.run(views).items():
                np.testing.assert_array_equal(values, expected[name])
        for view in views.values():
            assert not view.flags.owndata


def test_a_copy_after_a_view_and_a_view_after_a_copy():
    engine = open_engine(DATA / "tiny.tflite", "tflite")
    image = fixed(engine.inputs)
    by_copy = engine.run(image)["scores"]
    view = engine.views()["image"]
    view[...] = image["image"]
    np.testing.assert_array_equal(engine.run({"image": view})["scores"], by_copy)
    other = image["image"][:, ::-1].copy()
    differently = engine.run({"image": other})["scores"]
    assert np.abs(differently - by_copy).max() > 1e-4
    np.testing.assert_array_equal(view, other)  # what was copied in is what the view shows
    part = {"image": view[:]}  # not the view itself: copied onto itself, which changes nothing
    np.testing.assert_array_equal(engine.run(part)["scores"], differently)


def test_a_view_outlives_the_engine():
    engine = open_engine((DATA / "tiny.tflite").read_bytes(), "tflite")
    view = engine.views()["image"]
    part = view[0, 2]
    view[...] = 7
    engine.close()
    del engine, view
    gc.collect()
    others = [open_engine(DATA / "tiny.tflite", "tflite") for _ in range(20)]  # would take the memory if it were free
    for other in others:
        other.run(fixed(other.inputs))
    assert (part == 7).all()
    part[...] = 1


def test_lengths_are_fixed_while_views_are_given_out():
    engine = open_engine(DATA / "tiny_positions.tflite", "tflite")
    assert engine.run({"x": np.array([[1, -1, 2]], np.float32)})["where"].tolist() == [[0, 0], [0, 2]]
    view = engine.views()["x"]
    with pytest.raises(BadData, match=r"views of the inputs are given out \(x \[1, 3\]\): their lengths are fixed"):
        engine.run({"x": np.ones((1, 2), np.float32)})
    view[...] = [[0, 1, 0]]
    assert engine.run({"x": view})["where"].tolist() == [[0, 1]]


def test_memory_that_may_move_in_a_run_is_not_given_out():
    for file in ("tiny_positions.tflite", "tiny_running.tflite"):
        engine = open_engine(DATA / file, "tflite")
        assert engine.views()["x"].flags.owndata


def test_a_quantized_run_allocates_its_outputs_and_nothing_else():
    engine = open_engine(DATA / "tiny_int8.tflite", "tflite")
    views = engine.views()
    feeds = fixed(engine.inputs)
    for given in (feeds, views):
        for _ in range(50):
            engine.run(given)
        gc.collect()
        gc.disable()
        tracemalloc.start()
        try:
            for _ in range(3):  # the first under tracing also counts what Python keeps for the calls to come
                tracemalloc.reset_peak()
                before, _ = tracemalloc.get_traced_memory()
                outputs = engine.run(given)
                _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            gc.enable()
        assert outputs["scores"].dtype == np.int8
        # 64 bytes for the two integers that tracemalloc itself gives; a float copy of the input would have 256
        owned = sys.getsizeof(outputs) + sum(sys.getsizeof(values) for values in outputs.values())
        assert peak - before <= owned + 64


def test_a_model_keeps_its_state_until_it_is_reset(tmp_path):
    path = tmp_path / "running.tflite"
    shutil.copy(DATA / "tiny_running.tflite", path)
    start = np.array([[1, 2, 3, 4]], np.float32)
    x = np.full((1, 4), 0.5, np.float32)
    engine = open_engine(path, "tflite")
    path.unlink()
    path.write_bytes(b"another model by now")
    for _ in range(2):
        for calls in range(1, 4):
            np.testing.assert_array_equal(engine.run({"x": x})["total"], 2 * (start + calls * x))
        engine.reset()
    engine.reset()
    view = engine.views()["x"]
    view[...] = x
    np.testing.assert_array_equal(engine.run({"x": view})["total"], 2 * (start + x))
    engine.reset()
    np.testing.assert_array_equal(engine.run({"x": view})["total"], 2 * (start + x))
    assert engine.placement().ops_total == 7


def test_the_runtimes_own_reset_does_not_reach_these_variables():
    """Why `reset` opens the interpreter anew. If this fails one day, it need not any more."""
    interpreter = interpreter_class()(str(DATA / "tiny_running.tflite"))
    interpreter.allocate_tensors()
    (fed,), (read,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(fed["index"], np.ones((1, 4), np.float32))
    interpreter.invoke()
    interpreter.reset_all_variables()
    interpreter.invoke()
    assert interpreter.get_tensor(read["index"])[0, 0] == 6


def test_signatures_are_opened_by_name():
    encode = open_engine(DATA / "tiny_coder.tflite", "tflite", signature="encode")
    decode = open_engine((DATA / "tiny_coder.tflite").read_bytes(), "tflite", signature="decode")
    assert encode.signatures == decode.signatures == ("decode", "encode")
    assert [(s.name, s.shape) for s in encode.inputs] == [("x", (1, 4))]
    assert {s.name: s.shape for s in decode.inputs} == {"code": (1, 3), "bias": (1, 3)}
    kernel = np.random.default_rng(20).normal(size=(4, 3)).astype(np.float32)
    x = np.array([[1, -2, 0.5, 3]], np.float32)
    code = encode.run({"x": x})["code"]
    np.testing.assert_allclose(code, np.maximum(x @ kernel, 0), atol=1e-6)
    bias = np.full((1, 3), 0.1, np.float32)
    back = decode.run({"code": code, "bias": bias})
    np.testing.assert_allclose(back["x"], np.tanh((code + bias) @ kernel.T), atol=1e-6)
    assert back["best"].tolist() == [code.argmax()]
    at = encode.placement()
    assert (at.ops_offloaded, at.ops_total) == (1, 1)  # FULLY_CONNECTED with its RELU
    assert [one.op for one in decode.placement().fallback_ops] == ["ARG_MAX"]


def test_the_main_graph_is_opened_where_no_signature_is_named():
    assert {s.name for s in open_engine(DATA / "tiny_coder.tflite", "tflite").inputs} == {"code", "bias"}


def test_a_signature_that_is_not_there():
    with pytest.raises(UnknownName, match=r"unknown signature of tiny_coder\.tflite: 'encod'") as caught:
        open_engine(DATA / "tiny_coder.tflite", "tflite", signature="encod")
    assert "encode" in caught.value.hint
    with pytest.raises(BadModel, match="has 2 subgraphs, not 6"):
        main_subgraph((DATA / "tiny_coder.tflite").read_bytes(), 5)
    with pytest.raises(BadModel, match="the file is damaged"):
        main_subgraph(b"\xff" * 40, 1)
    pytest.importorskip("onnxruntime")
    with pytest.raises(BadRecipe, match="opens a model's main graph only"):
        open_engine(DATA / "tiny.onnx", "onnx", signature="encode")


@pytest.mark.parametrize("word", ["okay_nabu", "alexa"])
def test_a_real_wake_word_model_streams_and_starts_anew(word):
    package = importlib.util.find_spec("pymicro_wakeword")
    if package is None:
        pytest.skip("pymicro-wakeword, which brings the models, is not installed")
    path = Path(package.origin).parent / "models" / f"{word}.tflite"
    engine = open_engine(path, "tflite")
    spec = engine.inputs[0]
    features = np.random.default_rng(5).integers(-128, 128, (40, *spec.shape), np.int8, endpoint=False)

    def probabilities():
        return [int(next(iter(engine.run({spec.name: step}).values())).ravel()[0]) for step in features]

    first, onward = probabilities(), probabilities()
    engine.reset()
    assert probabilities() == first
    assert onward[:8] != first[:8] or max(first) == 0
