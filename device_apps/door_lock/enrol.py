"""Enrolment: several good shots of one live person, different enough from one another, unlike anybody else's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from device_apps.door_lock.embed import Embedding
from device_apps.door_lock.finding import Finding
from device_apps.door_lock.people import Person, Templates

SHOTS = 5
# Nearer than this two shots are one view: frames of a face that keeps still have 0.99 and more
MAX_LIKENESS = 0.985
LOOK_ALIKE = 0.1  # below the threshold by this much is still worth a warning
TURNED, NODDED = 0.08, 0.06  # what counts as another pose, in the units of Quality.yaw and Quality.pitch

ShotOutcome = Literal["taken", "not taken", "complete"]


@dataclass(frozen=True)
class Shot:
    """One picture's contribution: the embedding and the pose it was taken in."""

    embedding: Embedding
    yaw: float
    pitch: float


@dataclass(frozen=True)
class Advice:
    """What came of one frame, and what to do next, in words."""

    outcome: ShotOutcome
    text: str
    taken: int
    wanted: int


class Enrolment:
    """The shots of one person so far. `threshold` is the calibrated similarity of two faces of one person."""

    def __init__(self, threshold: float, wanted: int = SHOTS) -> None:
        self._threshold, self._wanted = threshold, wanted
        self._shots: tuple[Shot, ...] = ()

    def offer(self, finding: Finding, embedding: Embedding | None) -> Advice:
        """Look at one more frame, and take it where it adds something."""
        if self.is_complete:
            return self._advice("complete", "all shots are taken")
        wrong = _wrong(finding) or self._unfit(embedding)
        if wrong is not None or embedding is None or finding.quality is None:
            return self._advice("not taken", wrong or "the face could not be compared")
        self._shots = (*self._shots, Shot(embedding, finding.quality.yaw, finding.quality.pitch))
        if self.is_complete:
            return self._advice("complete", "all shots are taken")
        return self._advice("taken", self._pose())

    @property
    def is_complete(self) -> bool:
        """Whether there are enough shots."""
        return len(self._shots) >= self._wanted

    def templates(self) -> Templates:
        """The embeddings of all shots: [shots, dimensions]."""
        return np.stack([shot.embedding for shot in self._shots])

    def _unfit(self, embedding: Embedding | None) -> str | None:
        """Why a face adds nothing to the shots that are there."""
        if embedding is None or not self._shots:
            return None
        likeness = float((self.templates() @ embedding).max())
        if likeness < self._threshold:
            return "this is another person than before"
        return self._pose() if likeness > MAX_LIKENESS else None

    def _advice(self, outcome: ShotOutcome, text: str) -> Advice:
        return Advice(outcome, text, len(self._shots), self._wanted)

    def _pose(self) -> str:
        """A pose that is not there yet, relative to the first shot."""
        first = self._shots[0]
        turns = [shot.yaw - first.yaw for shot in self._shots]
        nods = [shot.pitch - first.pitch for shot in self._shots]
        if min(turns) > -TURNED:
            return "turn your head a little to one side"
        if max(turns) < TURNED:
            return "turn your head a little to the other side"
        if max(nods) < NODDED:
            return "lower your chin a little"
        if min(nods) > -NODDED:
            return "raise your chin a little"
        return "change your expression, or take a step"


def _wrong(finding: Finding) -> str | None:
    """Why no shot can be taken of a frame."""
    if len(finding.faces) != 1:
        return "only one person, please" if finding.faces else "no face"
    if finding.shortcomings:
        return finding.shortcomings[0]
    return None if finding.is_live else "this does not look like a living face"


@dataclass(frozen=True)
class Resemblance:
    """An enrolled person who looks like a new one: the same, or near enough to be taken for them."""

    person: Person
    similarity: float
    is_duplicate: bool


def resemblances(templates: Templates, people: Sequence[Person], threshold: float) -> tuple[Resemblance, ...]:
    """Whom of the enrolled the new templates [n, dimensions] look like, nearest first.

    From `threshold` on the lock would take one for the other: a duplicate. Up to `LOOK_ALIKE` below, a look-alike.
    """
    found = [(person, float((person.templates @ templates.T).max())) for person in people]
    near = [
        Resemblance(person, value, value >= threshold) for person, value in found if value >= threshold - LOOK_ALIKE
    ]
    return tuple(sorted(near, key=lambda one: -one.similarity))
