"""The picture of an explanation, as PNG: the input with its heat and a scale; of a table, bars.

Red is what raised the score (without it the score drops), blue what lowered it. OpenCV draws; its own font has Unicode.
"""

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.occlusion import Occlusion
from edgetool.explain_input import Subject
from edgetool.explanation import Explanation

Canvas = npt.NDArray[np.uint8]
Heat = npt.NDArray[np.float64]

PANEL = 384  # pixels of the longer side of a picture, at least
WIDTH = 840
MARGIN, LINE = 24, 24
TEXT, SMALL = 17, 14
INK, GREY = (30, 30, 30), (110, 110, 110)
RED, BLUE = np.array([202.0, 0.0, 32.0]), np.array([5.0, 113.0, 176.0])  # ColorBrewer RdBu, told apart by anyone
MOST_BARS = 24


def draw(explanation: Explanation, subject: Subject, found: Occlusion) -> bytes:
    """The whole picture as the bytes of a PNG file."""
    import cv2

    if subject.kind == "table":
        body = _bars(found.heat, subject.names)
    elif subject.kind == "sound":
        body = _wave(subject, found)
    else:
        body = _pictures(subject, found)
    scale = _scale(found, subject, "value" if explanation.class_index is None else "score")
    title = [explanation.title, f"{explanation.input}; replaced by {explanation.baseline}"]
    parts = [_lines(title), body, scale, _lines([explanation.check, explanation.verdict], small=True)]
    width = max(WIDTH, *(part.shape[1] + 2 * MARGIN for part in parts))
    canvas = np.full((sum(part.shape[0] for part in parts) + MARGIN, width, 3), 255, np.uint8)
    top = MARGIN // 2
    for part in parts:
        canvas[top : top + part.shape[0], MARGIN : MARGIN + part.shape[1]] = part
        top += part.shape[0]
    _, encoded = cv2.imencode(".png", canvas[:, :, ::-1])
    return bytes(encoded.tobytes())


def _pictures(subject: Subject, found: Occlusion) -> Canvas:
    """The input, and the input with its heat, side by side."""
    shown = _picture(subject)
    heat = found.heat
    if subject.kind == "features":  # time to the right, the higher frequency above
        shown, heat = np.flip(shown.swapaxes(0, 1), 0), np.flip(heat.T, 0)
    rows, columns = heat.shape
    factor = max(1, math.ceil(PANEL / max(rows, columns)))
    shown, heat = _enlarged(shown, factor), _enlarged(heat, factor)
    over = _overlay(shown, heat, found)
    if shown.shape[1] > WIDTH // 2:
        gap = np.full((MARGIN // 2, shown.shape[1], 3), 255, np.uint8)
        return np.concatenate([shown, gap, over])
    gap = np.full((shown.shape[0], MARGIN, 3), 255, np.uint8)
    return np.concatenate([shown, gap, over], axis=1)


def _picture(subject: Subject) -> Canvas:
    """RGB bytes [rows, columns, 3] of a picture or of features, stretched from its least to its largest value."""
    values = np.moveaxis(subject.example, subject.axes, (0, 1)).astype(np.float64)
    values = values.reshape(*values.shape[:2], -1)
    low, high = values.min(), values.max()
    stretched = (values - low) / ((high - low) or 1.0) * 255
    if stretched.shape[2] not in {1, 3}:
        stretched = stretched.mean(axis=2, keepdims=True)
    return np.broadcast_to(stretched, (*stretched.shape[:2], 3)).astype(np.uint8)


def _overlay(shown: Canvas, heat: Heat, found: Occlusion) -> Canvas:
    """The picture in pale grey with the heat over it: the stronger, the less of the picture is seen."""
    pale = 165 + shown.mean(axis=2, keepdims=True) * 0.35
    strength, colour = _colours(heat, found)
    return np.asarray(pale * (1 - strength) + colour * strength, np.uint8)


def _colours(heat: Heat, found: Occlusion) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    most = _most(found)
    share = np.clip(np.abs(heat) / most, 0, 1)[..., None] if most else np.zeros((*heat.shape, 1))
    return 0.85 * share**0.75, np.where(heat[..., None] > 0, RED, BLUE)


def _most(found: Occlusion) -> float:
    return float(np.abs(found.heat).max()) if found.explains else 0.0


def _enlarged(values: npt.NDArray[Any], factor: int) -> npt.NDArray[Any]:
    return values.repeat(factor, axis=0).repeat(factor, axis=1)


def _wave(subject: Subject, found: Occlusion) -> Canvas:
    """The envelope of the samples, on a background of heat; seconds (or samples) below."""
    import cv2

    height, width = 220, WIDTH - 2 * MARGIN
    samples = subject.example.reshape(-1).astype(np.float64)
    edges = np.linspace(0, len(samples), width + 1).astype(int)
    peak = float(np.abs(samples).max()) or 1.0
    heat = np.array([found.heat[a : max(b, a + 1)].mean() for a, b in itertools.pairwise(edges.tolist())])
    strength, colour = _colours(heat, found)
    background = 255 * (1 - strength) + colour * strength
    body = np.broadcast_to(background[None], (height, width, 3)).astype(np.uint8).copy()
    for column, (a, b) in enumerate(itertools.pairwise(edges.tolist())):
        piece = samples[a : max(b, a + 1)] / peak * (height / 2 - 6)
        top, bottom = int(height / 2 - piece.max()), int(height / 2 - piece.min())
        cv2.line(body, (column, top), (column, bottom), INK, 1)
    axis = np.full((LINE, width, 3), 255, np.uint8)
    end = len(samples) * subject.unit_s if subject.unit_s else len(samples)
    unit = "s" if subject.unit_s else "samples"
    for tick in range(5):
        place = {0: 0, 4: width}.get(tick, tick * width // 4)
        _write(axis, f"{end * tick / 4:.4g} {unit}", place, LINE - 7, anchor=(0, 0.5, 0.5, 0.5, 1)[tick])
    return np.concatenate([body, axis])


def _bars(heat: Heat, names: tuple[str, ...]) -> Canvas:
    """One bar a column, the longest first: to the right where it spoke for the score."""
    order = np.argsort(-np.abs(heat), kind="stable")[:MOST_BARS]
    width, row = WIDTH - 2 * MARGIN, 26
    body = np.full((row * len(order) + (LINE if len(heat) > len(order) else 0), width, 3), 255, np.uint8)
    left, right = 260, width - 90
    most = float(np.abs(heat).max()) or 1.0
    both = bool((heat[order] < 0).any())
    zero = (left + right) // 2 if both else left
    reach = right - zero
    for number, index in enumerate(order.tolist()):
        value, y = float(heat[index]), row * number
        end = zero + round(reach * value / most)
        colour = RED if value > 0 else BLUE
        body[y + 5 : y + row - 5, min(zero, end) : max(zero, end) + 1] = colour.astype(np.uint8)
        _write(body, names[index][:32], left - 100 if both else left - 10, y + 18, anchor=1.0)
        _write(body, f"{value:+.3g}", width, y + 18, anchor=1.0)
    body[: row * len(order), zero] = GREY
    if len(heat) > len(order):
        _write(
            body,
            f"and {len(heat) - len(order)} more columns that counted less",
            left - 100 if both else left - 10,
            body.shape[0] - 6,
            anchor=1.0,
        )
    return body


def _scale(found: Occlusion, subject: Subject, what: str) -> Canvas:
    """What the colours mean: shares of the strongest heat, beside the patch that moved the score most."""
    body = np.full((58, WIDTH - 2 * MARGIN, 3), 255, np.uint8)
    if subject.kind == "table":
        _write(body, f"drop of the {what} when the column is replaced: red raised it, blue lowered it", 0, 24)
        return body[:36]
    most = _most(found)
    if not most:
        _write(body, f"no heat: nothing moved the {what}", 0, 24)
        return body[:36]
    strength, colour = _colours(np.linspace(-most, most, 300), found)
    body[14:30, :300] = (235 * (1 - strength) + colour * strength).astype(np.uint8)[None]
    for place, anchor, words in ((0, 0.0, f"lowers the {what}"), (300, 1.0, "raises it")):
        _write(body, words, place, 46, anchor=anchor)
    patch = found.regions[0]
    _write(body, f"strongest patch: the {what} drops by {patch.drop:.3g} without", 324, 27)
    _write(body, subject.place(patch.start, patch.stop), 324, 46)
    return body


def _lines(texts: list[str], *, small: bool = False) -> Canvas:
    body = np.full((LINE * len(texts) + 12, WIDTH - 2 * MARGIN, 3), 255, np.uint8)
    for number, text in enumerate(texts):
        _write(body, text, 0, LINE * (number + 1) - 4, size=SMALL if small or number else TEXT)
    return body


def _write(canvas: Canvas, text: str, x: int, y: int, *, size: int = SMALL, anchor: float = 0.0) -> None:
    """Text with its base line at `y`, beginning (0), centred (0.5) or ending (1) at `x`; cut where it does not fit."""
    import cv2

    font = cv2.FontFace("sans")
    (_, _, width, _) = cv2.getTextSize(canvas.shape[1::-1], text, (0, 0), font, size)
    while anchor == 0.0 and x + width > canvas.shape[1] and len(text) > 8:
        text = f"{text[:-4].rstrip()}\N{HORIZONTAL ELLIPSIS}"
        (_, _, width, _) = cv2.getTextSize(canvas.shape[1::-1], text, (0, 0), font, size)
    cv2.putText(canvas, text, (int(x - anchor * width), y), INK, font, size)
