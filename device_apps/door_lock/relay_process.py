"""The process that owns the relay's GPIO line: `python -m device_apps.door_lock.relay_process PIN LEVEL MAX_SECONDS`.

It reads `pulse SECONDS` lines and answers `ready`, `on`, `off` or `failed REASON`. Whatever it is told, the relay is
off after MAX_SECONDS; it is off at once where the other side closes the pipe or dies, on SIGTERM, and at the start.
"""

import os
import select
import signal
import sys
import time
from typing import Protocol

POLL_S = 0.2


class Relay(Protocol):
    """A relay's line."""

    def on(self) -> None: ...

    def off(self) -> None: ...

    def close(self) -> None: ...


def open_relay(pin: int, *, active_high: bool) -> Relay:
    """The line, driven to off. Raises whatever gpiozero does where there is no such line."""
    from gpiozero import OutputDevice

    relay: Relay = OutputDevice(pin, active_high=active_high, initial_value=False)
    return relay


def serve(relay: Relay, commands: int, answers: int, max_s: float) -> None:
    """Do what the file descriptor `commands` says until it ends; the relay is off afterwards."""
    waiting, off_at = b"", 0.0
    try:
        relay.off()
        _answer(answers, "ready")
        while True:
            left = off_at - time.monotonic() if off_at else POLL_S
            if off_at and left <= 0:
                relay.off()
                off_at = 0.0
                _answer(answers, "off")
                continue
            if not select.select([commands], [], [], min(left, POLL_S))[0]:
                continue
            piece = os.read(commands, 4096)
            if not piece:
                return
            *lines, waiting = (waiting + piece).split(b"\n")
            for line in lines:
                seconds = _seconds(line, max_s)
                if seconds is None:
                    _answer(answers, "failed the command is not understood")
                    continue
                if not off_at:  # a running pulse is never made longer
                    relay.on()
                    off_at = time.monotonic() + seconds
                _answer(answers, "on")
            if len(waiting) > 64:
                return
    finally:
        relay.off()
        relay.close()


def _seconds(line: bytes, max_s: float) -> float | None:
    word, _, number = line.strip().partition(b" ")
    try:
        seconds = float(number)
    except ValueError:
        return None
    return min(seconds, max_s) if word == b"pulse" and seconds > 0 else None


def _answer(answers: int, text: str) -> None:
    os.write(answers, text.encode() + b"\n")


def main() -> int:
    """Open the line and serve standard input and output."""
    pin, level, max_s = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # SystemExit passes the `finally` that drives it off
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the app closes the pipe
    try:
        relay = open_relay(pin, active_high=level == "high")
    except Exception as error:  # noqa: BLE001  # gpiozero's errors and the library's below it share no class
        _answer(1, f"failed {type(error).__name__}: {(str(error).splitlines() or ['no reason'])[0]}")
        return 3
    try:
        serve(relay, 0, 1, max_s)
    except BrokenPipeError:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
