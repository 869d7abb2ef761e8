"""Vision with the people who are enrolled now: models, calibration and templates opened together."""

import os
from collections.abc import Callable
from pathlib import Path

from device_apps.door_lock.detect import Picture
from device_apps.door_lock.finding import Finding
from device_apps.door_lock.match import Calibration, Gallery, read_calibration
from device_apps.door_lock.models import open_models
from device_apps.door_lock.people import Refused
from device_apps.door_lock.policy import Policy
from device_apps.door_lock.state import State
from device_apps.door_lock.vision import Vision
from edge.errors import BadInput


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

    def __call__(self, picture: Picture, captured_s: float) -> Finding:
        """BGR [H, W, 3] and when it came to what is in it."""
        self._follow()
        return self._vision(picture, captured_s)

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
