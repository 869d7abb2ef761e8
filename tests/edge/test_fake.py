import time

import numpy as np
import pytest

from edge.engines import open_engine, predict
from edge.engines.fake import FakeModel
from edge.engines.feeds import fixed
from edge.errors import BadData, BadModel, UnknownName
from edge.tensors import Quantization, TensorSpec


def test_outputs_depend_on_the_inputs_and_on_nothing_else():
    content = FakeModel().to_bytes()
    x = np.array([[1.0, 2.0, 0.5, 0.25]], np.float32)
    engine = open_engine(content, "fake")
    expected = np.cos(3.75 + np.arange(3))
    np.testing.assert_allclose(engine.run({"input": x})["output"][0], expected, atol=1e-6)
    np.testing.assert_array_equal(
        engine.run({"input": x})["output"], open_engine(content, "fake").run({"input": x})["output"]
    )
    assert not np.allclose(engine.run({"input": x + 1})["output"][0], expected)


def test_quantized_ends_are_within_half_a_step():
    inputs = (TensorSpec("x", (1, 2), "int8", Quantization(0.25, 4)),)
    outputs = (TensorSpec("y", (1, 5), "uint8", Quantization(1 / 64, 128)),)
    engine = open_engine(FakeModel(inputs, outputs).to_bytes(), "fake")
    y = predict(engine, {"x": np.array([[0.5, 1.0]], np.float32)})["y"]
    q = 4 + 2 + 4 + 4  # the fake sums the integers it is fed
    clipped = np.clip(np.cos(q + np.arange(5)), -2, 127 / 64)
    np.testing.assert_allclose(y[0], clipped, atol=0.5 / 64 + 1e-6)


def test_latency_and_slowdown_are_kept():
    for settings, ms in (({"latency_ms": 3.0}, 3.0), ({"latency_ms": 2.0, "slowdown": 0.5}, 3.0)):
        engine = open_engine(FakeModel(**settings).to_bytes(), "fake")
        feeds = fixed(engine.inputs)
        seconds = []
        for _ in range(30):
            start = time.perf_counter()
            engine.run(feeds)
            seconds.append(time.perf_counter() - start)
        # busy-waits never end early; other processes only ever add to a run, hence the quickest
        assert ms <= np.min(seconds) * 1e3 < ms * 1.25


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b'{"speed": 3}', b'{"latency_ms": -1}', b'{"inputs": [{"name": 1}]}']
)
def test_what_is_no_fake_model_is_bad(content):
    with pytest.raises(BadModel):
        open_engine(content, "fake")


def test_an_unknown_signal_and_a_misfit_are_named():
    with pytest.raises(UnknownName, match="unknown signal: 'SIGSEG'"):
        FakeModel(crash_signal="SIGSEG")
    with pytest.raises(BadData, match="takes float32, got int64"):
        open_engine(FakeModel().to_bytes(), "fake").run({"input": np.zeros((1, 4), np.int64)})
