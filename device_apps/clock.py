"""The two clocks of a device: one that only goes forward, and one that people read and that may be set."""

import time
from typing import Protocol


class Clock(Protocol):
    """Both clocks, in seconds."""

    def monotonic(self) -> float:
        """Never set, never backwards; it says nothing after a reboot. All decisions use it."""
        ...

    def wall(self) -> float:
        """Seconds since 1970; anyone may set it. For people to read."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()


class FakeClock:
    """A clock that stands still until it is moved: for tests and for replaying a record."""

    def __init__(self, monotonic: float = 1000.0, wall: float = 1_700_000_000.0) -> None:
        self._monotonic, self._wall = monotonic, wall

    def monotonic(self) -> float:
        return self._monotonic

    def wall(self) -> float:
        return self._wall

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        self._monotonic += seconds
        self._wall += seconds

    def set_wall(self, wall: float) -> None:
        """What somebody who sets the clock does."""
        self._wall = wall


class ClockWatch:
    """Notices that the wall clock was set, or that the machine slept: the two clocks drift apart at once."""

    def __init__(self, clock: Clock, allowed_s: float = 2.0) -> None:
        self._clock, self._allowed_s = clock, allowed_s
        self._offset = clock.wall() - clock.monotonic()

    def jump(self) -> float:
        """By how many seconds the wall clock jumped since the last call; 0 where it did not.

        What is below the allowed seconds is slewing, and is followed.
        """
        offset = self._clock.wall() - self._clock.monotonic()
        moved, self._offset = offset - self._offset, offset
        return moved if abs(moved) > self._allowed_s else 0.0
