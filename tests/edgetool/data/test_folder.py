import wave

import numpy as np
import pytest

from edge.errors import BadData, UnknownName
from edge.image import ImageInput
from edge.tensors import TensorSpec
from edgetool.data.load import load_task
from edgetool.task import batches

IMAGE = TensorSpec("image", (None, 6, 8, 3), "float32")
SOUND = TensorSpec("sound", (None, 800), "float32")
SCORES = TensorSpec("scores", (None, 2), "float32")


def picture(path, level, size=(12, 10)):
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[:, :, 2] = level  # red, in OpenCV's order
    assert cv2.imwrite(str(path), pixels)


def sound(path, level, rate_hz=16000, n=800):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(np.full(n, level * 256, "<i2").tobytes())


def classes(root, make, suffix, n=10, levels=(20, 100)):
    for name, level in zip(("cat", "dog"), levels, strict=True):
        for index in range(n):
            make(root / name / f"{index}{suffix}", level + index)


def load(root, inputs=(IMAGE,), outputs=(SCORES,), **settings):
    return load_task(root, inputs=inputs, outputs=outputs, **settings)


def test_pictures_are_split_and_resized(tmp_path):
    classes(tmp_path / "pets", picture, ".png", n=20)
    (tmp_path / "pets" / ".cache").mkdir()
    (tmp_path / "pets" / "README").write_text("files beside the classes are not read")
    (tmp_path / "pets" / "cat" / ".hidden").write_text("")
    task = load(tmp_path / "pets")
    assert (task.name, task.labels, task.metric.name) == ("pets", ("cat", "dog"), "accuracy")
    assert (task.train.n, task.val.n, task.test.n) == (28, 4, 8)
    assert task.preprocess == {"image": ImageInput(6, 8, 3)}
    for inputs, labels in batches(task.test, 3):
        assert inputs["image"].shape == (len(labels), 6, 8, 3)
        reds = inputs["image"][:, 0, 0, 0] * 255
        assert ((reds > 60) == labels).all()
        assert not inputs["image"][..., 1:].any()


def test_no_file_is_in_two_splits(tmp_path):
    classes(tmp_path, picture, ".png", n=20)
    task = load(tmp_path, seed=3)
    parts = [set(split.files) for split in (task.train, task.val, task.test)]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 40


@pytest.mark.parametrize("with_val", [True, False])
def test_splits_that_are_given(tmp_path, with_val):
    for split in ("train", "test", *(("val",) if with_val else ())):
        classes(tmp_path / split, picture, ".png")
    task = load(tmp_path)
    assert (task.train.n, task.val.n, task.test.n) == ((20, 20, 20) if with_val else (18, 2, 20))


def test_bytes_for_an_input_of_bytes(tmp_path):
    classes(tmp_path, picture, ".png")
    spec = TensorSpec("image", (1, 3, 12, 10), "uint8")
    inputs, labels = load(tmp_path, inputs=(spec,)).test.take(np.arange(2))
    assert inputs["image"].dtype == np.uint8
    assert inputs["image"].shape == (2, 3, 12, 10)
    assert 20 <= inputs["image"][labels == 0].max() < 30


def test_sounds_are_resampled(tmp_path):
    classes(tmp_path, lambda path, level: sound(path, level, 8000, 600), ".wav")
    task = load(tmp_path, inputs=(SOUND,))
    inputs, labels = task.test.take(np.arange(task.test.n))
    assert inputs["sound"].shape == (4, 800)
    np.testing.assert_allclose(inputs["sound"][labels == 1][:, 400], 100 / 128, atol=0.1)


def test_the_hash_covers_the_content_of_every_file(tmp_path):
    classes(tmp_path, picture, ".png")
    base = load(tmp_path).sha256
    assert load(tmp_path).sha256 == base
    picture(tmp_path / "dog" / "4.png", 250)
    assert load(tmp_path).sha256 != base


def damage(root, how):
    if how == "empty":
        (root / "eel").mkdir()
    elif how == "mixed":
        sound(root / "cat" / "x.wav", 1)
    elif how == "text":
        (root / "cat" / "notes.txt").write_text("meow")
    elif how == "undecodable":
        (root / "dog" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n but no more")
    elif how == "few":
        for index in range(3, 10):
            (root / "dog" / f"{index}.png").unlink()
    elif how == "third":
        picture(root / "eel" / "0.png", 1)
    elif how == "one":
        (root / "dog").rename(root / ".dog")
    elif how == "nested":
        (root / "cat" / "kittens").mkdir()


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("empty", r"3 classes \(cat, dog, eel\), but output 'scores' tells 2 apart"),
        ("mixed", r"mixed: .*x\.wav and .*\.png"),
        ("text", r"notes\.txt is neither a wav file nor a picture"),
        ("undecodable", r"dog/3\.png cannot be decoded"),
        ("few", "class 'dog' has 3 examples, too few"),
        ("third", "has 3 classes"),
        ("one", "1 class folders, at least 2"),
        ("nested", "kittens is neither"),
    ],
)
def test_bad_folders(tmp_path, how, says):
    classes(tmp_path, picture, ".png")
    damage(tmp_path, how)
    with pytest.raises(BadData, match=says):
        load(tmp_path)


def test_an_empty_class_is_named(tmp_path):
    classes(tmp_path, picture, ".png")
    for file in (tmp_path / "dog").iterdir():
        file.unlink()
    with pytest.raises(BadData, match=r"class folder .*dog is empty"):
        load(tmp_path)


def test_bad_splits(tmp_path):
    classes(tmp_path / "train", picture, ".png")
    with pytest.raises(BadData, match="train and test belong together"):
        load(tmp_path)
    picture(tmp_path / "test" / "eel" / "0.png", 3)
    with pytest.raises(BadData, match="no class 'eel' in train"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (TensorSpec("image", (None, None, None, 3), "float32"), r"takes float32 \[\?, \?, 3\]"),
        (TensorSpec("image", (None, 30), "float32"), "pictures do not fit input 'image'"),
        (TensorSpec("image", (None, 6, 8, 3), "int32"), "int32"),
    ],
)
def test_models_that_take_no_pictures(tmp_path, spec, says):
    classes(tmp_path, picture, ".png")
    with pytest.raises(BadData, match=says):
        load(tmp_path, inputs=(spec,))


def test_models_that_take_no_raw_sound_or_several_inputs(tmp_path):
    classes(tmp_path, sound, ".wav")
    with pytest.raises(BadData, match=r"wav files do not fit input 'mfcc', which takes float32 \[49, 10, 1\]"):
        load(tmp_path, inputs=(TensorSpec("mfcc", (1, 49, 10, 1), "float32"),))
    with pytest.raises(BadData, match="feeds one input, the model has 2: sound, image"):
        load(tmp_path, inputs=(SOUND, IMAGE))


@pytest.mark.shared_data
def test_real_faces(shared_data):
    face = TensorSpec("face", (None, 1, 56, 46), "float32")
    task = load(shared_data / "faces" / "orl", inputs=(face,), outputs=(TensorSpec("who", (None, 30), "float32"),))
    assert (task.train.n, task.val.n, task.test.n) == (210, 30, 60)
    inputs, labels = task.test.take(np.arange(60))
    assert inputs["face"].shape == (60, 1, 56, 46)
    assert 0.2 < inputs["face"].mean() < 0.7
    assert np.bincount(labels).tolist() == [2] * 30


def test_the_range_of_pixels_is_what_the_model_expects(tmp_path):
    classes(tmp_path / "pets", picture, ".png", n=20)
    reds = {}
    for pixels in (None, "0..1", "-1..1", "0..255"):
        task = load(tmp_path / "pets", pixels=pixels)
        reds[pixels] = task.test.take(np.array([0]))[0]["image"][0, 0, 0, 0]
    assert reds[None] == reds["0..1"]
    assert reds["0..255"] == pytest.approx(255 * reds["0..1"])
    assert reds["-1..1"] == pytest.approx(2 * reds["0..1"] - 1)
    with pytest.raises(UnknownName, match="range of pixels"):
        load(tmp_path / "pets", pixels="0..2")
    classes(tmp_path / "noises", sound, ".wav", n=20)
    with pytest.raises(BadData, match="has no pixels"):
        load(tmp_path / "noises", inputs=(SOUND,), pixels="0..1")
    with pytest.raises(BadData, match="no folder of pictures"):
        load("fashion_mnist", pixels="0..1")
