"""Which part of a face a decision rested on: a picture, made by occlusion after the lock has acted.

A match is asked what its similarity rests on, a face that was found not to be live what speaks against it. The models
are asked between the frames, so that the lock goes on seeing meanwhile.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from device_apps.door_lock.align import TEMPLATE
from device_apps.door_lock.detect import Picture
from device_apps.events import Event
from edge.errors import EdgetoolError
from edge.occlusion import Occlusion, blurred, occlude

What = Literal["similarity", "not live"]
Score = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]

RUNS = 80
PARTS = (4, 8)  # patches along an axis: of 28 and of 14 pixels of an aligned face
SIDE = 224
JPEG_QUALITY = 85
ACTED = frozenset({"unlock", "waiting", "failed", "fault"})  # what follows an accepted face at once
NAMES = ("left eye", "right eye", "nose", "left of the mouth", "right of the mouth", "forehead", "chin")
PLACES = np.concatenate([TEMPLATE, np.array([[56.0, 18.0], [56.0, 108.0]], np.float32)])


@dataclass(frozen=True)
class Question:
    """A face as a model saw it, BGR [h, w, 3], and the score [n] of such pictures [n, h, w, 3]: what it rested on."""

    what: What
    picture: Picture
    score: Score


def answered(question: Question) -> Occlusion:
    """How much each part counted. Raises EdgetoolError: the model fails."""
    picture = question.picture
    return occlude(picture, blurred(picture, (0, 1)), (0, 1), question.score, parts=PARTS, budget=RUNS)


def words(question: Question, found: Occlusion) -> str:
    """What it rested on, in one sentence; parts are named as they are seen, on an aligned face."""
    if not found.explains or found.deletion.faithful is False:
        return "no part of the face counted more than the rest"
    drops = [region for region in found.regions if region.drop > found.noise]
    if question.what == "not live" or not drops:
        return "what counted most is marked"
    middles = [((r.start[1] + r.stop[1]) / 2, (r.start[0] + r.stop[0]) / 2) for r in drops[:3]]
    nearest = [NAMES[int(np.linalg.norm(PLACES - middle, axis=1).argmin())] for middle in middles]
    return f"the match rests most on: {', '.join(dict.fromkeys(nearest))}"


def marked(picture: Picture, found: Occlusion) -> Picture:
    """The face, BGR [224, 224, 3], grey where nothing counted, red where it spoke for the decision, blue against."""
    heat = cv2.GaussianBlur(found.heat, (0, 0), picture.shape[0] / 40)
    strength = np.abs(heat) / max(float(np.abs(heat).max()), 1e-12)
    share = cv2.resize(0.65 * strength, (SIDE, SIDE))[:, :, None]
    sign = cv2.resize(heat, (SIDE, SIDE))[:, :, None] >= 0
    grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    colour = np.where(sign, np.array([40, 40, 230]), np.array([230, 120, 40]))
    mixed = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) * (1 - share) + colour * share
    return np.asarray(np.clip(np.rint(mixed), 0, 255), np.uint8)


class WhatCounted:
    """A listener that makes the picture of each decision and tells `counted`.

    `ask` gives the question to a frame, by when it came; None where it is forgotten or no face was compared. `show`
    gets the picture as JPEG: it goes to whoever may see the camera, and into no event.
    """

    def __init__(
        self, ask: Callable[[float], Question | None], tell: Callable[..., None], show: Callable[[bytes], None]
    ) -> None:
        self._ask, self._tell, self._show = ask, tell, show
        self._waiting: Event | None = None

    def __call__(self, event: Event) -> None:
        """Take one event; after a decision this takes seconds (`events.Background` lets nobody wait for it)."""
        if self._waiting is not None and (event.kind in ACTED or event.kind == "frame"):
            decided, self._waiting = self._waiting, None
            self._make(decided)
        if event.kind == "frame" and event.fields["outcome"] == "accept":
            self._waiting = event  # the lock acts on it now
        elif event.kind == "frame" and event.fields["outcome"] == "refuse":
            self._make(event)

    def _make(self, decided: Event) -> None:
        question = self._ask(decided.fields["captured_s"])
        if question is None:
            return
        fields = {"outcome": decided.fields["outcome"], "person": decided.fields["person"], "what": question.what}
        try:
            found = answered(question)
        except EdgetoolError as error:
            self._tell("counted", **fields, reasons=[error.message])
            return
        picture = marked(question.picture, found)
        self._show(bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]))
        scale = 1 / question.picture.shape[0]
        best = [r for r in found.regions if r.drop > found.noise][:3]
        regions = [[round(v * scale, 3) for v in (r.start[1], r.start[0], r.stop[1], r.stop[0])] for r in best]
        self._tell(
            "counted",
            **fields,
            reasons=[words(question, found)],
            score=round(found.score, 4),
            drops=[round(r.drop, 4) for r in best],
            regions=regions,
            runs=found.runs,
        )
