"""Vision with the people who are enrolled now: models, calibration and templates opened together."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from device_apps.door_lock.counted import Question, What
from device_apps.door_lock.detect import Picture
from device_apps.door_lock.finding import Finding
from device_apps.door_lock.match import Calibration, Gallery, read_calibration
from device_apps.door_lock.models import open_models
from device_apps.door_lock.people import Refused
from device_apps.door_lock.policy import Policy
from device_apps.door_lock.state import State
from device_apps.door_lock.vision import Vision
from edge.errors import BadInput

REMEMBERED = 16  # frames: a second and more, within which a decision asks
# Asked for what counted, the models are taken from the frames for so long at a time: a seventh of how old one may be
TURN_S, PAUSE_S = 0.06, 0.02


@dataclass(frozen=True)
class _Seen:
    """What a model saw of the face in one frame, and whose templates were nearest to it."""

    captured_s: float
    what: What
    picture: Picture
    nearest: str | None


def open_vision(policy: Policy, folder: Path, gallery: Gallery | None = None) -> Vision:
    """The stages on the models that the settings name, which stand in `folder`. Raises as `open_models`."""
    engines = open_models(policy.models, folder)
    try:
        return Vision(engines, policy, gallery)
    except Exception:
        for engine in engines.values():
            engine.close()
        raise


class Recogniser:
    """A frame to a finding, with whoever is enrolled at that moment: a revoked person is unknown at the next frame.

    Raises:
        EdgetoolError: a model, its calibration or the people cannot be opened.

    """

    def __init__(
        self, state: State, policy: Policy, folder: Path, refused: Callable[[tuple[Refused, ...]], None]
    ) -> None:
        self._state, self._policy, self._refused = state, policy, refused
        self.calibration: Calibration = read_calibration(state.calibration, policy.models.embedder.sha256)
        self._people = state.people()
        self._changed = -1
        self._vision = open_vision(policy, folder)
        self._in_use = threading.Lock()
        self._seen: deque[_Seen] = deque(maxlen=REMEMBERED)

    def __call__(self, picture: Picture, captured_s: float) -> Finding:
        """BGR [H, W, 3] and when it came to what is in it."""
        with self._in_use:
            self._follow()
            finding = self._vision(picture, captured_s)
            seen = self._vision.seen(finding)
        if seen is not None:
            nearest = None if finding.match is None else finding.match.nearest
            self._seen.append(_Seen(captured_s, *seen, nearest))
        return finding

    def question(self, captured_s: float) -> Question | None:
        """What a frame's decision rested on is asked by this; None where it is forgotten, or it had no face to compare.

        The score is for another thread: a frame waits for `TURN_S` and one run of a model at most.
        """
        seen = next((one for one in tuple(self._seen) if one.captured_s == captured_s), None)
        if seen is None:
            return None
        if seen.what == "not live":
            return Question(seen.what, seen.picture, lambda pictures: self._each(self._vision.spoof_margin, pictures))
        gallery = self._vision.gallery
        templates = None if gallery is None or seen.nearest is None else gallery.templates_of(seen.nearest)
        if templates is None:
            return None
        return Question(
            seen.what,
            seen.picture,
            lambda pictures: self._each(lambda one: float((templates @ self._vision.embed(one)).max()), pictures),
        )

    def _each(self, score: Callable[[Picture], float], pictures: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        found: list[float] = []
        while len(found) < len(pictures):
            with self._in_use:
                until = time.monotonic() + TURN_S
                found.append(score(pictures[len(found)]))
                while len(found) < len(pictures) and time.monotonic() < until:
                    found.append(score(pictures[len(found)]))
            time.sleep(PAUSE_S)
        return np.array(found)

    def _follow(self) -> None:
        try:
            changed = os.stat(self._state.people_folder).st_mtime_ns  # noqa: PTH116  # once a frame
        except OSError as error:
            self._vision.gallery = None
            raise BadInput(f"the templates cannot be read: {error.strerror}") from error
        if changed == self._changed:
            return
        self._vision.gallery = None
        people, refused = self._people.load(self._policy.models.embedder.sha256)
        self._vision.gallery = Gallery(people, self.calibration.threshold, self._policy.matching.margin)
        self._changed = changed
        if refused:
            self._refused(refused)
