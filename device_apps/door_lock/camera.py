"""The newest frame of a source, and how old it is. A thread reads, so that nothing queues up behind slow inference.

A camera that is stopped, or whose connection hangs, blocks the thread for as long as the library pleases (6 s were
seen); the age of the newest frame is what tells, not the thread.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from device_apps.clock import Clock
from device_apps.door_lock.detect import Picture
from device_apps.door_lock.source import Source
from edge.errors import BadData, EdgetoolError

State = Literal["opening", "streaming", "lost", "ended"]
FIRST_RETRY_S, MAX_RETRY_S = 0.25, 4.0
OPENING_S = 5.0  # a network camera may take as long until its first frame


@dataclass(frozen=True)
class Frame:
    """A picture, when it came (monotonic clock), and its number from 1."""

    picture: Picture
    captured_s: float
    number: int


class Camera:
    """Reads a source in a thread of its own, reopens it when it is lost, and keeps the newest frame only."""

    def __init__(self, open_it: Callable[[], Source], clock: Clock) -> None:
        self._open, self._clock = open_it, clock
        self._condition = threading.Condition()
        self._frame: Frame | None = None
        self._state: State = "opening"
        self._reason = "the camera is being opened"
        self._since_s = clock.monotonic()
        self._stopping = threading.Event()
        self.damaged = 0
        self.losses = 0
        self._number = 0
        self._thread = threading.Thread(target=self._read, name="camera", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Stop reading; a thread that hangs in a library is left behind and ends with the process."""
        self._stopping.set()
        with self._condition:
            self._condition.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=1.0)

    def newer_than(self, number: int, timeout_s: float) -> Frame | None:
        """The newest frame once there is one after `number`; None where none comes in time."""
        with self._condition:
            self._condition.wait_for(lambda: self._is_newer(number) or self._stopping.is_set(), timeout_s)
            return self._frame if self._is_newer(number) else None

    @property
    def ended(self) -> bool:
        """Whether a file is through."""
        return self._state == "ended"

    def fault(self, now_s: float, lost_ms: float) -> str | None:
        """Why the camera cannot be relied on now; None where its newest frame is younger than `lost_ms`."""
        with self._condition:
            state, reason, frame, since = self._state, self._reason, self._frame, self._since_s
        if state == "opening":
            late = now_s - since > OPENING_S
            return f"the camera gave no frame for {OPENING_S:.0f} s after it was opened" if late else reason
        if state != "streaming" or frame is None:
            return reason
        age_ms = (now_s - frame.captured_s) * 1000
        return f"the camera is silent: no frame for {lost_ms:.0f} ms" if age_ms > lost_ms else None

    def _is_newer(self, number: int) -> bool:
        return self._frame is not None and self._frame.number > number

    def _read(self) -> None:
        retry_s = FIRST_RETRY_S
        while not self._stopping.is_set():
            try:
                source = self._open()
            except EdgetoolError as error:
                self._lose(error.message)
                self._stopping.wait(retry_s)
                retry_s = min(MAX_RETRY_S, retry_s * 2)
                continue
            before = self._number
            try:
                self._drain(source)
            except EdgetoolError as error:
                self._lose(error.message)
                retry_s = FIRST_RETRY_S if self._number > before else min(MAX_RETRY_S, retry_s * 2)
            finally:
                source.close()
            if self._state == "ended":
                return
            self._stopping.wait(retry_s)

    def _drain(self, source: Source) -> None:
        """Read until the source ends or fails."""
        due = time.monotonic()  # how fast a file is played is no matter of the clock that decides
        while not self._stopping.is_set():
            try:
                picture = source.read()
            except BadData:
                self.damaged += 1
                self._stopping.wait(0.001)  # a source of nothing but damage must not take a core
                continue
            if picture is None:
                with self._condition:
                    self._state, self._reason = "ended", "the file is through"
                    self._condition.notify_all()
                return
            with self._condition:
                self._number += 1
                self._frame = Frame(picture, self._clock.monotonic(), self._number)
                self._state = "streaming"
                self._condition.notify_all()
            if source.interval_s:
                due = max(due + source.interval_s, time.monotonic())
                self._stopping.wait(due - time.monotonic())

    def _lose(self, reason: str) -> None:
        with self._condition:
            if self._state != "lost":
                self.losses += 1
            self._state, self._reason = "lost", reason
