import importlib.util
from pathlib import Path

import numpy as np
import pytest

from edge.audio import read_wav, resample
from edge.engines import open_engine
from edge.engines.fake import FakeModel
from edge.errors import BadData, BadModel, UnknownName
from edge.streaming import Stream, open_step, states, steps
from edge.tensors import Quantization, TensorSpec

DATA = Path(__file__).parent / "data"
onnx = pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="ONNX Runtime is not installed")


litert = pytest.mark.skipif(importlib.util.find_spec("ai_edge_litert") is None, reason="LiteRT is not installed")


@onnx
def test_a_stream_is_what_its_equation_says():
    stream = Stream(open_engine(DATA / "tiny_state.onnx", "onnx"), {"state": "next"})
    sounds = np.random.default_rng(0).normal(size=(20, 1, 4)).astype(np.float32)
    state = np.zeros((1, 4))
    for sound in sounds:
        state = state / 2 + sound
        outputs = stream.run({"sound": sound})
        assert set(outputs) == {"loudness"}
        # float32 sums of 4 terms of size 1
        np.testing.assert_allclose(outputs["loudness"], state.sum(1, keepdims=True), atol=1e-5)


@onnx
def test_reset_starts_anew_and_two_streams_do_not_hear_each_other():
    engine = open_engine(DATA / "tiny_state.onnx", "onnx")
    one, other = Stream(engine, {"state": "next"}), Stream(engine, {"state": "next"})
    sound = np.ones((1, 4), np.float32)
    first = one.run({"sound": sound})["loudness"]
    assert one.run({"sound": sound})["loudness"] > first
    assert other.run({"sound": sound})["loudness"] == first
    one.reset()
    assert one.run({"sound": sound})["loudness"] == first


@onnx
def test_a_feed_that_does_not_fit_leaves_the_state_as_it_was():
    stream = Stream(open_engine(DATA / "tiny_state.onnx", "onnx"), {"state": "next"})
    sound = np.ones((1, 4), np.float32)
    stream.run({"sound": sound})
    with pytest.raises(BadData):
        stream.run({"sound": sound.astype(np.float64)})
    assert stream.run({"sound": sound})["loudness"] == pytest.approx(6.0)


@onnx
def test_names_that_the_model_does_not_have_are_refused():
    engine = open_engine(DATA / "tiny_state.onnx", "onnx")
    with pytest.raises(UnknownName, match="input to carry a state: 'stat'"):
        Stream(engine, {"stat": "next"})
    with pytest.raises(UnknownName, match="output to carry a state: 'nexts'"):
        Stream(engine, {"state": "nexts"})


def test_a_state_of_another_type_is_refused_and_a_quantized_one_starts_at_its_zero_point():
    real = TensorSpec("state", (1, 2), "float32")
    quantized = TensorSpec("state", (1, 2), "int8", Quantization(0.5, 7))
    given = TensorSpec("next", (1, 2), "int8", Quantization(0.5, 7))
    mixed = open_engine(FakeModel(inputs=(real,), outputs=(given,)).to_bytes(), "fake")
    with pytest.raises(BadModel, match="different types"):
        Stream(mixed, {"state": "next"})
    engine = open_engine(FakeModel(inputs=(quantized,), outputs=(given,)).to_bytes(), "fake")
    fed = []
    run = engine.run
    engine.run = lambda feeds: fed.append(feeds["state"].copy()) or run(feeds)
    stream = Stream(engine, {"state": "next"})
    assert stream.run({}) == {}
    np.testing.assert_array_equal(fed[0], np.full((1, 2), 7, np.int8))


@onnx
@pytest.mark.shared_data
def test_silero_hears_speech_hop_by_hop_as_it_does_when_fed_by_hand(shared_data):
    engine = open_engine(shared_data / "models" / "silero" / "silero_vad_16k_op15.onnx", "onnx")
    sound, hz = read_wav(shared_data / "speech" / "speechcmd_samples" / "examples" / "three.wav")
    sound = resample(sound, hz, 16_000)
    stream, rate = Stream(engine, {"state": "stateN"}), np.array(16_000, np.int64)
    # the model wants the last 64 samples of the hop before in front of each hop of 512
    hops = [sound[start : start + 576].reshape(1, -1) for start in range(0, len(sound) - 576, 512)]
    state = np.zeros((2, 1, 128), np.float32)
    heard = []
    for hop in hops:
        by_hand = engine.run({"input": hop, "state": state, "sr": rate})
        state = by_hand["stateN"]
        heard.append(float(stream.run({"input": hop, "sr": rate})["output"][0, 0]))
        assert heard[-1] == by_hand["output"][0, 0]
    assert max(heard) > 0.9  # a spoken word
    stream.reset()
    silence = np.zeros((1, 576), np.float32)
    assert max(float(stream.run({"input": silence, "sr": rate})["output"][0, 0]) for _ in range(20)) < 0.5


@litert
def test_a_one_step_form_answers_as_the_sequence_form():
    whole, step = open_engine(DATA / "tiny_step.tflite", "tflite"), open_step(DATA / "tiny_step.tflite", "tflite")
    carried = states(step)
    assert len(carried) == 3  # one of the GRU, two of the LSTM
    assert {spec.name for spec in step.inputs} == {"frames", *carried}
    clips = np.random.default_rng(1).normal(size=(3, 6, 3)).astype(np.float32)
    for clip in clips:
        answers = list(steps(step, {"frames": clip}))
        assert len(answers) == 6
        np.testing.assert_array_equal(answers[-1]["scores"], whole.run({"frames": clip[None]})["scores"])


@litert
def test_what_cannot_be_streamed_is_refused():
    with pytest.raises(BadModel, match="no one-step form"):
        open_step(DATA / "tiny.tflite", "tflite")
    step = open_step(DATA / "tiny_step.tflite", "tflite")
    with pytest.raises(BadData, match="'frames' is missing"):
        next(steps(step, {"sound": np.zeros((6, 3), np.float32)}))
    with pytest.raises(BadData, match="takes shape"):
        next(steps(step, {"frames": np.zeros((6, 5), np.float32)}))
