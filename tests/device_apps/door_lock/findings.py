"""Findings as the vision stages give them, for tests of what decides on them."""

import numpy as np

from device_apps.door_lock.detect import Face
from device_apps.door_lock.finding import Finding
from device_apps.door_lock.match import Match
from device_apps.door_lock.quality import Quality

QUALITY = Quality(80.0, 400.0, 120.0, 45.0, 0.0, 0.0, 0.5, 0.0)
FACE = Face((100.0, 100.0, 120.0, 150.0), np.zeros((5, 2), np.float32), 0.95)


def match(person: str | None, reason: str = "not enrolled") -> Match:
    if person is None:
        return Match(None, "ann", 0.2, 0.1, reason)
    return Match(person, person, 0.8, 0.1, "enrolled")


def finding(at: float, person: str | None = "ann", *, faces: int = 1, live: float = 0.99, wrong: str = "") -> Finding:
    """A face of `person`, as the camera gave it at `at`; `wrong` is what its quality lacks."""
    if faces != 1 or wrong:
        return Finding(at, (FACE,) * faces, None, (wrong,) if wrong else ())
    is_live = live >= 0.5
    return Finding(at, (FACE,), QUALITY, (), live, is_live, match(person) if is_live else None)
