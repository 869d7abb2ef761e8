"""TFLite Micro: the microcontroller's kernels, and the memory they need."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from edge.engines import open_engine
from edge.engines.feeds import fixed
from edge.errors import BadData, BadModel, BadRecipe

DATA = Path(__file__).parent / "data"
pytestmark = pytest.mark.skipif(importlib.util.find_spec("tflite_micro") is None, reason="tflite-micro is missing")
litert = pytest.mark.skipif(importlib.util.find_spec("ai_edge_litert") is None, reason="ai-edge-litert is missing")


def micro(file, **settings):
    return open_engine(DATA / file, "tflite", delegate="micro", settings={k: str(v) for k, v in settings.items()})


@litert
@pytest.mark.parametrize(
    ("file", "limit"),
    # float32 sums of up to 36 terms of size 1; int8: one step, the reference kernels round otherwise than XNNPACK
    [("tiny.tflite", 1e-6), ("tiny_int8.tflite", 1)],
)
def test_it_says_what_the_cpu_says(file, limit):
    engine, cpu = micro(file), open_engine(DATA / file, "tflite")
    assert (engine.inputs, engine.outputs) == (cpu.inputs, cpu.outputs)
    for seed in range(5):
        feeds = fixed(cpu.inputs, seed)
        got = engine.run(feeds)["scores"]
        kept = got.copy()
        assert np.abs(got.astype(float) - cpu.run(feeds)["scores"]).max() <= limit
        strided = np.asfortranarray(np.repeat(feeds["image"], 2, axis=1))[:, ::2]
        np.testing.assert_array_equal(engine.run({"image": strided})["scores"], kept)
        engine.run({"image": np.zeros_like(feeds["image"])})
        np.testing.assert_array_equal(got, kept)  # the caller owns it


def test_the_arena_is_the_smallest_that_works():
    engine = micro("tiny_int8.tflite")
    assert engine.arena_bytes % 16 == 0
    assert 512 < engine.arena_bytes < 4096
    at = engine.placement()
    assert (at.ops_offloaded, at.ops_total) == (5, 5)
    assert at.emulated_by == "TFLite Micro on this processor: its time is not a microcontroller's"
    assert at.device == f"an arena of {engine.arena_bytes} bytes"
    larger = micro("tiny_int8.tflite", arena_bytes=engine.arena_bytes + 4096)
    feeds = fixed(engine.inputs)
    np.testing.assert_array_equal(larger.run(feeds)["scores"], engine.run(feeds)["scores"])
    with pytest.raises(BadModel, match=rf"needs an arena of {engine.arena_bytes} bytes, arena_bytes is 512"):
        micro("tiny_int8.tflite", arena_bytes=512)
    with pytest.raises(BadRecipe, match="arena_bytes is -1, below 0"):
        micro("tiny_int8.tflite", arena_bytes=-1)


def test_state_is_kept_and_forgotten():
    engine = micro("tiny_running.tflite")  # an arena a little too small would end the process here
    x = np.full((1, 4), 0.5, np.float32)
    start = np.array([[1, 2, 3, 4]], np.float32)
    for _ in range(2):
        for calls in range(1, 4):
            np.testing.assert_array_equal(engine.run({"x": x})["total"], 2 * (start + calls * x))
        engine.reset()


def test_what_it_does_not_take_is_named():
    with pytest.raises(BadModel, match=r"TFLite Micro has no operation WHERE, which tiny_positions\.tflite uses"):
        micro("tiny_positions.tflite")
    with pytest.raises(BadModel, match="TFLite Micro cannot read the model"):
        open_engine(b"no model at all" * 9, "tflite", delegate="micro")
    engine = micro("tiny.tflite")
    with pytest.raises(BadData, match="takes float32, got float64"):
        engine.run({"image": np.zeros((1, 8, 8, 1))})


@litert
@pytest.mark.shared_data
def test_trained_models_of_mlperf_tiny(shared_data):
    """Arenas that MLPerf Tiny's own boards could hold, and answers within a step of LiteRT's own kernels.

    TFLite Micro has some of LiteRT's reference kernels and some of its optimized ones. XNNPACK rounds otherwise than
    both: by a step of a layer, of which a softmax can make many.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    folder = shared_data / "models" / "mlperf_tiny"
    for file, kilobytes in (
        ("keyword_spotting/kws_ref_model.tflite", 24),
        ("anomaly_detection/ad01_int8.tflite", 5),
        ("visual_wake_words/vww_96_int8.tflite", 101),
        ("image_classification/pretrainedResnet_quant.tflite", 55),
    ):
        engine = open_engine(folder / file, "tflite", delegate="micro")
        assert round(engine.arena_bytes / 1024) in range(kilobytes - 1, kilobytes + 2)
        feeds = fixed(engine.inputs)
        got = engine.run(feeds)[engine.outputs[0].name].astype(int)
        steps = []
        for kernels in (OpResolverType.BUILTIN_REF, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES):
            plain = Interpreter(str(folder / file), experimental_op_resolver_type=kernels)
            plain.allocate_tensors()
            plain.set_tensor(plain.get_input_details()[0]["index"], feeds[engine.inputs[0].name])
            plain.invoke()
            steps.append(np.abs(got - plain.get_tensor(plain.get_output_details()[0]["index"])).max())
        assert min(steps) <= 1, (file, steps)
