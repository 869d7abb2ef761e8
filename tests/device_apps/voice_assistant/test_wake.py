"""Wake words: one decision of many probabilities, and real models on real recordings."""

import io
import wave
from pathlib import Path

import numpy as np
import pytest

from device_apps.voice_assistant.sound import RATE_HZ, Samples
from device_apps.voice_assistant.wake import Detector, MicroWake, OperatingPoint, Scores, StepWake
from edge.audio import read_wav
from edge.audio_features import LogMel
from edge.engines import open_engine
from edge.errors import BadModel

BLOCK = 320


class Played:
    """A wake model whose score is the sound's first sample of each 20 ms."""

    hop = BLOCK

    def __init__(self, gain: float = 1.0) -> None:
        self.gain, self.resets = gain, 0

    def push(self, samples: Samples) -> Scores:
        return samples[::BLOCK] * np.float32(self.gain)

    def reset(self) -> None:
        self.resets += 1

    def close(self) -> None:
        return


def sound(scores: list[float]) -> Samples:
    return np.repeat(np.array(scores, np.float32), BLOCK)


def fired(detector: Detector, samples: Samples) -> list[tuple[str, float]]:
    found = [detector.push(samples[at : at + BLOCK]) for at in range(0, len(samples), BLOCK)]
    return [(one.word, round(one.at / RATE_HZ, 2)) for one in found if one is not None]


def test_a_mean_over_the_window_decides_and_then_it_is_deaf_for_a_while() -> None:
    detector = Detector({"a": Played()}, {"a": OperatingPoint(0.5, 4)}, refractory_s=1.0)
    assert fired(detector, sound([0.9])) == []  # one high score of four is none
    assert fired(detector, sound([0.1] * 10 + [0.9] * 100)) == [("a", 0.28), ("a", 1.28)]


def test_of_two_wake_words_at_once_the_clearer_one_is_heard_and_only_that() -> None:
    models = {"first": Played(0.9), "second": Played(1.0)}
    detector = Detector(models, {word: OperatingPoint(0.5, 1) for word in models})
    assert fired(detector, sound([0.0, 0.8] + [0.0] * 20 + [0.8])) == [("second", 0.04)]


def test_deafness_while_it_speaks_itself() -> None:
    detector = Detector({"a": Played()}, {"a": OperatingPoint(0.5)})
    detector.be_deaf(0.5)
    assert fired(detector, sound([0.9] * 20)) == []


def test_a_reset_reaches_the_models() -> None:
    model = Played()
    detector = Detector({"a": model}, {"a": OperatingPoint(0.5, 2)})
    fired(detector, sound([0.9]))
    detector.reset()
    assert model.resets == 1
    assert fired(detector, sound([0.9])) == []


@pytest.mark.parametrize("wrong", [(0.0, 1), (1.0, 1), (0.5, 0), (0.5, 101)])
def test_operating_points_out_of_range(wrong: tuple[float, int]) -> None:
    with pytest.raises(ValueError, match="threshold"):
        OperatingPoint(*wrong)


def micro(word: str) -> MicroWake:
    pytest.importorskip("ai_edge_litert")
    package = pytest.importorskip("pymicro_wakeword")
    return MicroWake(open_engine(Path(package.__file__).parent / "models" / f"{word}.tflite", "tflite"))


@pytest.mark.shared_data
def test_micro_wake_words_score_as_in_their_own_package(shared_data: Path) -> None:
    model = micro("alexa")
    from pymicro_wakeword import MicroWakeWord, MicroWakeWordFeatures, Model

    samples = read_wav(shared_data / "speech/microww_tests/alexa/1.wav")[0][:, 0]
    theirs, front_end = MicroWakeWord.from_builtin(Model.ALEXA), MicroWakeWordFeatures()
    pcm = np.rint(samples * 32768).astype("<i2").tobytes()
    wanted = []
    for features in front_end.process_streaming(pcm):
        theirs.process_streaming_prob(features)
        wanted.append(theirs._probabilities[-1] if theirs._probabilities else None)
    wanted = [score for score in wanted[2::3] if score is not None]  # each third frame is a step
    own = np.concatenate([model.push(samples[at : at + 777]) for at in range(0, len(samples), 777)])
    assert len(own) == len(wanted)
    # LiteRT's int8 kernels round a few values to the other side than the C library in that package
    np.testing.assert_allclose(own, wanted, atol=3 / 256)
    assert max(own) > 0.95


@pytest.mark.shared_data
@pytest.mark.parametrize("clip", ["1", "2", "3"])
def test_the_word_is_heard_and_other_words_are_not(shared_data: Path, clip: str) -> None:
    models = {word: micro(word) for word in ("alexa", "hey_jarvis")}
    for said in models:
        samples = read_wav(shared_data / f"speech/microww_tests/{said}/{clip}.wav")[0][:, 0]
        samples = np.pad(samples, (RATE_HZ, RATE_HZ // 2))
        points = {"alexa": OperatingPoint(0.9, 5), "hey_jarvis": OperatingPoint(0.97, 5)}
        detector = Detector(models, points)
        detector.reset()
        heard = [word for word, _ in fired(detector, samples)]
        assert set(heard) <= {said}
        assert len(heard) <= 1


def test_a_model_that_takes_other_frames_is_refused() -> None:
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    def model(shape: list[int]) -> bytes:
        node = helper.make_node("ReduceMax", ["x"], ["y"], keepdims=0)
        taken = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
        given = helper.make_tensor_value_info("y", TensorProto.FLOAT, [])
        graph = helper.make_graph([node], "g", [taken], [given])
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        content = io.BytesIO()
        onnx.save(made, content)
        return content.getvalue()

    features = LogMel(RATE_HZ, 512, 160, 40)
    with pytest.raises(BadModel, match="takes no frames of 40 bands"):
        StepWake(open_engine(model([1, 1, 13]), "onnx"), features)
    step = StepWake(open_engine(model([1, 2, 40]), "onnx"), features)
    noise = np.random.default_rng(0).normal(size=16000).astype(np.float32) * np.float32(0.1)
    scores = np.concatenate([step.push(noise[at : at + 500]) for at in range(0, 16000, 500)])
    frames = features(noise)
    assert scores.tolist() == pytest.approx([frames[at : at + 2].max() for at in range(0, len(frames) - 1, 2)])


def test_state_is_carried_from_step_to_step() -> None:
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("ReduceSum", ["x"], ["silent"], keepdims=0),
        helper.make_node("Mul", ["silent", "none"], ["nothing"]),
        helper.make_node("Add", ["count", "one"], ["count_out"]),
        helper.make_node("Add", ["count", "nothing"], ["y"]),
    ]
    numbers = [helper.make_tensor(name, TensorProto.FLOAT, [1], [value]) for name, value in (("one", 1), ("none", 0))]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g",
        [info("x", TensorProto.FLOAT, [1, 1, 40]), info("count", TensorProto.FLOAT, [1])],
        [info("y", TensorProto.FLOAT, [1]), info("count_out", TensorProto.FLOAT, [1])], numbers,
    )  # fmt: skip
    content = io.BytesIO()
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), content)
    model = StepWake(open_engine(content.getvalue(), "onnx"), LogMel(RATE_HZ, 512, 160, 40))
    assert model.push(np.zeros(512 + 3 * 160, np.float32)).tolist() == [0, 1, 2, 3]
    assert model.push(np.zeros(160, np.float32)).tolist() == [4]
    model.reset()
    assert model.push(np.zeros(512, np.float32)).tolist() == [0]


def test_wav_of_a_test_is_what_wave_reads(tmp_path: Path) -> None:
    from device_apps.voice_assistant.cases import wav

    path = tmp_path / "a.wav"
    path.write_bytes(wav(np.array([0.5, -1.0, 1.0], np.float32)))
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE_HZ, 1, 2)
    assert read_wav(path)[0][:, 0].tolist() == pytest.approx([0.5, -1.0, 1.0], abs=1e-4)
