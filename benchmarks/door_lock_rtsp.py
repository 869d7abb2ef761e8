"""How old a frame from an RTSP camera is when the lock decides on it, and how soon a lost camera is noticed.

python -m benchmarks.door_lock_rtsp      about two minutes; needs Debian's gir1.2-gst-rtsp-server-1.0

A real RTSP server on the loopback shows an enrolled person; each picture tells by a number in its lowest rows when it
was due, on the clock that all processes share. The lock runs on real models, and inference is made 200 ms slower. A
frame is decided on where it counts for or against a person; one that the lock itself finds too old does not. Then the
camera is stopped (SIGSTOP) and killed, 10 times each, and the time until the lock's fault is taken.
"""

import signal
import statistics
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

import cv2
import numpy as np

from benchmarks.door_lock_rig import ENROLLED, door_lock, locked, until, visit
from benchmarks.figures import Figure, write
from device_apps.clock import SystemClock
from device_apps.door_lock.camera import Camera, Frame
from device_apps.door_lock.detect import Picture
from device_apps.door_lock.finding import Finding
from device_apps.door_lock.policy import read_policy
from device_apps.door_lock.recogniser import Recogniser
from device_apps.door_lock.source import open_source
from device_apps.door_lock.state import open_state
from device_apps.door_lock.watcher import Watcher
from device_apps.events import Event
from tests.device_apps.door_lock.rtsp import CYCLE, FPS, RtspCamera, number_in, why_absent

SLOWER_S, DECIDED, LONGEST_S, EACH = 0.2, 100, 240.0, 10


def ages(served: RtspCamera, state_folder: Path) -> tuple[list[float], int]:
    """The true ages in ms of frames that were decided on, and how many the lock found too old."""
    state, clock = open_state(state_folder), SystemClock()
    policy = read_policy(state.policy)
    vision = Recogniser(state, policy, state.folder / "models", lambda _: None)
    numbers: deque[int] = deque()
    found: list[float] = []
    stale = 0

    def look(picture: Picture, captured_s: float) -> Finding:
        time.sleep(SLOWER_S)
        return vision(picture, captured_s)

    def hear(event: Event) -> None:
        nonlocal stale
        if event.kind != "frame":
            return
        age_ms = served.age_s(numbers.popleft()) * 1e3
        if event.fields["reasons"][0].endswith("ms old"):
            stale += 1
        else:
            found.append(age_ms)

    def submit(frame: Frame, finding: Finding) -> None:
        numbers.append(number_in(frame.picture))
        lock.submit(finding)

    camera = Camera(lambda: open_source(served.address, FPS), clock)
    lock = door_lock(state, policy, clock, [hear], {})
    watcher = Watcher(camera, lambda: look, submit, clock)
    camera.start()
    watcher.start()
    ends = time.monotonic() + LONGEST_S
    lock.run(lambda: len(found) >= DECIDED or time.monotonic() > ends)
    watcher.stop()
    camera.stop()
    return found, stale


def notices(served: RtspCamera, lost_ms: float) -> dict[str, list[float]]:
    """The seconds from each loss to the lock's fault."""
    clock = SystemClock()
    camera = Camera(lambda: open_source(served.address, FPS), clock)
    camera.start()

    def well() -> bool:
        return camera.fault(clock.monotonic(), lost_ms) is None

    taken: dict[str, list[float]] = {"frozen": [], "killed": []}
    for _ in range(EACH):
        for how, times in taken.items():
            if not until(well, 30):
                raise RuntimeError("the camera did not come back")
            time.sleep(0.5)
            began = time.monotonic()
            if how == "frozen":
                served.process.send_signal(signal.SIGSTOP)
            else:
                served.kill()
            noticed = until(lambda: not well(), 20)
            times.append(time.monotonic() - began if noticed else float("inf"))
            if how == "frozen":
                served.process.send_signal(signal.SIGCONT)
            else:
                served.start()
        print(f"frozen {taken['frozen'][-1]:.2f} s, killed {taken['killed'][-1]:.2f} s", flush=True)
    camera.stop()
    return taken


def main() -> int:
    """Measure, write the figures; 1 where one is not met."""
    if why_absent() is not None:
        print(f"SKIPPED: no RTSP server: {why_absent()}")
        return 1
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory(prefix="door-lock-rtsp-") as name:
        work = Path(name)
        served = RtspCamera(work / "pictures", list(visit(ENROLLED, CYCLE, 3)))
        state = locked(work / "state")
        try:
            decided, stale = ages(served, state)
            print(f"{len(decided)} frames decided on, {stale} found too old by the lock", flush=True)
            taken = notices(served, read_policy(open_state(state).policy).camera.lost_ms)
        finally:
            served.kill()
    worst = {how: max(times) for how, times in taken.items()}
    oldest = max(decided, default=float("inf"))
    middle = statistics.median(decided) if decided else float("inf")
    figures = [
        Figure("rtsp.oldest_frame_decided_on", "<= 500", oldest, "ms", None, oldest <= 500),
        Figure("rtsp.frame_age_p50", "reported", middle, "ms", None, True),
        Figure("rtsp.frame_age_p95", "reported", float(np.percentile(decided or [np.inf], 95)), "ms", None, True),
        Figure("rtsp.frames_decided_on", f">= {DECIDED}", len(decided), "frames", None, len(decided) >= DECIDED),
        Figure("rtsp.frames_too_old", "reported", stale, "frames", None, True),
        *(Figure(f"rtsp.{how}_noticed", "<= 1.5", most, "s", None, most <= 1.5) for how, most in worst.items()),
    ]
    write("door_lock_rtsp", "python -m benchmarks.door_lock_rtsp", figures)
    for figure in figures:
        print(f"{figure.name:<30} {figure.value:8.2f} {figure.unit:<6} {figure.goal} {'' if figure.met else 'NOT MET'}")
    return 0 if all(figure.met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
