"""An hour of a lock at 15 frames a second that loses its camera 50 times: whether its memory grows.

python -m benchmarks.door_lock_soak                 an hour
python -m benchmarks.door_lock_soak --minutes 3     a look; writes no figures

The lock is the real process on real models; the camera, motion JPEG over HTTP on the loopback, shows an empty doorway
and every 20 s an enrolled person for a second. It is killed (and started again 2 s later) or stopped (and goes on), in
turn. The resident memory is read each 5 s. Its slope after the first 10 minutes is that of a line through the means of
minutes, with the t interval of least squares: means of minutes are taken as independent of one another.
"""

import argparse
import json
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from benchmarks.door_lock_rig import ENROLLED, FPS, REPOSITORY, empty, locked, resident_mb, visit
from benchmarks.figures import Figure, write

LOSSES, SETTLED_S, EVERY_S = 50, 600.0, 5.0
CYCLE_S, AWAY_S = 20, 2.0
T_975 = 2.01  # Student's t for 48 degrees of freedom


@dataclass
class Seen:
    """What the lock said: the wall times of camera faults and of their ends, and how many frames and events."""

    faults: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    frames: int = 0
    recognised: int = 0
    unlocked: int = 0
    other_faults: set[str] = field(default_factory=set)

    def hear(self, line: str) -> None:
        """Take one line of the lock's JSON."""
        event = json.loads(line)
        kind = event["event"]
        self.frames += kind == "frame"
        self.recognised += kind == "waiting"
        self.unlocked += kind == "unlock"
        if kind in {"fault", "fault ended"} and event["source"] == "camera":
            (self.faults if kind == "fault" else self.ends).append(event["at"])
        elif kind == "fault" and event["reason"] != "the models are being opened":
            self.other_faults.add(f"{event['source']}: {event['reason']}")


def pictures(folder: Path) -> Path:
    """One cycle of the camera's view as .jpg files."""
    folder.mkdir()
    shown = [*visit(ENROLLED, FPS, 1), *(empty() for _ in range(FPS * (CYCLE_S - 1)))]
    for number, picture in enumerate(shown):
        cv2.imwrite(str(folder / f"{number:04}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 85])
    return folder


def camera(port: int, folder: Path) -> tuple[subprocess.Popen[str], int]:
    """The camera's process and its port."""
    line = [sys.executable, "-m", "benchmarks.door_lock_camera", str(port), str(folder)]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def soak(seconds: float, losses: int, work: Path) -> tuple[Seen, list[tuple[float, float]], list[float]]:
    """What the lock said, its memory (seconds since its start, MB), and the wall times of losses."""
    folder = pictures(work / "pictures")
    seen_by, port = camera(0, folder)
    line = [sys.executable, "-m", "device_apps.door_lock", "--json", "--camera", f"http://127.0.0.1:{port}/"]
    lock = subprocess.Popen(
        [*line, "--state", str(locked(work / "state"))], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    assert lock.stdout is not None
    seen, memory, lost = Seen(), [], []
    lines = lock.stdout

    def listen() -> None:
        for text in lines:
            seen.hear(text)

    threading.Thread(target=listen, daemon=True).start()
    started = time.monotonic()
    due = [seconds * (number + 1) / (losses + 1) for number in range(losses)]
    try:
        while (now := time.monotonic() - started) < seconds:
            memory.append((now, resident_mb(lock.pid)))
            if due and now >= due[0]:
                due.pop(0)
                lost.append(time.time())
                if len(due) % 2:
                    seen_by.kill()
                    seen_by.wait()
                    time.sleep(AWAY_S)
                    seen_by, _ = camera(port, folder)
                else:
                    seen_by.send_signal(signal.SIGSTOP)
                    time.sleep(AWAY_S)
                    seen_by.send_signal(signal.SIGCONT)
                print(f"{now:6.0f} s  loss {len(lost)}  {memory[-1][1]:.1f} MB  {seen.frames} frames", flush=True)
            time.sleep(EVERY_S - (time.monotonic() - started) % EVERY_S)
    finally:
        lock.terminate()
        code = lock.wait(timeout=30)
        seen_by.kill()
    if code:
        raise RuntimeError(f"the lock ended with {code}")
    return seen, memory, lost


def slope(memory: list[tuple[float, float]]) -> tuple[float, tuple[float, float]]:
    """MB an hour after the first ten minutes, with its 95 % interval."""
    minutes: dict[int, list[float]] = {}
    for at, size in memory:
        if at >= SETTLED_S:
            minutes.setdefault(int(at // 60), []).append(size)
    hours = np.array(sorted(minutes)) / 60
    means = np.array([statistics.mean(minutes[minute]) for minute in sorted(minutes)])
    centred = hours - hours.mean()
    found = float(centred @ means / (centred @ centred))
    rest = means - means.mean() - found * centred
    error = float(np.sqrt(rest @ rest / (len(hours) - 2) / (centred @ centred)))
    return found, (found - T_975 * error, found + T_975 * error)


def main() -> int:
    """Soak, and write the figures; 1 where one is not met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    minutes = parser.parse_args().minutes
    losses = max(1, round(LOSSES * minutes / 60))
    work = Path(tempfile.mkdtemp(prefix="door-lock-soak-"))
    try:
        seen, memory, lost = soak(minutes * 60, losses, work)
    finally:
        shutil.rmtree(work)
    delays = [min((at - when for at in seen.faults if at >= when), default=float("inf")) for when in lost]
    noticed = sum(delay < AWAY_S for delay in delays)
    print(f"{seen.frames} frames, {len(lost)} losses, {noticed} noticed, slowest {max(delays):.2f} s")
    print(f"recognised {seen.recognised} times, unlocked {seen.unlocked} times; other faults: {seen.other_faults}")
    if minutes < 60:
        return 0
    grown, interval = slope(memory)
    most = max(size for _, size in memory)
    seconds = memory[-1][0]
    figures = [
        Figure("soak.rss_slope_upper95", "<= 1", interval[1], "MB/h", interval, interval[1] <= 1),
        Figure("soak.rss_slope", "reported", grown, "MB/h", interval, True),
        Figure("soak.rss_most", "reported", most, "MB", None, True),
        Figure("soak.camera_losses", f"== {LOSSES}", len(lost), "", None, len(lost) == LOSSES),
        Figure("soak.losses_noticed", f"== {LOSSES}", noticed, "", None, noticed == LOSSES),
        Figure("soak.slowest_notice", "<= 1.5", max(delays), "s", None, max(delays) <= 1.5),
        Figure("soak.frames_a_second", "reported", seen.frames / seconds, "1/s", None, True),
        Figure("soak.recognised", "reported", seen.recognised, "visits", None, True),
        Figure("soak.unlocked_without_pin", "== 0", seen.unlocked, "", None, seen.unlocked == 0),
        Figure("soak.other_faults", "reported", len(seen.other_faults), "kinds", None, True),
    ]
    write("door_lock_soak", "python -m benchmarks.door_lock_soak", figures)
    return 0 if all(figure.met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
