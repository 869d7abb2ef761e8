"""The thread that looks at frames: it opens the models, and hands one finding after the other on."""

import threading
from collections.abc import Callable
from typing import Protocol

from device_apps.clock import Clock
from device_apps.door_lock.camera import Frame
from device_apps.door_lock.detect import Picture
from device_apps.door_lock.finding import Finding
from edge.errors import EdgetoolError

STALLED_S = 0.9
WAIT_S = 0.2

Look = Callable[[Picture, float], Finding]


class Frames(Protocol):
    """Where the newest frame is to be had."""

    def newer_than(self, number: int, timeout_s: float) -> Frame | None: ...


class Watcher:
    """Looks at the newest frame again and again.

    `open_it` opens the models; it runs in the thread, so that PIN and egress button work meanwhile, and ever after
    where it fails. `found` gets each finding with its frame.
    """

    def __init__(
        self, frames: Frames, open_it: Callable[[], Look], found: Callable[[Frame, Finding], None], clock: Clock
    ) -> None:
        self._frames, self._open, self._found, self._clock = frames, open_it, found, clock
        self._stopping = threading.Event()
        self._fault: str | None = "the models are being opened"
        self._busy_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking; a model that hangs is left behind and ends with the process."""
        self._stopping.set()
        self._thread.join(timeout=2.0)

    def fault(self, now_s: float) -> str | None:
        """Why faces cannot be recognised now; None where they can."""
        busy = self._busy_since
        if busy is not None and now_s - busy > STALLED_S:
            return f"the models have been busy with one frame for more than {STALLED_S:g} s"
        return self._fault

    def _run(self) -> None:
        try:
            look = self._open()
        except EdgetoolError as error:
            self._fault = error.message
            return
        except Exception as error:  # noqa: BLE001  # whatever it is, the door stays locked and says so
            self._fault = f"the models cannot be opened: {type(error).__name__}: {error}"
            return
        self._fault = None
        number = 0
        while not self._stopping.is_set():
            frame = self._frames.newer_than(number, WAIT_S)
            if frame is None:
                continue
            number = frame.number
            self._busy_since = self._clock.monotonic()
            try:
                self._found(frame, look(frame.picture, frame.captured_s))
                self._fault = None
            except EdgetoolError as error:
                self._fault = error.message
            except Exception as error:  # noqa: BLE001  # as above
                self._fault = f"a frame could not be looked at: {type(error).__name__}: {error}"
            finally:
                self._busy_since = None
