"""Speech to text: letters of real people, a grammar, and the best path of a streaming network."""

import io
import json
from pathlib import Path

import numpy as np
import pytest

from device_apps.voice_assistant.recognise import (
    CtcWords,
    Recogniser,
    Sphinx,
    WordWindows,
    best_path,
    letters_labels,
    letters_picture,
    runs,
    softmax,
)
from device_apps.voice_assistant.sound import RATE_HZ, Samples
from edge.audio_features import LogMel
from edge.engines import open_engine
from edge.errors import BadInput, BadModel
from tests.device_apps.voice_assistant.speech import clip, silence, spoken

GRAMMAR = "#JSGF V1.0; grammar c; public <c> = (switch | turn) (on | off) the (light | radio) | stop;"


def heard(recogniser: Recogniser, sound: Samples) -> str:
    recogniser.start()
    for at in range(0, len(sound), 320):
        recogniser.push(sound[at : at + 320])
    return recogniser.finish().text


@pytest.mark.shared_data
@pytest.mark.parametrize("suffix", ["tflite", "onnx"])
def test_letters_and_digits_of_real_people(shared_data: Path, suffix: str) -> None:
    pytest.importorskip("ai_edge_litert" if suffix == "tflite" else "onnxruntime")
    folder = shared_data / "models/moonshine_micro"
    name = "spelling_cnn_mel_fp32.tflite" if suffix == "tflite" else "spelling_cnn_mel.onnx"
    labels = letters_labels((folder / "spelling_cnn_meta.json").read_bytes())
    recogniser = WordWindows(open_engine(folder / name, suffix), labels, letters_picture)
    words = ["three", "seven", "x", "nine"]
    clips = [clip(shared_data / f"speech/alphanumeric/{word}/petewarden_nohash_0.wav") for word in words]
    assert [heard(recogniser, np.concatenate([silence(0.4), one, silence(0.4)])) for one in clips] == words
    assert heard(recogniser, np.concatenate([silence(0.4), clips[0], silence(0.4), clips[1]])) == "three seven"
    assert heard(recogniser, silence(1.0)) == ""
    with pytest.raises(BadModel, match="51 classes"):
        WordWindows(open_engine(folder / name, suffix), labels[:-1], letters_picture)


def test_sphinx_hears_what_a_grammar_allows() -> None:
    pytest.importorskip("pocketsphinx")
    recogniser = Sphinx(GRAMMAR)
    assert heard(recogniser, np.concatenate([silence(0.3), spoken("switch off the radio"), silence(0.3)])) == (
        "switch off the radio"
    )
    assert heard(recogniser, np.concatenate([silence(0.3), spoken("stop"), silence(0.3)])) == "stop"
    assert recogniser.finish().text in {"", "stop"}  # a second finish does no harm
    recogniser.start()
    assert recogniser.finish().text == ""


def test_a_grammar_that_is_none_is_refused() -> None:
    pytest.importorskip("pocketsphinx")
    with pytest.raises(BadInput, match="no JSGF"):
        Sphinx("this is no grammar")


def test_the_best_path_joins_repeats_and_leaves_blanks_out() -> None:
    labels = ["one", "two"]
    path = [(2, 0.9), (0, 0.6), (0, 0.8), (2, 0.9), (0, 0.7), (1, 0.9), (2, 1.0)]
    assert best_path(path, labels) == ("one one two", 0.7)
    assert best_path([(2, 1.0)] * 3, labels) == ("", 0.0)


def test_a_streaming_network_hears_frame_by_frame() -> None:
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    bands = LogMel(RATE_HZ, 512, 160, 20, floor=1e-3)
    # loud in the low bands is "low", loud in the high bands "high", else the blank
    weights = np.zeros((20, 3), np.float32)
    weights[:8, 0], weights[12:, 1] = 1 / 8, 1 / 8
    bias = np.array([0.0, 0.0, 1.0], np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["y"]),
        helper.make_node("Identity", ["s"], ["s_out"]),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [info("x", TensorProto.FLOAT, [1, 1, 20]), info("s", TensorProto.FLOAT, [1])],
        [info("y", TensorProto.FLOAT, [1, 1, 3]), info("s_out", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(bias, "b")],
    )  # fmt: skip
    content = io.BytesIO()
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), content)
    recogniser = CtcWords(open_engine(content.getvalue(), "onnx"), ["low", "high"], bands)
    time = np.arange(RATE_HZ // 4) / RATE_HZ

    def noise(low: float, high: float) -> Samples:
        tones = [np.sin(2 * np.pi * hz * time) for hz in np.arange(low, high, 60)]
        return (0.05 * np.sum(tones, axis=0)).astype(np.float32)

    low, high = noise(60, 1500), noise(3000, 7900)
    quiet = np.zeros(RATE_HZ // 4, np.float32)
    assert heard(recogniser, np.concatenate([quiet, low, quiet, high, quiet, high])) == "low high high"
    with pytest.raises(BadModel, match="words and a blank"):
        CtcWords(open_engine(content.getvalue(), "onnx"), ["low"], bands)


def test_labels_are_texts() -> None:
    assert letters_labels(json.dumps({"classes": ["a", "b"]}).encode()) == ("a", "b")
    for content in (b"", b"[]", b'{"classes": [1]}', b'{"classes": "ab"}'):
        with pytest.raises(BadInput, match="classes"):
            letters_labels(content)


def test_runs_and_softmax() -> None:
    assert runs([False, True, True, False, True]) == [(1, 3), (4, 5)]
    assert runs([]) == []
    assert softmax(np.array([1000.0, 1000.0])).tolist() == [0.5, 0.5]
