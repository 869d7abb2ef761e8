"""The picture of an explanation: the heat lies where the model looked, for every kind of input."""

import cv2
import numpy as np
import pytest

from edge.audio import AudioInput
from edge.image import ImageInput
from edge.occlusion import occlude
from edge.preprocess import ArrayInput
from edge.tensors import TensorSpec
from edgetool.explain_input import Subject, subject_of
from edgetool.explanation import Explanation
from edgetool.render.heat import draw


def subject(example: np.ndarray, step: object) -> Subject:
    spec = TensorSpec("x", (1, *example.shape), "float32")
    return subject_of(spec, step, example, kind=None, baseline="zero", mean=None, mean_of="")


def picture_of(seen: Subject, weights: np.ndarray) -> np.ndarray:
    found = occlude(
        seen.example, seen.baseline, seen.axes, lambda batch: np.tensordot(batch, weights, axes=weights.ndim),
        parts=seen.parts,
    )  # fmt: skip
    explanation = Explanation(
        "m.onnx", "onnx", "x.png", "x", seen.kind, "as it is", "scores", 0, "b\N{LATIN SMALL LETTER A WITH DIAERESIS}r",
        found.score, seen.baseline_words, found.explains, found.deletion, (), found.noise, found.runs, 400, "holds",
    )  # fmt: skip
    decoded = cv2.imdecode(np.frombuffer(draw(explanation, seen, found), np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded[:, :, ::-1].astype(int)


def redness(picture: np.ndarray) -> np.ndarray:
    return np.clip(picture[:, :, 0] - picture[:, :, 1:].max(axis=2), 0, None)


@pytest.mark.parametrize("layout", ["HWC", "CHW"])
def test_heat_of_a_picture_lies_on_the_patch(layout: str) -> None:
    weights = np.zeros((16, 16, 3))
    weights[2:5, 10:13] = 1.0
    example = np.ones((16, 16, 3), np.float32)
    if layout == "CHW":
        weights, example = weights.transpose(2, 0, 1), example.transpose(2, 0, 1)
    picture = picture_of(subject(example, ImageInput(16, 16, 3, layout=layout)), weights)
    rows, columns = np.nonzero(redness(picture[:440, 432:]) > 100)
    factor = 24  # 384 pixels for 16
    assert 2 * factor <= np.median(rows) - 72 <= 5 * factor
    assert 10 * factor <= np.median(columns) <= 13 * factor


def test_heat_of_sound_lies_at_its_time() -> None:
    weights = np.zeros(1600)
    weights[800:900] = 1.0
    picture = picture_of(subject(np.ones(1600, np.float32), AudioInput(16_000, 1600)), weights)
    _, columns = np.nonzero(redness(picture[60:280]) > 100)
    assert 0.48 < (np.median(columns) - 24) / 792 < 0.58


def test_bars_and_features_and_nothing_at_all() -> None:
    bars = picture_of(subject(np.ones(40, np.float32), ArrayInput()), np.linspace(-1, 1, 40))
    assert redness(bars).max() > 100
    features = picture_of(subject(np.ones((30, 10), np.float32), ArrayInput()), np.ones((30, 10)))
    assert features.shape[1] >= 800
    nothing = picture_of(subject(np.ones((30, 10), np.float32), ArrayInput()), np.zeros((30, 10)))
    assert redness(nothing).max() < 60
