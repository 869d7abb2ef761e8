"""A source in a thread of its own: reopened when it vanishes, closed when it is muted, its sound in blocks.

Muting closes the device, not only the stream of its sound: a light that says the microphone is off tells the truth.
"""

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from device_apps.clock import Clock
from device_apps.voice_assistant.sound import Converter, DcBlock, Quality, Samples
from device_apps.voice_assistant.source import SILENT_S, Source
from edge.errors import EdgetoolError

State = Literal["opening", "listening", "muted", "lost", "ended"]
FIRST_RETRY_S, MAX_RETRY_S = 0.25, 4.0
WAITING_BLOCKS = 256  # about 5 s: while an utterance is understood, nothing is lost


@dataclass(frozen=True)
class Block:
    """Sound [n] at 16 kHz; `opened` counts how often the microphone was opened; `warnings` are about its quality."""

    samples: Samples
    opened: int
    heard_s: float
    warnings: tuple[str, ...] = ()


class Microphone:
    """Reads a source in a thread. `fast` plays a file as fast as it is taken."""

    def __init__(self, open_it: Callable[[], Source], clock: Clock, *, fast: bool = False, muted: bool = False) -> None:
        self._open, self._clock, self._fast = open_it, clock, fast
        self._blocks: queue.Queue[Block] = queue.Queue(WAITING_BLOCKS)
        self._state: State = "muted" if muted else "opening"
        self._reason: str | None = None
        self._muted, self._stopping = threading.Event(), threading.Event()
        self._unmuted = threading.Event()
        (self._muted if muted else self._unmuted).set()
        self._closed = threading.Event()
        self._closed.set()
        self.dropped = self.losses = self.opened = 0
        self._thread = threading.Thread(target=self._run, name="microphone", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Close the device; a thread that hangs in a library is left behind and ends with the process."""
        self._stopping.set()
        self._unmuted.set()
        self._thread.join(timeout=2.0)

    def mute(self, timeout_s: float = 2.0) -> bool:
        """Close the device and throw away what waits to be heard; whether the device was closed in time."""
        self._unmuted.clear()
        self._muted.set()
        closed = self._closed.wait(timeout_s)
        self._empty()
        return closed

    def unmute(self) -> None:
        """Open the device again."""
        self._muted.clear()
        self._unmuted.set()

    @property
    def state(self) -> State:
        """What it does now."""
        return "muted" if self._muted.is_set() else self._state

    def next(self, timeout_s: float) -> Block | None:
        """The next block; None where none comes in time."""
        try:
            return self._blocks.get(timeout=timeout_s)
        except queue.Empty:
            return None

    @property
    def through(self) -> bool:
        """Whether a file is through and all of it was taken."""
        return self._state == "ended" and self._blocks.empty()

    @property
    def waiting(self) -> int:
        """How many blocks wait to be taken."""
        return self._blocks.qsize()

    def fault(self) -> str | None:
        """Why nothing is heard; None while it listens, is muted, or a file is through."""
        return self._reason if self.state in {"lost", "opening"} else None

    def _run(self) -> None:
        retry_s = FIRST_RETRY_S
        while not self._stopping.is_set():
            if self._muted.is_set():
                self._state = "muted"
                self._unmuted.wait()
                continue
            heard = False
            try:
                self._closed.clear()
                source = self._open()
                try:
                    heard = self._listen(source)
                finally:
                    source.close()
            except EdgetoolError as error:
                self._lose(error.message)
            except (OSError, ValueError) as error:
                self._lose(f"{type(error).__name__}: {error}")
            finally:
                self._closed.set()
            if self._state == "ended":
                return
            if not self._muted.is_set():
                retry_s = FIRST_RETRY_S if heard else min(MAX_RETRY_S, retry_s * 2)
                self._stopping.wait(retry_s)

    def _listen(self, source: Source) -> bool:
        """Read until it ends, fails, is muted or stopped; whether anything was heard. A failure after is raised."""
        converter, quality, offset = Converter(source.form), Quality(), DcBlock()
        self.opened += 1
        due, opened = time.monotonic(), self.opened
        heard = False
        while not self._stopping.is_set() and not self._muted.is_set():
            try:
                content = source.read()
            except EdgetoolError as error:
                self._lose(error.message)
                return heard
            if content is None:
                self._state, self._reason = "ended", None
                return True
            samples = converter(content)
            if len(samples):
                heard = True
                self._state, self._reason = "listening", None
                warnings = quality(samples)
                self._hand_on(Block(offset(samples), opened, self._clock.monotonic(), warnings), source.interval_s > 0)
            if source.interval_s and not self._fast:
                due = max(due + source.interval_s, time.monotonic() - SILENT_S)
                self._stopping.wait(max(0.0, due - time.monotonic()))
        return heard

    def _hand_on(self, block: Block, is_file: bool) -> None:
        """A file waits for whoever listens; of a device the oldest block is dropped, since it does not wait."""
        while not self._stopping.is_set() and not self._muted.is_set():
            try:
                self._blocks.put(block, timeout=0.1 if is_file else 0.0001)
            except queue.Full:
                if not is_file:
                    self.dropped += 1
                    self.next(0.0001)
            else:
                return

    def _empty(self) -> None:
        while self.next(0.0001) is not None:
            pass

    def _lose(self, reason: str) -> None:
        if self._state != "lost":
            self.losses += 1
        self._state, self._reason = "lost", reason
