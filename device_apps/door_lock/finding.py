"""What was found in one frame: the facts that decisions are made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from device_apps.door_lock.detect import Face
from device_apps.door_lock.match import Match
from device_apps.door_lock.quality import Quality


@dataclass(frozen=True)
class Finding:
    """One frame, looked at.

    `captured_s` is when the frame came, on the monotonic clock. `shortcomings` are why a face was not compared (advice
    in words); `live` is the probability that it is a person, None where it was not asked; `match` None where the face
    was not compared. `stages_ms` has the milliseconds of each stage, `NAME.model` those inside the model's run call.
    """

    captured_s: float
    faces: tuple[Face, ...] = ()
    quality: Quality | None = None
    shortcomings: tuple[str, ...] = ()
    live: float | None = None
    is_live: bool = False
    match: Match | None = None
    stages_ms: Mapping[str, float] = field(default_factory=dict)
