"""Text to intents, and "I don't know"."""

import io
import json
from pathlib import Path

import numpy as np
import pytest

from device_apps.voice_assistant.intent import (
    Classifier,
    FirstOf,
    Said,
    Sentences,
    read_vocabulary,
    refusal_threshold,
    slots_of,
)
from edge.engines import open_engine
from edge.errors import BadInput, BadModel

YAML = """
language: en
intents:
  HassTurnOn:
    data:
      - sentences: ["(turn|switch) on [the] {name}"]
  HassTurnOff:
    data:
      - sentences: ["(turn|switch) off [the] {name}"]
lists:
  name:
    values: ["kitchen light", "radio"]
"""
VOCABULARY = {
    "words": ["play", "stop", "jazz"],
    "intents": ["Play", "Stop"],
    "tags": ["O", "B-genre", "I-genre"],
    "length": 6,
    "threshold": 0.8,
}


def test_home_assistants_sentences(tmp_path: Path) -> None:
    pytest.importorskip("hassil")
    (tmp_path / "s.yaml").write_text(YAML)
    sentences = Sentences(tmp_path / "s.yaml")
    assert sentences.names == ("HassTurnOn", "HassTurnOff")
    found = sentences("switch on the kitchen light")
    assert (found.intent, found.slots, found.confidence) == ("HassTurnOn", {"name": "kitchen light"}, 1.0)
    assert sentences("turn on the oven").intent is None
    assert sentences("").intent is None


@pytest.mark.parametrize(
    "text", ["", "[1, 2]", "{", "intents: 3", "intents:\n  A:\n    data:\n      - sentences: ['(a']"]
)
def test_sentences_that_are_none(tmp_path: Path, text: str) -> None:
    pytest.importorskip("hassil")
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(BadInput, match="holds no sentences"):
        Sentences(tmp_path / "s.yaml")


def test_sentences_that_are_not_there_or_too_many(tmp_path: Path) -> None:
    pytest.importorskip("hassil")
    with pytest.raises(BadInput, match="cannot read"):
        Sentences(tmp_path / "none.yaml")
    (tmp_path / "s.yaml").write_text("#" * (1 << 20) + "#")
    with pytest.raises(BadInput, match="more than"):
        Sentences(tmp_path / "s.yaml")


def network() -> bytes:
    """Counts words: `play` for Play, `stop` for Stop; `jazz` is tagged as a genre."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    intents = np.zeros((5, 2), np.float32)
    intents[2, 0] = intents[3, 1] = 4.0
    tags = np.zeros((5, 3), np.float32)
    tags[:, 0], tags[4, 1] = 1.0, 2.0
    nodes = [
        helper.make_node("Gather", ["intents", "ids"], ["each"]),
        helper.make_node("ReduceSum", ["each", "one"], ["intent"], keepdims=0),
        helper.make_node("Gather", ["tags", "ids"], ["tag"]),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [info("ids", TensorProto.INT32, [1, 6])],
        [info("intent", TensorProto.FLOAT, [1, 2]), info("tag", TensorProto.FLOAT, [1, 6, 3])],
        [numpy_helper.from_array(intents, "intents"), numpy_helper.from_array(tags, "tags"),
         numpy_helper.from_array(np.array([1], np.int64), "one")],
    )  # fmt: skip
    content = io.BytesIO()
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), content)
    return content.getvalue()


def test_a_classifier_with_slots_that_knows_when_it_does_not() -> None:
    vocabulary = read_vocabulary(json.dumps(VOCABULARY).encode())
    classify = Classifier(open_engine(network(), "onnx"), vocabulary)
    found = classify("Play some jazz!")
    assert (found.intent, found.slots) == ("Play", {"genre": "jazz"})
    assert found.confidence > 0.9
    assert classify("please stop").intent == "Stop"
    unknown = classify("what is the weather")
    assert (unknown.intent, unknown.why) == (None, "not sure enough")
    assert classify("play stop").intent is None  # both alike
    assert classify("…").why == "nothing was said"
    assert classify("play " * 1000).intent == "Play"
    with pytest.raises(BadModel, match="for its intents"):
        Classifier(
            open_engine(network(), "onnx"), read_vocabulary(json.dumps({**VOCABULARY, "intents": ["A"]}).encode())
        )
    first = FirstOf([classify, Said()])
    assert first("stop").intent == "Stop"
    assert first("anything").intent == "Said"


@pytest.mark.parametrize(
    "wrong",
    [{"words": 3}, {"intents": []}, {"length": 0}, {"threshold": 2}, {"temperature": 0}, {"length": "x"}],
)
def test_a_vocabulary_that_is_none(wrong: dict[str, object]) -> None:
    with pytest.raises(BadInput, match="vocabulary"):
        read_vocabulary(json.dumps({**VOCABULARY, **wrong}).encode())
    with pytest.raises(BadInput, match="vocabulary"):
        read_vocabulary(b"[" * 3000)


def test_tags_to_slots() -> None:
    tokens = ["play", "the", "blue", "album", "by", "the", "who", "the", "album"]
    tags = ["O", "O", "B-album", "I-album", "O", "B-artist", "I-artist", "O", "B-album"]
    assert slots_of(tokens, tags) == {"album": "blue album", "artist": "the who"}
    assert slots_of(["a"], ["I-x"]) == {"x": "a"}
    assert slots_of([], []) == {}


def test_the_threshold_of_i_do_not_know() -> None:
    assert refusal_threshold(np.linspace(0, 1, 101), 0.05) == pytest.approx(0.05)
