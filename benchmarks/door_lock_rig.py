"""A whole door lock for the programs that measure it: real models and faces of the shared data, and films of a door.

The embedder stands there as a .tflite; it is converted here once, by the toolkit, and kept under out/door_lock. The
threshold is calibrated on people 16 to 30 of the ORL faces; who is enrolled and filmed are people 1 to 15.
"""

import os
import shutil
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from device_apps.clock import Clock
    from device_apps.door_lock.app import DoorLock
    from device_apps.door_lock.detect import Picture
    from device_apps.door_lock.policy import Policy
    from device_apps.door_lock.state import State
    from device_apps.events import Listener

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("EDGETOOL_DATA") or REPOSITORY.parent / "shared" / "data")
FOLDER = REPOSITORY / "out" / "door_lock"
CALIBRATED_ON = range(16, 31)
ENROLLED = 2
FPS = 15
SIZE = (480, 640)


def embedder() -> Path:
    """MobileFaceNet as .onnx with a batch of 1, converted where it is not there yet."""
    path = FOLDER / "embedder.onnx"
    if not path.exists():
        import onnx

        from convert.batch import with_batch_1
        from convert.to_onnx import tflite_to_onnx

        FOLDER.mkdir(parents=True, exist_ok=True)
        converted = tflite_to_onnx(SHARED / "models/mobilefacenet/MobileFaceNet.tflite")
        content = with_batch_1(onnx.load_model_from_string(converted)).SerializeToString()
        path.with_suffix(".part").write_bytes(content)
        path.with_suffix(".part").replace(path)
    return path


def scene(person: int, number: int, shift: tuple[int, int] = (0, 0)) -> "Picture":
    """[480, 640, 3]: picture `number` (1 to 10) of a person of the ORL faces, 3 times enlarged, before a grey wall."""
    small = cv2.imread(str(SHARED / f"faces/orl/s{person}/{number}.pgm"))
    if small is None:
        raise FileNotFoundError(f"no ORL faces in {SHARED}; EDGETOOL_DATA may say where they are")
    picture = empty()
    left, top = 180 + shift[0], 80 + shift[1]
    picture[top : top + 336, left : left + 276] = cv2.resize(small, (276, 336), interpolation=cv2.INTER_CUBIC)
    return picture


def empty() -> "Picture":
    """[480, 640, 3]: nobody at the door."""
    return np.full((*SIZE, 3), 110, np.uint8)


def visit(person: int, frames: int, seed: int) -> Iterator["Picture"]:
    """A person before the camera for so many frames: the expression changes each second, the head sways."""
    rng = np.random.default_rng(seed)
    sway = np.cumsum(rng.normal(0, 1.5, (frames, 2)), axis=0).clip(-20, 20).astype(int)
    for frame, (across, down) in enumerate(sway):
        yield scene(person, frame // FPS % 10 + 1, (int(across), int(down)))


def film(path: Path, frames: Iterator["Picture"]) -> Path:
    """Motion JPEG in .avi at 15 frames a second."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, SIZE[::-1])
    for picture in frames:
        writer.write(picture)
    writer.release()
    return path


def locked(folder: Path) -> Path:
    """A copy, in `folder`, of the state of a lock that is calibrated and has person 2 enrolled as Ann, PIN 4711."""
    made = FOLDER / "state"
    if not (made / "made").exists():
        shutil.rmtree(made, ignore_errors=True)
        _make(made)
        (made / "made").touch()
    shutil.copytree(made, folder)
    return folder


def _make(folder: Path) -> None:
    from device_apps.clock import SystemClock
    from device_apps.door_lock.commands import calibrated, enrol, initialise, set_pin
    from device_apps.door_lock.state import open_state

    models = {
        "detector": SHARED / "models/yunet/yunet_n_320_320.onnx",
        "liveness": SHARED / "models/antispoof_minifas/best_model.onnx",
        "embedder": embedder(),
    }
    state = open_state(folder)
    policy = initialise(state, models, replace=True)
    faces = FOLDER / "faces"
    for person in (*CALIBRATED_ON, ENROLLED):
        (faces / f"s{person:02}").mkdir(parents=True, exist_ok=True)
        for number in range(1, 9):
            cv2.imwrite(str(faces / f"s{person:02}" / f"{number:02}.png"), scene(person, number))
    own = FOLDER / "enrolled"
    shutil.rmtree(own, ignore_errors=True)
    shutil.move(faces / f"s{ENROLLED:02}", own)
    calibrated(state, policy, faces, 5e-3, lambda _: None)
    enrol(state, policy, "Ann", str(own), SystemClock(), lambda _: None)
    set_pin(state, "Ann", "4711", SystemClock())


def door_lock(
    state: "State",
    policy: "Policy",
    clock: "Clock",
    listeners: Sequence["Listener"],
    checks: Mapping[str, Callable[[float], str | None]],
) -> "DoorLock":
    """The lock itself on a state, with the bolt that only says what it would do."""
    from device_apps.door_lock.actuator import open_actuator
    from device_apps.door_lock.app import DoorLock
    from device_apps.events import Events

    return DoorLock(
        policy,
        clock,
        actuator=open_actuator(policy.actuator, lambda _: None),
        audit=state.recorder(clock),
        pins=state.pins(),
        face_lockout=state.lockout("face", policy.lockout, clock),
        pin_lockout=state.lockout("pin", policy.lockout, clock),
        events=Events(tuple(listeners)),
        checks=checks,
        state=state.folder,
    )


def median_interval(values: list[float]) -> tuple[float, tuple[float, float]]:
    """The median, and its 95 % interval by order statistics (normal approximation of the binomial)."""
    ordered = sorted(values)
    half = 0.98 * len(ordered) ** 0.5  # 1.96 sqrt(n / 4)
    low, high = round(len(ordered) / 2 - half), round(len(ordered) / 2 + half)
    return statistics.median(ordered), (ordered[max(0, low - 1)], ordered[min(len(ordered) - 1, high)])


def resident_mb(pid: int, field: str = "VmRSS") -> float:
    """The memory of a process now ("VmHWM": at most so far), in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":")) / 1024


def until(what: Callable[[], bool], seconds: float) -> bool:
    """Whether `what` becomes true in time."""
    import time

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.01)
    return False
