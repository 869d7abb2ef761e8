"""What moves the bolt: opens for one bounded pulse, and is off at the start, at the end and after a crash.

Two processes watch each other. The relay's process bounds the pulse and ends it when the app dies. The app ends the
relay's process where it does not say "off" in time, and drives the line off itself.
"""

import contextlib
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Protocol

from device_apps.door_lock.policy import MAX_PULSE_S, Actuation
from edge.errors import EnvironmentFailed

START_S = 5.0  # Python and gpiozero on a small board
LATE_S = 0.3
RETRY_S = 2.0


class Actuator(Protocol):
    """Opens the door for a moment."""

    @property
    def is_open(self) -> bool:
        """Whether the pulse is running."""
        ...

    def open_door(self, seconds: float) -> None:
        """Start a pulse; a running one is left as it is. Returns at once.

        Raises:
            EnvironmentFailed: it cannot be moved.

        """
        ...

    def check(self) -> str | None:
        """To be called several times a second: what is wrong with it now, None where all is well."""
        ...

    def close(self) -> None:
        """End a pulse and let go of the hardware."""
        ...


class PrintActuator:
    """Says what a lock would do; for demos, and where there is no hardware."""

    def __init__(self, say: Callable[[str], None], now: Callable[[], float] = time.monotonic) -> None:
        self._say, self._now, self._until = say, now, 0.0

    @property
    def is_open(self) -> bool:
        return self._now() < self._until

    def open_door(self, seconds: float) -> None:
        self._until = self._now() + min(seconds, MAX_PULSE_S)
        self._say(f"UNLOCKED for {min(seconds, MAX_PULSE_S):g} s")

    def check(self) -> str | None:
        if self._until and not self.is_open:
            self._until = 0.0
            self._say("LOCKED")
        return None

    def close(self) -> None:
        if self.is_open:
            self._until = self._now()
            self.check()


class RelayActuator:
    """A relay on a GPIO line, which a process of its own drives (`relay_process`).

    Raises:
        EnvironmentFailed: the line cannot be opened, in the process's words.

    """

    def __init__(self, settings: Actuation) -> None:
        self._settings = settings
        self._start()
        answer = self._answer(START_S)
        if answer != "ready":
            self._take_over()
            raise EnvironmentFailed(
                f"the relay on GPIO {settings.pin} cannot be opened: {(answer or 'no answer').removeprefix('failed ')}",
                'actuator.kind = "print" shows what the lock would do without one',
            )
        self._ready = True

    @property
    def is_open(self) -> bool:
        return self._deadline_s > 0

    @property
    def process_id(self) -> int:
        """The id of the relay's process."""
        return self._process.pid

    def open_door(self, seconds: float) -> None:
        if not self._ready:
            raise EnvironmentFailed("the relay is not ready")
        if self.is_open:
            return
        seconds = min(seconds, MAX_PULSE_S)
        self._deadline_s = time.monotonic() + seconds + LATE_S
        try:
            os.write(self._stdin, f"pulse {seconds:.3f}\n".encode())
        except OSError as error:
            raise EnvironmentFailed(f"the relay's process is gone: {error.strerror}") from error
        answer = self._answer(LATE_S)
        if answer != "on":
            self._take_over()
            raise EnvironmentFailed(f"the relay does not answer to a pulse: {answer or 'nothing said'}")

    def check(self) -> str | None:
        while (answer := self._answer(0)) is not None:
            self._heard(answer)
        now = time.monotonic()
        if self._process.poll() is not None and self._ready:
            self._take_over()
            self._fault = "the relay's process ended; the line is driven off"
        elif self._deadline_s and now > self._deadline_s:
            self._take_over()
            self._fault = "the relay's process did not end the pulse in time; the line is driven off"
        elif not self._ready and now > self._retry_s:
            self._take_over()
            self._start()
        return None if self._ready else self._fault

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._stdin)  # which drives the relay off
        try:
            self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            self._drive_off()
        self._forget()

    def _start(self) -> None:
        """Start the process; it says "ready" when the line is its own."""
        settings = self._settings
        level = "high" if settings.active_high else "low"
        command = [sys.executable, "-m", "device_apps.door_lock.relay_process"]
        command += [str(settings.pin), level, str(MAX_PULSE_S)]
        their_stdin, self._stdin = os.pipe()
        self._stdout, their_stdout = os.pipe()
        try:
            self._process = subprocess.Popen(command, stdin=their_stdin, stdout=their_stdout)
        finally:
            os.close(their_stdin)
            os.close(their_stdout)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._stdout, selectors.EVENT_READ)
        self._waiting, self._deadline_s, self._ready = b"", 0.0, False
        self._fault = "the relay's process is starting"
        self._retry_s = time.monotonic() + START_S

    def _heard(self, answer: str) -> None:
        if answer == "ready":
            self._ready = True
        elif answer == "off":
            self._deadline_s = 0.0
        elif answer.startswith("failed"):
            self._fault = f"the relay cannot be driven: {answer.removeprefix('failed ')}"

    def _answer(self, timeout_s: float) -> str | None:
        """The next line of the process; None where none comes in time or it has ended."""
        until = time.monotonic() + timeout_s
        while b"\n" not in self._waiting:
            if not self._selector.get_map() or not self._selector.select(max(0.0, until - time.monotonic())):
                return None
            piece = os.read(self._stdout, 4096)
            if not piece:
                self._selector.unregister(self._stdout)
                return None
            self._waiting += piece
        line, _, self._waiting = self._waiting.partition(b"\n")
        return line.decode(errors="replace")

    def _take_over(self) -> None:
        """End the process and drive the line off from here: one that was killed may leave it as it was."""
        with contextlib.suppress(OSError):
            os.close(self._stdin)
        self._process.kill()
        self._process.wait()
        self._drive_off()
        self._forget()

    def _forget(self) -> None:
        self._selector.close()
        with contextlib.suppress(OSError):
            os.close(self._stdout)
        self._selector = selectors.DefaultSelector()
        self._stdin = self._stdout = -1
        self._waiting, self._deadline_s, self._ready = b"", 0.0, False
        self._retry_s = time.monotonic() + RETRY_S

    def _drive_off(self) -> None:
        from device_apps.door_lock.relay_process import open_relay

        with contextlib.suppress(Exception):  # without the line there is nothing to drive
            relay = open_relay(self._settings.pin, active_high=self._settings.active_high)
            relay.off()
            relay.close()


def open_actuator(settings: Actuation, say: Callable[[str], None]) -> Actuator:
    """The actuator that the settings name. Raises EnvironmentFailed: it cannot be opened."""
    return RelayActuator(settings) if settings.kind == "gpio" else PrintActuator(say)
