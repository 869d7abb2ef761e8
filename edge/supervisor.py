"""Keeps the current release running where no systemd does: `python -m edge.supervisor BASE`.

It starts the service again where it ends, slower each time, puts right what a deploy that died left behind, and on
SIGHUP becomes the supervisor of the release that is current then. The standard library alone.
"""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from edge.durable import write_whole
from edge.errors import EnvironmentFailed
from edge.releases import CURRENT, MODE, interrupted, pointed, recover

LOCK, STATE = "supervisor.lock", "supervisor.json"
LOOK_S = 0.25
LONGEST_PAUSE_S = 30.0
STEADY_S = 60.0  # a service that ran this long is no longer failing at its start
STOP_S = 5.0
START_S = 120.0  # three Pythons start, on a slow device
INTERRUPTED_EVERY_S = 2.0


class _Asked(BaseException):
    """A signal came: to end, or to begin anew."""

    def __init__(self, again: bool) -> None:
        self.again = again


def running(base: Path) -> int | None:
    """The process of the supervisor, None where none is at work."""
    try:
        handle = os.open(base / "run" / LOCK, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.pread(handle, 20, 0) or b"0") or None
    finally:
        os.close(handle)
    return None


def start(base: Path) -> None:
    """Start the supervisor of the current release, or make the one at work become it.

    Raises:
        EnvironmentFailed: none comes up with that release.

    """
    wanted = pointed(base, CURRENT)
    (base / "run").mkdir(exist_ok=True)
    pid = running(base)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGHUP)
    started: subprocess.Popen[bytes] | None = None
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if running(base) is not None:
            if supervised(base).get("release") == wanted:
                return
        elif started is None or started.poll() is not None:
            started = _start(base)
        time.sleep(LOOK_S)
    raise EnvironmentFailed(f"no supervisor comes up: see {base / 'run' / 'log'}")


def supervised(base: Path) -> "dict[str, Any]":
    """What the supervisor last said: release, how often its service was started, and how it last ended."""
    try:
        state: dict[str, Any] = json.loads((base / "run" / STATE).read_bytes())
    except (OSError, ValueError):
        return {}
    return state


def _start(base: Path) -> "subprocess.Popen[bytes]":
    with (base / "run" / "log").open("ab") as log:
        command = ["/bin/sh", str(base / "start"), "edge.supervisor"]
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=base, start_new_session=True
        )


def stop(base: Path) -> None:
    """End the supervisor and its service."""
    pid = running(base)
    if pid is None:
        return
    os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + 2 * STOP_S
    while running(base) is not None and time.monotonic() < until:
        time.sleep(0.05)


def supervise(base: Path) -> None:
    """Run the service of the current release, again and again, until a signal comes."""
    (base / "run").mkdir(exist_ok=True)
    service: subprocess.Popen[bytes] | None = None
    starts, last, pause = 0, None, 1.0
    try:
        signal.signal(signal.SIGTERM, _raise)
        signal.signal(signal.SIGHUP, _raise)
        lock = os.open(base / "run" / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another one is at work
        os.truncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        while True:
            began = time.monotonic()
            starts += 1
            _tell(base, starts, last)
            service = _service(base)
            last = _watch(base, service)
            _tell(base, starts, last)
            pause = 1.0 if time.monotonic() - began > STEADY_S else min(2 * pause, LONGEST_PAUSE_S)
            time.sleep(pause)
    except _Asked as asked:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        _end(service)
        if asked.again:
            begin = base / CURRENT / "start.py"
            os.execv(sys.executable, [sys.executable, "-I", str(begin), "edge.supervisor", str(base)])  # noqa: S606 - no shell is wanted


def _service(base: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-I", str(base / CURRENT / "start.py"), "edge.service", str(base)], cwd=base
    )


def _watch(base: Path, service: "subprocess.Popen[bytes]") -> int:
    """The exit code of the service, once it ended; a deploy that died is put right meanwhile."""
    looked = time.monotonic()
    while service.poll() is None:
        time.sleep(LOOK_S)
        if time.monotonic() - looked > INTERRUPTED_EVERY_S:
            looked = time.monotonic()
            before = pointed(base, CURRENT)
            if interrupted(base):
                sys.stderr.write(recover(base) + "\n")
            if pointed(base, CURRENT) != before:
                raise _Asked(again=True)
    return int(service.returncode)


def _tell(base: Path, starts: int, last: int | None) -> None:
    """A full disk costs this word, not the service."""
    plain = {"release": pointed(base, CURRENT), "starts": starts, "last_exit": last}
    with contextlib.suppress(OSError):
        write_whole(base / "run" / STATE, json.dumps(plain).encode(), MODE)


def _end(service: "subprocess.Popen[bytes] | None") -> None:
    if service is None or service.poll() is not None:
        return
    service.terminate()
    try:
        service.wait(STOP_S)
    except subprocess.TimeoutExpired:
        service.kill()
        service.wait()


def _raise(number: int, _frame: FrameType | None) -> None:
    raise _Asked(again=number == signal.SIGHUP)


if __name__ == "__main__":
    supervise(Path(sys.argv[1]))
