"""Rendered presentations: the same again, unlike one another, and with a face that a detector finds."""

import cv2
import numpy as np
import pytest

from recipes.presentations import ATTACKS, HEIGHT, WIDTH, live

KINDS = {"live": live, **ATTACKS}


def still() -> np.ndarray:
    """Something with the brightness of a face and an eye on either side: [112, 92]."""
    picture = np.full((112, 92), 140, np.uint8)
    for x in (30, 62):
        cv2.circle(picture, (x, 50), 6, 40, -1)
    return cv2.GaussianBlur(picture, (0, 0), 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_rendering_is_a_cameras_picture_and_the_same_again(kind: str) -> None:
    once, again = (KINDS[kind](still(), np.random.default_rng([3, 1])) for _ in range(2))
    assert (once.shape, once.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
    np.testing.assert_array_equal(once, again)
    other = KINDS[kind](still(), np.random.default_rng([3, 2]))
    assert np.abs(once.astype(int) - other).mean() > 1
    assert 20 < once.mean() < 235
    colour = cv2.cvtColor(still(), cv2.COLOR_GRAY2BGR)
    assert KINDS[kind](colour, np.random.default_rng(0)).shape == once.shape


def test_each_species_shows_its_sign() -> None:
    """On an even face: fine texture of dots and stripes, none in what is alive or blurred."""
    even = np.full((112, 92), 140, np.uint8)

    def fine(kind: str) -> float:
        grey = cv2.cvtColor(KINDS[kind](even, np.random.default_rng(5)), cv2.COLOR_BGR2GRAY).astype(float)
        middle = grey[200:280, 280:360]
        return float((middle - cv2.GaussianBlur(middle, (0, 0), 2)).std())

    for kind in ("print", "screen", "video", "cut_out"):
        assert fine(kind) > 1.3 * fine("live"), kind
    assert fine("blurred") < 1.3 * fine("live")
