"""The stages on real models and faces."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from device_apps.door_lock.align import TEMPLATE, align, similarity
from device_apps.door_lock.detect import FaceDetector, decode, suppress
from device_apps.door_lock.embed import Embedder
from device_apps.door_lock.liveness import LivenessModel, probability, surroundings
from device_apps.door_lock.match import Gallery
from device_apps.door_lock.people import Person
from device_apps.door_lock.quality import Quality, QualityLimits, measure, shortcomings
from edge.engines import open_engine
from edge.errors import BadModel
from tests.device_apps.door_lock.scenes import engines, scene, vision

pytestmark = pytest.mark.shared_data


def sample(shared_data: Path, name: str) -> np.ndarray:
    return np.asarray(cv2.imread(str(shared_data / f"faces/spoof_samples/{name}.jpg")), np.uint8)


@pytest.mark.parametrize("size", [(320, 320), (240, 320), (640, 480), (1080, 1920)])
def test_the_detector_finds_what_opencvs_own_finds(shared_data: Path, size: tuple[int, int]) -> None:
    picture = cv2.resize(scene(shared_data, 3, 1), size[::-1])
    model = shared_data / "models/yunet/yunet_n_320_320.onnx"
    (ours,) = FaceDetector(open_engine(model, "onnx"))(picture)
    ratio = min(320 / size[0], 320 / size[1])
    canvas = np.zeros((320, 320, 3), np.uint8)
    scaled = cv2.resize(picture, (round(size[1] * ratio), round(size[0] * ratio)), interpolation=cv2.INTER_AREA)
    canvas[: scaled.shape[0], : scaled.shape[1]] = scaled
    theirs = cv2.FaceDetectorYN.create(str(model), "", (320, 320), 0.7, 0.3).detect(canvas)[1]
    assert len(theirs) == 1
    np.testing.assert_allclose(ours.box, theirs[0, :4] / ratio, atol=0.05 / ratio)
    np.testing.assert_allclose(ours.landmarks.ravel(), theirs[0, 4:14] / ratio, atol=0.05 / ratio)
    assert ours.score == pytest.approx(theirs[0, 14], abs=1e-3)


def test_a_model_of_any_size_finds_the_same_face(shared_data: Path) -> None:
    dynamic = FaceDetector(open_engine(shared_data / "models/yunet/yunet_n_dynamic.onnx", "onnx"))
    fixed = FaceDetector(engines(shared_data)["detector"])
    for picture in (scene(shared_data, 1, 1), sample(shared_data, "image_T1")):
        (one,), (other,) = dynamic(picture), fixed(picture)
        np.testing.assert_allclose(one.box, other.box, atol=4)


def test_two_faces_are_two_and_noise_is_none(shared_data: Path) -> None:
    detector = FaceDetector(engines(shared_data)["detector"])
    both = np.concatenate([scene(shared_data, 1, 1)[:, 150:480], scene(shared_data, 2, 1)[:, 150:480]], axis=1)
    assert len(detector(both)) == 2
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    assert detector(noise) == ()
    assert detector(np.zeros((480, 640, 3), np.uint8)) == ()


def test_a_damaged_detectors_answers_are_no_faces() -> None:
    for value in (np.nan, np.inf, -np.inf):
        outputs = {}
        for stride in (8, 16, 32):
            cells = (320 // stride) ** 2
            outputs |= {f"cls_{stride}": np.ones((1, cells, 1)), f"obj_{stride}": np.ones((1, cells, 1))}
            outputs |= {
                f"bbox_{stride}": np.full((1, cells, 4), value),
                f"kps_{stride}": np.full((1, cells, 10), value),
            }
        assert decode(outputs, (320, 320), 1.0, min_score=0.5, overlap=0.3) == ()
        outputs = {name: np.full_like(array, value) for name, array in outputs.items()}
        assert decode(outputs, (320, 320), 1.0, min_score=0.5, overlap=0.3) == ()


def test_suppression_keeps_the_best_of_each_heap() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 1, 10, 10], [20, 0, 10, 10], [0, 6, 10, 10]], float)
    assert suppress(boxes, 0.3) == [0, 2, 3]  # the last shares 40 of 160


def test_models_of_other_signatures_are_refused(shared_data: Path) -> None:
    opened = engines(shared_data)
    with pytest.raises(BadModel, match="no YuNet"):
        FaceDetector(opened["liveness"])
    with pytest.raises(BadModel, match="no liveness model"):
        LivenessModel(opened["detector"])
    with pytest.raises(BadModel, match="no face embedder"):
        Embedder(opened["liveness"])


def test_the_transform_is_a_similarity_that_undoes_any_other() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        angle, scale = rng.uniform(-np.pi, np.pi), rng.uniform(0.2, 5)
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        moved = TEMPLATE @ turn.T + rng.uniform(-500, 500, 2)
        matrix = similarity(moved.astype(np.float32), TEMPLATE)
        np.testing.assert_allclose(moved @ matrix[:, :2].T + matrix[:, 2], TEMPLATE, atol=1e-3)
        np.testing.assert_allclose(matrix[:, :2] @ matrix[:, :2].T * scale**2, np.eye(2), atol=1e-4)
    with pytest.raises(ValueError, match="one place"):
        similarity(np.zeros((5, 2), np.float32), TEMPLATE)


def test_noisy_landmarks_are_fitted_as_opencv_fits_them() -> None:
    rng = np.random.default_rng(2)
    points = (TEMPLATE * 2 + rng.normal(0, 2, TEMPLATE.shape)).astype(np.float32)
    ours = similarity(points, TEMPLATE)
    residual = np.linalg.norm(points @ ours[:, :2].T + ours[:, 2] - TEMPLATE)
    theirs, _ = cv2.estimateAffinePartial2D(points, TEMPLATE, method=cv2.LMEDS)
    assert residual <= np.linalg.norm(points @ theirs[:, :2].T + theirs[:, 2] - TEMPLATE) + 1e-6


def test_an_aligned_face_is_found_where_the_template_has_it(shared_data: Path) -> None:
    detector = FaceDetector(engines(shared_data)["detector"])
    picture = cv2.rotate(scene(shared_data, 4, 1), cv2.ROTATE_90_CLOCKWISE)[100:]
    upright = scene(shared_data, 4, 1)
    (face,) = detector(upright)
    aligned = align(upright, face.landmarks)
    (again,) = detector(cv2.resize(aligned, (224, 224)))
    np.testing.assert_allclose(again.landmarks / 2, TEMPLATE, atol=6)
    for turned in detector(picture):  # one that lies on its side is found or not, but is never good enough
        assert "hold your head upright" in shortcomings(
            measure(turned, align(picture, turned.landmarks)), QualityLimits()
        )


@pytest.mark.parametrize(
    ("spoil", "advice"),
    [
        (lambda p: cv2.GaussianBlur(p, (0, 0), 5), "hold still"),
        (lambda p: (p * 0.15).astype(np.uint8), "too dark"),
        (lambda p: np.clip(p.astype(int) + 105, 0, 255).astype(np.uint8), "too bright or too harsh a light"),
        (lambda p: np.clip((p.astype(int) - 110) // 4 + 110, 0, 255).astype(np.uint8), "too little contrast"),
        (lambda p: cv2.resize(p, (160, 120)), "come closer"),
    ],
)
def test_each_spoiled_picture_gets_its_advice(shared_data: Path, spoil: object, advice: str) -> None:
    look = vision(shared_data)
    good = look(scene(shared_data, 1, 1), 1.0)
    assert good.shortcomings == ()
    assert good.is_live
    assert callable(spoil)
    bad = look(spoil(scene(shared_data, 1, 1)), 1.0)
    assert advice in bad.shortcomings
    assert (bad.live, bad.match) == (None, None)


def test_poses_beyond_the_limits_get_advice() -> None:
    frontal = Quality(80, 400, 120, 45, 0, 0, 0.5, 0)
    assert shortcomings(frontal, QualityLimits()) == ()
    for change, advice in (
        ({"yaw": -0.4}, "look at the camera"),
        ({"pitch": 0.9}, "raise or lower your head"),
        ({"roll_deg": 45}, "hold your head upright"),
        ({"clipped": 0.5}, "too bright or too harsh a light"),
    ):
        assert shortcomings(dataclasses.replace(frontal, **change), QualityLimits()) == (advice,)


def test_the_samples_of_living_and_printed_faces(shared_data: Path) -> None:
    look = vision(shared_data)
    live = {name: look(sample(shared_data, name), 1.0).live for name in ("image_T1", "image_F1", "image_F2")}
    assert live["image_T1"] is not None
    assert live["image_T1"] > 0.9
    assert live["image_F1"] is not None
    assert live["image_F1"] < 0.1
    assert live["image_F2"] is not None
    assert live["image_F2"] < 0.1


def test_liveness_of_an_answer_that_is_none_is_zero() -> None:
    assert probability(np.array([np.nan, 0.0])) == 0
    assert probability(np.array([1e30, -1e30])) == 1
    assert probability(np.array([0.0, 0.0])) == 0.5


def test_the_surroundings_are_centred_and_mirrored_at_the_edge() -> None:
    picture = np.zeros((200, 200, 3), np.uint8)
    picture[90:110, 90:110] = 255
    crop = surroundings(picture, (80, 80, 40, 40), 128)
    assert crop.shape == (128, 128, 3)
    rows, columns = np.nonzero(crop[:, :, 0] > 128)
    assert abs(rows.mean() - 63.5) < 1.5
    assert abs(columns.mean() - 63.5) < 1.5
    bright = np.full((100, 100, 3), 200, np.uint8)
    for box in ((0, 0, 60, 60), (60, 60, 40, 40), (0, 0, 300, 300)):
        assert surroundings(bright, box, 128).min() > 150  # no black border anywhere
    assert not surroundings(bright, (1000, 1000, 400, 400), 128).any()


def person_of(shared_data: Path, name: str, person: int, numbers: range) -> Person:
    look = vision(shared_data)
    embeddings = [look.look(scene(shared_data, person, number), 1.0)[1] for number in numbers]
    return Person(name, name, np.stack([one for one in embeddings if one is not None]), "a" * 64, 0.0)


def test_enrolled_people_are_told_apart_from_each_other_and_from_strangers(shared_data: Path) -> None:
    gallery = Gallery([person_of(shared_data, f"s{n}", n, range(1, 5)) for n in (1, 2, 3)], 0.55, 0.05)
    look = vision(shared_data, gallery)
    for number in (1, 2, 3):
        found = look(scene(shared_data, number, 8), 1.0)
        assert found.match is not None
        assert found.match.person == f"s{number}"
        assert found.match.similarity > found.match.runner_up + 0.05
    for number in (10, 11, 12):
        found = look(scene(shared_data, number, 1), 1.0)
        assert found.match is not None
        assert (found.match.person, found.match.reason) == (None, "not enrolled")


def test_stages_are_timed_and_the_model_apart(shared_data: Path) -> None:
    found = vision(shared_data, Gallery([], 0.5, 0.05))(scene(shared_data, 1, 1), 1.0)
    assert list(found.stages_ms) == [
        "detect", "detect.model", "align and quality", "liveness", "liveness.model", "embed", "embed.model", "match",
    ]  # fmt: skip
    for stage in ("detect", "liveness", "embed"):
        assert 0 < found.stages_ms[f"{stage}.model"] <= found.stages_ms[stage]


@pytest.mark.parametrize("shape", [(1, 1, 3), (10, 640, 3), (47, 47, 3)])
def test_tiny_pictures_are_named(shared_data: Path, shape: tuple[int, int, int]) -> None:
    found = vision(shared_data)(np.full(shape, 128, np.uint8), 1.0)
    assert "too small" in found.shortcomings[0]
