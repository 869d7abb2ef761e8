import dataclasses
import importlib.util

import numpy as np
import pytest

from edge.errors import BadData, RuntimeMissing
from edge.image import ImageInput, decode_image, read_image, resize, triangle_weights

HAS_CV2 = importlib.util.find_spec("cv2") is not None
opencv = pytest.mark.skipif(not HAS_CV2, reason="OpenCV is not installed")


def smooth(height, width, channels=3):
    """A picture without hard edges, so that filters of other kernels agree on it."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [127 + 100 * np.sin(y / (9 + c)) * np.cos(x / (11 - c)) for c in range(channels)]
    return np.stack(waves, axis=2).round().astype(np.uint8)


def pgm(pixels, header=b"P5\n# made by a camera\n%d %d\n255\n"):
    return header % (pixels.shape[1], pixels.shape[0]) + pixels.tobytes()


def test_scale_and_offset_map_bytes_to_the_models_range():
    raw = np.array([[0, 255], [51, 102]], np.uint8)
    values = ImageInput(2, 2, 1, scale=2 / 255, offset=-1)(raw)
    assert values.shape == (2, 2, 1)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values[:, :, 0], [[-1, 1], [-0.6, -0.2]], atol=1e-6)


def test_without_resizing_raw_bytes_stay_as_they_are():
    raw = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    np.testing.assert_array_equal(ImageInput(2, 2, 3, dtype="uint8")(raw), raw)


def test_grey_is_the_luma_of_colour_and_colour_repeats_grey():
    red = np.zeros((3, 3, 3), np.uint8)
    red[:, :, 0] = 200
    assert ImageInput(3, 3, 1, scale=1)(red)[1, 1, 0] == pytest.approx(0.299 * 200, abs=1e-4)
    grey = np.full((3, 3), 77, np.uint8)
    np.testing.assert_array_equal(ImageInput(3, 3, 3, dtype="uint8")(grey), np.full((3, 3, 3), 77))


def test_transparency_is_dropped():
    raw = smooth(4, 4, 4)
    np.testing.assert_array_equal(ImageInput(4, 4, 3, dtype="uint8")(raw), raw[:, :, :3])


@pytest.mark.parametrize(
    ("layout", "channels", "shape"), [("HWC", 3, (5, 4, 3)), ("CHW", 3, (3, 5, 4)), ("HW", 1, (5, 4))]
)
def test_layouts(layout, channels, shape):
    raw = smooth(5, 4)
    values = ImageInput(5, 4, channels, scale=1, layout=layout)(raw)
    assert values.shape == shape
    assert values.flags.c_contiguous
    if layout == "CHW":
        np.testing.assert_array_equal(values[2], raw[:, :, 2])


@pytest.mark.parametrize(("size", "new_size"), [(7, 7), (28, 96), (96, 28), (3, 1), (1, 5), (640, 96)])
def test_weights_of_every_output_pixel_sum_to_one_and_are_symmetric(size, new_size):
    weights = triangle_weights(size, new_size)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(weights, weights[::-1, ::-1], atol=1e-6)
    assert (weights >= 0).all()


def test_reducing_does_not_alias():
    stripes = np.zeros((64, 64, 1), np.uint8)
    stripes[:, ::2] = 255
    np.testing.assert_allclose(resize(stripes, 16, 16)[:, 1:-1], 127.5, atol=1)


@opencv
@pytest.mark.parametrize(("height", "width"), [(96, 80), (61, 47), (200, 45)])
def test_enlarging_is_what_opencv_calls_linear(height, width):
    import cv2

    raw = smooth(60, 45)
    expected = cv2.resize(raw.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(resize(raw, height, width), expected, atol=1e-3)


@opencv
@pytest.mark.parametrize(("height", "width"), [(48, 40), (30, 60)])
def test_reducing_is_close_to_opencv_area(height, width):
    import cv2

    raw = smooth(96, 120)
    expected = cv2.resize(raw.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    # a triangle and a box differ by the curvature of the picture: below 2 % of its range here
    np.testing.assert_allclose(resize(raw, height, width), expected, atol=5)


@pytest.mark.parametrize(
    "raw",
    [
        np.zeros((4, 4), np.float32),
        np.zeros((2, 4, 4, 3), np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((0, 4), np.uint8),
    ],
)
def test_what_is_no_picture_is_refused(raw):
    with pytest.raises(BadData, match="picture"):
        ImageInput(4, 4, 1)(raw)


@pytest.mark.parametrize("bad", [{"height": 0}, {"channels": 2}, {"layout": "HW", "channels": 3}, {"dtype": "int8"}])
def test_impossible_inputs_are_refused(bad):
    with pytest.raises(BadData):
        ImageInput(**{"height": 4, "width": 4, "channels": 1, **bad})


def test_pgm_and_ppm_are_read_without_opencv(tmp_path):
    grey, colour = smooth(5, 7, 1)[:, :, 0], smooth(5, 7)
    (tmp_path / "grey.pgm").write_bytes(pgm(grey))
    (tmp_path / "colour.ppm").write_bytes(pgm(colour, b"P6 %d %d 255\n"))
    np.testing.assert_array_equal(read_image(tmp_path / "grey.pgm"), grey)
    np.testing.assert_array_equal(read_image(tmp_path / "colour.ppm"), colour)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"P5\n4 4\n255\n" + bytes(15), "cut short: 15 of 16"),
        (b"P5\n4 4\n65535\n" + bytes(32), "65535"),
        (b"P5\n4 x\n255\n" + bytes(16), "header"),
        (b"P5", "header"),
        (b"P5 # never ends", "header"),
    ],
)
def test_damaged_pgm(content, says):
    with pytest.raises(BadData, match=says):
        decode_image(content, "picture.pgm")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadData, match=r"nowhere\.png"):
        read_image(tmp_path / "nowhere.png")


@opencv
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
def test_other_pictures_come_as_rgb(tmp_path, suffix):
    import cv2

    raw = np.zeros((16, 16, 3), np.uint8)
    raw[:, :, 0] = 250  # red
    content = cv2.imencode(suffix, raw[:, :, ::-1])[1].tobytes()
    decoded = decode_image(content, "red")
    assert decoded.shape == (16, 16, 3)
    assert decoded[8, 8, 0] > 240
    assert decoded[8, 8, 2] < 10


@opencv
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_picture_that_is_cut_short_is_refused(suffix):
    import cv2

    content = cv2.imencode(suffix, smooth(64, 64))[1].tobytes()
    for kept in (0, 10, len(content) // 2):
        with pytest.raises(BadData, match="cannot be decoded"):
            decode_image(content[:kept], "cut")


@pytest.mark.skipif(HAS_CV2, reason="OpenCV is installed")
def test_without_opencv_the_extra_is_named():
    with pytest.raises(RuntimeMissing) as caught:
        decode_image(b"\x89PNG....", "picture.png")
    assert "apps" in caught.value.hint


def test_the_fields_rebuild_the_step():
    step = ImageInput(8, 6, 3, 0.5, -1.0, "CHW")
    assert ImageInput(**dataclasses.asdict(step)) == step
