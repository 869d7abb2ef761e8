"""Stills of faces before a door's camera: alive, or as one of six attacks. Everything here is rendered.

A still [h, w] or [h, w, 3] becomes a camera's picture, BGR [480, 640, 3]. `live` varies light and pose; each of
`ATTACKS` adds what gives an attack of its species away: paper and its edges, halftone dots, a screen's pixels and their
moire, lines and compression of a video, the rim of a cut-out, a mask's shading, blur. A rendering is no attack: what
is measured on these says how a model takes such signs, not how it takes a real print.
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

HEIGHT, WIDTH = 480, 640
FACE_HEIGHT = 300  # of the still, in the camera's picture


def live(still: Picture, rng: np.random.Generator) -> Picture:
    """The still as if the person stood there: another place, size, turn and light, and the camera's noise."""
    face = _sized(still, rng)
    height, width = face.shape[:2]
    rows, columns = (HEIGHT + 200 - height) // 2, (WIDTH + 200 - width) // 2
    around = cv2.copyMakeBorder(face, rows, rows, columns, columns, cv2.BORDER_REPLICATE)
    small = cv2.GaussianBlur(cv2.resize(around, (0, 0), fx=1 / 8, fy=1 / 8, interpolation=cv2.INTER_AREA), (0, 0), 1.8)
    wall = cv2.resize(small, around.shape[1::-1], interpolation=cv2.INTER_CUBIC)  # the still's own background goes on
    rim = np.zeros(around.shape[:2], np.float32)
    rim[rows + 6 : rows + height - 6, columns + 6 : columns + width - 6] = 1
    rim = cv2.GaussianBlur(rim, (0, 0), 5)[:, :, None]
    whole = np.asarray(around * rim + wall * (1 - rim), np.float32)
    return _taken(_placed(whole, np.ones(whole.shape[:2], np.float32), _room(rng), rng, turn_deg=8.0), rng)


def printed(still: Picture, rng: np.random.Generator) -> Picture:
    """Held up on paper: a white border, halftone dots, the paper's grain, paler blacks, seen at an angle."""
    return _taken(_placed(*_sheet(_halftone(_sized(still, rng), rng), 28), _room(rng), rng, tilt=0.06), rng)


def screen(still: Picture, rng: np.random.Generator) -> Picture:
    """On a screen: red, green and blue stripes that the camera's own pixels beat against (moire), a dark bezel."""
    shown = _stripes(_sized(still, rng), rng)
    return _taken(_placed(*_sheet(shown, 22, colour=12.0), _room(rng), rng, tilt=0.04), rng)


def replayed(still: Picture, rng: np.random.Generator) -> Picture:
    """A video on a screen: compressed, in motion, with the dark band of a screen that is refreshed meanwhile."""
    face = _sized(still, rng)
    step = int(rng.integers(3, 8))
    kernel = np.zeros((step, step), np.float32)
    kernel[step // 2] = 1 / step
    moved = cv2.filter2D(face, -1, kernel)
    quality = int(rng.integers(18, 45))
    coded = cv2.imdecode(cv2.imencode(".jpg", _bytes(moved), [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    shown = _stripes(np.asarray(coded, np.float32), rng)
    rows = np.arange(len(shown))
    band = 1 - 0.35 * np.exp(-(((rows - rng.uniform(0, len(shown))) / 40) ** 2))
    shown *= np.asarray(band, np.float32)[:, None, None]
    return _taken(_placed(*_sheet(shown, 22, colour=12.0), _room(rng), rng, tilt=0.04), rng)


def cut_out(still: Picture, rng: np.random.Generator) -> Picture:
    """A print cut along the face and held before a body: a hard rim with a shadow beside it, no paper around."""
    face = _halftone(_sized(still, rng), rng)
    height, width = face.shape[:2]
    rim = np.zeros((height, width), np.float32)
    cv2.ellipse(rim, (width // 2, height // 2), (int(width * 0.42), int(height * 0.47)), 0, 0, 360, 1.0, -1)
    room = _room(rng)
    cv2.ellipse(room, (WIDTH // 2, HEIGHT + 60), (220, 240), 0, 0, 360, rng.uniform(30, 160, 3).tolist(), -1)
    shadow = cv2.GaussianBlur(rim, (0, 0), 6)
    darker = _placed(np.zeros_like(face), 0.5 * shadow, room, np.random.default_rng(0), tilt=0.0, shift=8)
    return _taken(_placed(face, rim, darker, rng, tilt=0.04), rng)


def mask(still: Picture, rng: np.random.Generator) -> Picture:
    """A mask of the face: bent, smooth as plastic, with highlights and a hard rim."""
    face = cv2.bilateralFilter(_sized(still, rng), 9, 40, 7)
    height, width = face.shape[:2]
    across = np.linspace(-1, 1, width, dtype=np.float32)
    bent = (np.sin(across * 1.2) / np.sin(1.2) + 1) / 2 * (width - 1)
    rows = np.repeat(np.arange(height, dtype=np.float32)[:, None], width, axis=1)
    face = cv2.remap(face, np.repeat(bent[None], height, axis=0).astype(np.float32), rows, cv2.INTER_LINEAR)
    face *= (0.75 + 0.35 * np.cos(across * 1.3))[None, :, None]
    for _ in range(2):
        spot = np.zeros((height, width), np.float32)
        centre = (int(rng.uniform(0.3, 0.7) * width), int(rng.uniform(0.15, 0.65) * height))
        cv2.circle(spot, centre, int(width * 0.06), 1.0, -1)
        face += 70 * cv2.GaussianBlur(spot, (0, 0), 9)[:, :, None]
    rim = np.zeros((height, width), np.float32)
    cv2.ellipse(rim, (width // 2, height // 2), (int(width * 0.46), int(height * 0.49)), 0, 0, 360, 1.0, -1)
    return _taken(_placed(np.asarray(face, np.float32), rim, _room(rng), rng, turn_deg=5.0), rng)


def blurred(still: Picture, rng: np.random.Generator) -> Picture:
    """A print held too near to the camera: out of focus, so that dots and paper do not show."""
    sheet, rim = _sheet(_sized(still, rng), 28)
    taken = _placed(sheet, rim, _room(rng), rng, tilt=0.06)
    return _taken(cv2.GaussianBlur(taken, (0, 0), float(rng.uniform(1.5, 4.0))), rng)


Attack = Callable[[Picture, np.random.Generator], Picture]
ATTACKS: dict[str, Attack] = {
    "print": printed,
    "screen": screen,
    "video": replayed,
    "cut_out": cut_out,
    "mask": mask,
    "blurred": blurred,
}


def _sized(still: Picture, rng: np.random.Generator) -> Floats:
    """The still as float BGR [h, w, 3], about `FACE_HEIGHT` high; a grey one gets the tint of some skin."""
    ratio = FACE_HEIGHT * rng.uniform(0.85, 1.15) / still.shape[0]
    size = (round(still.shape[1] * ratio), round(still.shape[0] * ratio))
    values: Floats = cv2.resize(still, size, interpolation=cv2.INTER_CUBIC).astype(np.float32)
    if values.ndim == 3:
        return values
    tint = np.array([rng.uniform(0.72, 0.9), rng.uniform(0.85, 0.97), 1.08], np.float32)
    return values[:, :, None] * tint


def _room(rng: np.random.Generator) -> Floats:
    """A wall that is not quite even, with a door frame: [480, 640, 3]."""
    coarse = rng.uniform(80, 170) + rng.normal(0, 8, 3) + rng.normal(0, 6, (6, 8, 1))
    wall: Floats = cv2.resize(coarse.astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    edge = int(rng.integers(20, 120))
    wall[:, edge : edge + 18] *= 0.6
    return wall


def _halftone(face: Floats, rng: np.random.Generator) -> Floats:
    """As a printer lays it down: dots of 3 to 5 pixels at 45 degrees, black that is grey, the grain of the paper."""
    period = rng.uniform(3.0, 5.0)
    rows, columns = np.mgrid[: face.shape[0], : face.shape[1]].astype(np.float32)
    angle = np.pi / 4
    along = 2 * np.pi * (columns * np.cos(angle) + rows * np.sin(angle)) / period
    across = 2 * np.pi * (rows * np.cos(angle) - columns * np.sin(angle)) / period
    dots = (np.sin(along) * np.sin(across))[:, :, None]
    grain = rng.normal(0, 5, face.shape[:2])[:, :, None]
    return np.asarray(40 + face * 0.75 + 14 * dots + grain, np.float32)


def _stripes(face: Floats, rng: np.random.Generator) -> Floats:
    """The pixels of a screen: a stripe of each colour, sampled at a pitch near their own, which beats; bluish."""
    period, phase = 3 * rng.uniform(0.97, 1.03), rng.uniform(0, 3)
    columns = np.arange(face.shape[1], dtype=np.float32)
    rows = np.arange(face.shape[0], dtype=np.float32)
    at = [(columns + phase) / period + third for third in (0, 1 / 3, 2 / 3)]
    lit = [1 + 0.35 * np.cos(2 * np.pi * place) for place in at]
    lines = 1 + 0.12 * np.cos(2 * np.pi * rows / (period * rng.uniform(0.97, 1.03)))
    shown = 255 * (np.clip(face, 0, 255) / 255) ** 0.9 * np.stack(lit, axis=1)[None] * lines[:, None, None]
    return np.asarray(cv2.GaussianBlur(shown * np.array([1.12, 1.0, 0.94]) + 8, (0, 0), 0.6), np.float32)


def _sheet(face: Floats, border: int, colour: float = 225.0) -> tuple[Floats, Floats]:
    """The face with a border of paper (or a bezel), and where the sheet is."""
    sheet = cv2.copyMakeBorder(face, border, border, border, border, cv2.BORDER_CONSTANT, value=(colour,) * 3)
    return np.asarray(sheet, np.float32), np.ones(sheet.shape[:2], np.float32)


def _placed(
    face: Floats,
    rim: Floats,
    room: Floats,
    rng: np.random.Generator,
    *,
    turn_deg: float = 3.0,
    tilt: float = 0.02,
    shift: int = 0,
) -> Floats:
    """The face in the room, about the middle, turned by up to `turn_deg`; its corners move by up to `tilt`."""
    height, width = face.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    turn = np.radians(rng.uniform(-turn_deg, turn_deg))
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    centre = np.array([WIDTH / 2, HEIGHT / 2]) + rng.uniform(-30, 30, 2) + shift
    moved = (corners - [width / 2, height / 2]) @ matrix.T + centre + rng.uniform(-tilt, tilt, (4, 2)) * width
    warp = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
    laid = cv2.warpPerspective(face, warp, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)
    where = cv2.warpPerspective(rim, warp, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)[:, :, None]
    return np.asarray(room * (1 - where) + laid * where, np.float32)


def _taken(picture: Floats, rng: np.random.Generator) -> Picture:
    """As the camera takes it: light from one side, brighter or darker, its own slight blur and noise."""
    slope = np.linspace(-1, 1, WIDTH, dtype=np.float32) * rng.uniform(-0.2, 0.2) + rng.uniform(0.8, 1.2)
    lit = cv2.GaussianBlur(picture * slope[None, :, None], (0, 0), 0.7)
    return _bytes(lit + np.float32(2) * rng.standard_normal(picture.shape, np.float32))


def _bytes(values: npt.NDArray[np.floating[Any]]) -> Picture:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)
