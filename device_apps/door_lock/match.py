"""Open-set identification: whose face it is, if it is anybody's."""

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from device_apps.door_lock.embed import Embedding
from device_apps.door_lock.people import Person, Templates
from device_apps.durable import write_whole
from edge.errors import BadInput

SCHEMA = "edgetool.door-lock.calibration/1"


@dataclass(frozen=True)
class Calibration:
    """The similarity above which two faces are one person's, and what it stands on.

    `fmr` is the false match rate that was asked for, `fmr_upper95` the upper end of the 95 % interval of the one that
    was seen on `impostor_trials` trials of `people` people. It holds for one embedder only: `model_sha256`.
    """

    threshold: float
    model_sha256: str
    fmr: float
    fmr_upper95: float
    fnmr: float
    impostor_trials: int
    genuine_trials: int
    people: int
    schema: str = SCHEMA

    def __post_init__(self) -> None:
        rates = (self.fmr, self.fmr_upper95, self.fnmr)
        if self.schema != SCHEMA or not 0 < self.threshold < 1 or not all(0 <= rate <= 1 for rate in rates):
            raise ValueError(f"schema {self.schema!r}, threshold {self.threshold}, rates {rates}")


@dataclass(frozen=True)
class Match:
    """What a face was found to be. `person` is None where it is nobody's or it cannot be told whose; `nearest` is
    whose templates were nearest all the same, `similarity` and `runner_up` the cosines of the two nearest people.
    """

    person: str | None
    nearest: str | None
    similarity: float
    runner_up: float
    reason: str


class Gallery:
    """The templates of all people, compared by cosine.

    A person's similarity is that of the nearest template. It has to reach `threshold`, and lie `margin` above the
    second person's: of two enrolled people who look alike neither is taken for the other.
    """

    def __init__(self, people: Sequence[Person], threshold: float, margin: float) -> None:
        self._ids = tuple(person.id for person in people)
        self._starts = np.cumsum([0, *(len(person.templates) for person in people)])[:-1]
        self._templates = np.concatenate([person.templates for person in people]) if people else None
        self._threshold, self._margin = threshold, margin

    def templates_of(self, person: str) -> Templates | None:
        """The templates [n, dimensions] of a person; None where the person is not enrolled (any more)."""
        if self._templates is None or person not in self._ids:
            return None
        own: Templates = np.split(self._templates, self._starts[1:])[self._ids.index(person)]
        return own

    def match(self, embedding: Embedding) -> Match:
        """[dimensions], of length 1, to the person it is."""
        if self._templates is None:
            return Match(None, None, -1.0, -1.0, "nobody is enrolled")
        if embedding.shape != self._templates.shape[1:]:
            raise BadInput(f"an embedding of {embedding.shape}, but templates of {self._templates.shape[1:]}")
        scores = np.maximum.reduceat(self._templates @ embedding, self._starts)
        order = np.argsort(-scores, kind="stable")
        best, nearest = float(scores[order[0]]), self._ids[int(order[0])]
        second = float(scores[order[1]]) if len(order) > 1 else -1.0
        if not best >= self._threshold:  # NaN too is nobody
            return Match(None, nearest, best, second, "not enrolled")
        if best - second < self._margin:
            return Match(None, nearest, best, second, "cannot tell two enrolled people apart")
        return Match(nearest, nearest, best, second, "enrolled")


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write it, whole. Raises EnvironmentFailed: it cannot be written."""
    write_whole(path, (json.dumps(dataclasses.asdict(calibration), indent=2) + "\n").encode())


def read_calibration(path: Path, model_sha256: str) -> Calibration:
    """The calibration in a file, if it is that of the embedder.

    Raises:
        BadInput: the file is missing or damaged, or was made with another model.

    """
    try:
        data = json.loads(path.read_text())
        calibration = Calibration(**{field.name: data[field.name] for field in dataclasses.fields(Calibration)})
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}", "`calibrate` makes it") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} is damaged: {error}", "`calibrate` makes it anew") from error
    if calibration.model_sha256 != model_sha256:
        raise BadInput(
            f"{path.name} is of the model {calibration.model_sha256[:12]}, the embedder is {model_sha256[:12]}",
            "`calibrate` makes it for this model",
        )
    return calibration


def threshold_for(impostors: Sequence[float], fmr: float) -> float:
    """The lowest threshold that at most a fraction `fmr` of the impostors' similarities reach.

    Raises:
        BadInput: there are fewer than 1 / `fmr` trials: what they say of such a rate is nothing.

    """
    scores = np.sort(np.asarray(impostors, np.float64))[::-1]
    if len(scores) * fmr < 1:
        raise BadInput(
            f"{len(scores)} impostor trials cannot show a false match rate of {fmr:g}",
            f"{math.ceil(1 / fmr)} are needed, or ask for a higher rate",
        )
    allowed = int(len(scores) * fmr)
    return float(np.nextafter(scores[allowed], np.inf))


def wilson_upper(errors: int, trials: int) -> float:
    """The upper end of the 95 % score interval of a rate: Wilson, JASA 1927."""
    if not trials:
        return 1.0
    z, rate = 1.959964, errors / trials
    middle = rate + z * z / (2 * trials)
    spread = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    return min(1.0, (middle + spread) / (1 + z * z / trials))
