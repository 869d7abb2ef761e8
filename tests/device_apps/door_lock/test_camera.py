"""Sources, the newest frame, and cameras that freeze, die and come back."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from device_apps.clock import FakeClock, SystemClock
from device_apps.door_lock.camera import OPENING_S, Camera
from device_apps.door_lock.source import HOLD_FRAMES, MAX_SIDE, FolderSource, bounded, open_source, shown
from edge.errors import BadData, BadInput, EnvironmentFailed, RuntimeMissing

LOST_MS = 900.0
MJPEG = Path(__file__).with_name("mjpeg_camera.py")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((60, 80, 3), 10 * number, np.uint8))
    return folder


def wait_for(what: Callable[[], object], seconds: float = 20.0) -> float:
    """How long it took until `what` was true; the test fails where it never is."""
    started = time.monotonic()
    while not what():
        assert time.monotonic() - started < seconds, "it never came"
        time.sleep(0.01)
    return time.monotonic() - started


def test_a_folder_shows_each_picture_for_a_while_and_leaves_damaged_ones_out(pictures: Path) -> None:
    (pictures / "1b.png").write_bytes((pictures / "1.png").read_bytes()[:40])
    source = FolderSource(pictures, 100)
    shades, damaged = [], 0
    while True:
        try:
            picture = source.read()
        except BadData:
            damaged += 1
            continue
        if picture is None:
            break
        shades.append(int(picture[0, 0, 0]))
    assert shades == [0] * HOLD_FRAMES + [10] * HOLD_FRAMES + [20] * HOLD_FRAMES
    assert damaged == 1


@pytest.mark.parametrize("text", ["none.mp4", "ftp://x/y", "gopher://x", "9999"])
def test_cameras_that_are_none(text: str) -> None:
    with pytest.raises(BadInput):
        open_source(text, 15)


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no pictures"):
        open_source(str(tmp_path), 15)


def test_a_file_that_is_no_video_and_a_device_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "no.mp4").write_bytes(b"not a video" * 100)
    for text in (str(tmp_path / "no.mp4"), "987", "/dev/video987", "http://127.0.0.1:9/cam"):
        with pytest.raises(EnvironmentFailed, match="does not open"):
            open_source(text, 15)


def test_no_password_of_an_address_is_shown() -> None:
    assert shown("rtsp://user:secret@cam:554/stream") == "rtsp://cam:554/stream"
    assert shown("/dev/video0") == "/dev/video0"
    with pytest.raises(EnvironmentFailed) as caught:
        open_source("http://user:secret@127.0.0.1:9/cam", 15)
    assert "secret" not in str(caught.value)


def test_pictures_of_every_kind_become_bgr_of_a_bounded_size() -> None:
    assert bounded(np.zeros((40, 50), np.uint8)).shape == (40, 50, 3)
    assert bounded(np.zeros((40, 50, 1), np.uint8)).shape == (40, 50, 3)
    assert bounded(np.zeros((40, 50, 4), np.uint8)).shape == (40, 50, 3)
    assert bounded(np.zeros((9000, 30, 3), np.uint8)).shape == (MAX_SIDE, 6, 3)
    assert bounded(np.zeros((40, 50, 3), np.uint8), 200).shape == (160, 200, 3)
    for bad in (np.zeros((40, 50, 2), np.uint8), np.zeros((40, 50, 3)), np.zeros((0, 50, 3), np.uint8), None):
        with pytest.raises(BadData):
            bounded(bad)


def test_a_video_is_played_at_its_speed_and_ends(tmp_path: Path) -> None:
    path = str(tmp_path / "v.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 25, (80, 60))
    for number in range(10):
        writer.write(np.full((60, 80, 3), number * 20, np.uint8))
    writer.release()
    assert open_source(path, 15).interval_s == pytest.approx(0.04)
    camera = Camera(lambda: open_source(path, 15), SystemClock())
    started = time.monotonic()
    camera.start()
    wait_for(lambda: camera.ended)
    assert time.monotonic() - started >= 9 * 0.04
    last = camera.newer_than(0, 0)
    assert last is not None
    assert last.number == 10
    assert camera.fault(time.monotonic(), LOST_MS) == "the file is through"
    camera.stop()


def test_only_the_newest_frame_is_handed_out(pictures: Path) -> None:
    camera = Camera(lambda: FolderSource(pictures, 120), SystemClock())
    camera.start()
    wait_for(lambda: camera.ended)
    frame = camera.newer_than(0, 0)
    assert frame is not None
    assert frame.number == 3 * HOLD_FRAMES
    assert camera.newer_than(frame.number, 0.01) is None
    camera.stop()


class Scripted:
    """A source that does what it is told, one entry a read."""

    interval_s = 0.0

    def __init__(self, script: list[object]) -> None:
        self._script = script

    def read(self) -> np.ndarray | None:
        entry = self._script.pop(0) if self._script else None
        if isinstance(entry, Exception):
            raise entry
        return entry  # type: ignore[return-value]

    def close(self) -> None:
        self._script = []


def test_a_lost_camera_is_opened_again_and_frames_count_on() -> None:
    picture = np.zeros((50, 50, 3), np.uint8)
    sources = [
        Scripted([picture, BadData("damaged"), picture, EnvironmentFailed("unplugged")]),
        Scripted([picture, None]),
    ]
    camera = Camera(lambda: sources.pop(0), SystemClock())
    camera.start()
    wait_for(lambda: camera.ended)
    frame = camera.newer_than(0, 0)
    assert frame is not None
    assert (frame.number, camera.damaged, camera.losses) == (3, 1, 1)
    camera.stop()


def test_the_age_of_the_newest_frame_is_what_tells() -> None:
    clock = FakeClock()
    camera = Camera(lambda: Scripted([np.zeros((50, 50, 3), np.uint8), EnvironmentFailed("gone")]), clock)
    assert camera.fault(clock.monotonic(), LOST_MS) == "the camera is being opened"
    assert "gave no frame" in str(camera.fault(clock.monotonic() + OPENING_S + 0.1, LOST_MS))


@pytest.fixture
def mjpeg() -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen([sys.executable, str(MJPEG), "0"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address = f"http://127.0.0.1:{process.stdout.readline().strip()}/cam.mjpg"
    yield process, address
    process.kill()
    process.wait()


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
def test_a_frozen_and_a_killed_camera_are_noticed(
    mjpeg: tuple[subprocess.Popen[str], str], how: signal.Signals
) -> None:
    process, address = mjpeg
    camera = Camera(lambda: open_source(address, 15), SystemClock())
    camera.start()
    wait_for(lambda: camera.fault(time.monotonic(), LOST_MS) is None)
    process.send_signal(how)
    took = wait_for(lambda: camera.fault(time.monotonic(), LOST_MS) is not None)
    assert took <= 1.5
    reason = camera.fault(time.monotonic(), LOST_MS)
    assert reason is not None
    if how == signal.SIGSTOP:
        assert "silent" in reason
        process.send_signal(signal.SIGCONT)
        wait_for(lambda: camera.fault(time.monotonic(), LOST_MS) is None)
    camera.stop()


PICAMERA2 = """
import numpy
class Picamera2:
    def __init__(self, number):
        if number:
            raise IndexError("list index out of range")
        self.left = 2
    def create_video_configuration(self, **told):
        return told
    def configure(self, told):
        assert told["main"] == {"size": (640, 480), "format": "RGB888"}
        assert told["controls"] == {"FrameRate": 15}
    def start(self): ...
    def capture_array(self, stream):
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("camera frontend has timed out")
        return numpy.full((480, 640, 3), 7, numpy.uint8)
    def stop(self): ...
    def close(self): ...
"""


def test_a_pis_camera_without_picamera2_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(RuntimeMissing) as caught:
        open_source("picamera2", 15)
    assert "picamera2 is not installed" in caught.value.message
    assert "apt install python3-picamera2" in str(caught.value.hint)


def test_a_pis_camera_is_asked_as_picamera2_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a module that stands for it: no Raspberry Pi is here."""
    (tmp_path / "picamera2.py").write_text(PICAMERA2)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "picamera2", raising=False)
    source = open_source("picamera2:0", 15)
    assert [picture is not None and picture.shape for picture in (source.read(), source.read())] == [(480, 640, 3)] * 2
    with pytest.raises(EnvironmentFailed, match="gives no more frames"):
        source.read()
    source.close()
    with pytest.raises(EnvironmentFailed, match="camera 3 does not open"):
        open_source("picamera2:3", 15)
