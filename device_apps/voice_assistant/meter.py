"""False accepts an hour: how many, in how many hours, and what so few can say.

A Poisson count k has the exact upper bound mu with P(X <= k; mu) = 1 - confidence (Garwood, "Fiducial limits for the
Poisson distribution", 1936).
"""

import json
import math
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from device_apps.durable import write_whole
from device_apps.voice_assistant.sound import Samples
from device_apps.voice_assistant.wake import Wake

REPLAYS = 10
SAVE_S = 60.0  # of listening: what a kill -9 can cost


def poisson_upper(count: int, confidence: float = 0.95) -> float:
    """The upper bound of a Poisson mean when `count` was seen: 3.0 at 0, one-sided."""
    low, high = float(count), count + 10 * math.sqrt(count + 1) + 10
    for _ in range(80):
        middle = (low + high) / 2
        if _poisson_cdf(count, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def poisson_lower(count: int, confidence: float = 0.95) -> float:
    """The lower bound, one-sided: 0 at 0."""
    if count == 0:
        return 0.0
    low, high = 0.0, float(count)
    for _ in range(80):
        middle = (low + high) / 2
        if 1 - _poisson_cdf(count - 1, middle) > 1 - confidence:
            high = middle
        else:
            low = middle
    return low


def _poisson_cdf(count: int, mean: float) -> float:
    term = total = math.exp(-mean)
    for k in range(1, count + 1):
        term *= mean / k
        total += term
    return total


@dataclass(frozen=True)
class Reading:
    """Hours that were listened, wake words heard, and which of them somebody called wrong or nobody spoke after."""

    hours: float
    accepts: int
    false_accepts: int

    def as_plain(self) -> dict[str, float | int | None]:
        """As plain data, with the rate's upper bound at 95 %; None where nothing was listened yet."""
        rate = None if self.hours < 1e-3 else self.false_accepts / self.hours
        upper = None if rate is None else poisson_upper(self.false_accepts) / self.hours
        return {
            "hours": round(self.hours, 4),
            "accepts": self.accepts,
            "false_accepts": self.false_accepts,
            "false_accepts_per_h": None if rate is None else round(rate, 3),
            "upper95_per_h": None if upper is None else round(upper, 3),
        }


@dataclass(frozen=True)
class Replay:
    """What was heard when a wake word fired. In memory only."""

    number: int
    at: float
    wake: Wake
    samples: Samples


class Meter:
    """Counts, keeps the counts in a file, and the sound of the last triggers in memory."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._reading = _read(path)
        self._listened_s = self._reading.hours * 3600
        self._unsaved_s = 0.0
        self._replays: deque[Replay] = deque(maxlen=REPLAYS)
        self._number = 0
        self._wrong: set[int] = set()

    def listened(self, seconds: float) -> None:
        """So much more was listened to. Raises EnvironmentFailed: the counts cannot be kept."""
        with self._lock:
            self._listened_s += seconds
            self._unsaved_s += seconds
            due = self._unsaved_s >= SAVE_S
        if due:
            self.save()

    def accepted(self, wake: Wake, samples: Samples, at: float) -> int:
        """A wake word was heard; the number of its replay."""
        with self._lock:
            self._number += 1
            self._replays.append(Replay(self._number, at, wake, samples))
            old = self._reading
            self._reading = Reading(old.hours, old.accepts + 1, old.false_accepts)
            return self._number

    def was_false(self, number: int) -> bool:
        """Whether that is news: a trigger of this run that was not called wrong before."""
        with self._lock:
            if number in self._wrong or not any(one.number == number for one in self._replays):
                return False
            self._wrong.add(number)
            old = self._reading
            self._reading = Reading(old.hours, old.accepts, old.false_accepts + 1)
        self.save()
        return True

    def replay(self, number: int) -> Replay | None:
        """What was heard at a trigger."""
        with self._lock:
            return next((one for one in self._replays if one.number == number), None)

    def replays(self) -> tuple[Replay, ...]:
        """The last triggers, the oldest first."""
        with self._lock:
            return tuple(self._replays)

    def forget(self) -> None:
        """Drop the sound of all triggers; the counts stay."""
        with self._lock:
            self._replays.clear()

    @property
    def reading(self) -> Reading:
        """The counts now."""
        with self._lock:
            return Reading(self._listened_s / 3600, self._reading.accepts, self._reading.false_accepts)

    def save(self) -> None:
        """Keep the counts. Raises EnvironmentFailed: they cannot be written."""
        now = self.reading
        with self._lock:
            self._unsaved_s = 0.0
        kept = {"hours": now.hours, "accepts": now.accepts, "false_accepts": now.false_accepts}
        write_whole(self._path, json.dumps(kept).encode())


def _read(path: Path) -> Reading:
    """The counts; none where the file is not there or damaged, since a count is no reason not to listen."""
    try:
        data = json.loads(path.read_bytes())
        found = Reading(float(data["hours"]), int(data["accepts"]), int(data["false_accepts"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Reading(0.0, 0, 0)
    sane = math.isfinite(found.hours) and found.hours >= 0 and 0 <= found.false_accepts <= found.accepts
    return found if sane else Reading(0.0, 0, 0)
