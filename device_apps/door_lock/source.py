"""Where pictures come from: a camera of this machine, a stream, a video file, a folder of pictures."""

import contextlib
import os
import re
import time
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import cv2
import numpy as np

from device_apps.door_lock.detect import Picture
from edge.errors import BadData, BadInput, EnvironmentFailed, RuntimeMissing
from edge.image import SUFFIXES

SCHEMES = ("rtsp", "rtsps", "http", "https", "tcp", "udp")
OPEN_TIMEOUT_MS, READ_TIMEOUT_MS = 3000, 2000
MAX_SIDE = 1920  # faces at a door need no more pixels; a huge picture must not cost seconds
HOLD_FRAMES = 15  # how often each picture of a folder is shown
MAX_QUEUED = 100  # frames that are thrown away at most until one is new


os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # quiet: what fails is an error here, said once


class Source(Protocol):
    """One picture after the other."""

    @property
    def interval_s(self) -> float:
        """How long to wait between two pictures; 0 where the source itself waits for the next."""
        ...

    def read(self) -> Picture | None:
        """The next picture, BGR [H, W, 3]; None at the end of a file.

        Raises:
            EnvironmentFailed: the camera gives no more pictures.
            BadData: this picture is damaged; the next may be good.

        """
        ...

    def close(self) -> None: ...


class FolderSource:
    """The pictures of a folder in the order of their names, each shown for `HOLD_FRAMES` frames."""

    def __init__(self, folder: Path, fps: float) -> None:
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        if not paths:
            raise BadInput(f"{folder} holds no pictures", f"one of {' '.join(SUFFIXES)}")
        self._waiting, self._shown, self._left = paths[::-1], np.zeros((0, 0, 3), np.uint8), 0
        self.interval_s = 1 / fps

    interval_s: float

    def read(self) -> Picture | None:
        if not self._left:
            if not self._waiting:
                return None
            path = self._waiting.pop()
            self._shown = decoded(path)
            self._left = HOLD_FRAMES
        self._left -= 1
        return self._shown

    def close(self) -> None:
        self._waiting = []


class CaptureSource:
    """What OpenCV opens: a V4L2 camera (its number), a stream's address, a video file (played at its own speed).

    A stream that is opened hands out first what FFmpeg kept while it found out what it is (1.3 s of RTSP were seen),
    and a process that slept what the sockets kept. A frame that came without any waiting was lying there: it is thrown
    away, so that none seems new that is not.
    """

    def __init__(self, target: int | str, *, is_file: bool, fps: float) -> None:
        self._is_file = is_file
        self._title = shown(str(target))
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what fails is an error here, said once
        if isinstance(target, int):
            self._capture = cv2.VideoCapture(target, cv2.CAP_V4L2)
            self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        else:
            limits = [
                cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
                OPEN_TIMEOUT_MS,
                cv2.CAP_PROP_READ_TIMEOUT_MSEC,
                READ_TIMEOUT_MS,
                cv2.CAP_PROP_N_THREADS,
                1,
            ]
            self._capture = cv2.VideoCapture(target, cv2.CAP_FFMPEG, limits)
        if not self._capture.isOpened():
            self._capture.release()
            raise EnvironmentFailed(f"the camera {self._title} does not open", "is it there, and nobody else's?")
        own = float(self._capture.get(cv2.CAP_PROP_FPS))
        interval_s = 1 / own if 1 <= own <= 240 else 1 / fps
        self.interval_s = interval_s if is_file else 0.0
        self._waits_s = 0.0 if is_file else interval_s / 5

    interval_s: float

    def read(self) -> Picture | None:
        try:
            there, picture = self._newest()
        except cv2.error as error:
            raise BadData(f"a frame of {self._title} cannot be decoded: {error.err}") from error
        if not there or picture is None:
            if self._is_file:
                return None
            raise EnvironmentFailed(f"the camera {self._title} gives no more frames")
        return bounded(picture)

    def _newest(self) -> tuple[bool, Any]:
        for _ in range(MAX_QUEUED):
            started = time.monotonic()
            if not self._capture.grab():
                return False, None
            if time.monotonic() - started >= self._waits_s:
                break
        return self._capture.retrieve()

    def close(self) -> None:
        with contextlib.suppress(cv2.error):
            self._capture.release()


class PiCameraSource:
    """A Raspberry Pi's camera by libcamera, through Debian's picamera2. Not run on a Pi yet.

    Raises:
        RuntimeMissing: picamera2 is not installed.
        EnvironmentFailed: there is no such camera, or somebody else has it.

    """

    interval_s = 0.0

    def __init__(self, number: int, fps: float) -> None:
        try:
            from picamera2 import Picamera2
        except ImportError as error:
            hint = "apt install python3-picamera2, and an environment with --system-site-packages"
            raise RuntimeMissing(f"picamera2 is not installed: {error}", hint) from None
        try:
            self._camera = Picamera2(number)
            # its RGB888 lies in memory as blue, green, red; one buffer would make each frame wait for the last
            main, controls = {"size": (640, 480), "format": "RGB888"}, {"FrameRate": fps}
            self._camera.configure(
                self._camera.create_video_configuration(main=main, controls=controls, buffer_count=2)
            )
            self._camera.start()
        except (RuntimeError, IndexError, OSError) as error:
            raise EnvironmentFailed(
                f"the Pi's camera {number} does not open: {error}", "rpicam-hello lists them"
            ) from error

    def read(self) -> Picture | None:
        try:
            picture = self._camera.capture_array("main")
        except (RuntimeError, OSError) as error:
            raise EnvironmentFailed(f"the Pi's camera gives no more frames: {error}") from error
        return bounded(picture)

    def close(self) -> None:
        with contextlib.suppress(RuntimeError, OSError):
            self._camera.stop()
            self._camera.close()


def open_source(camera: str, fps: float) -> Source:
    """A source by its text: a V4L2 number or /dev/video…, picamera2, an address, a video file, a folder of pictures.

    Raises:
        BadInput: there is nothing of that name, or no pictures in the folder.
        EnvironmentFailed: the camera does not open.
        RuntimeMissing: picamera2 is asked for, and not installed.

    """
    pi = re.fullmatch(r"picamera2(?::(\d))?", camera)
    if pi:
        return PiCameraSource(int(pi[1] or 0), fps)
    device = re.fullmatch(r"(?:/dev/video)?(\d{1,3})", camera)
    if device:
        return CaptureSource(int(device[1]), is_file=False, fps=fps)
    scheme = urlsplit(camera).scheme.lower() if "://" in camera else ""
    if scheme in SCHEMES:
        return CaptureSource(camera, is_file=False, fps=fps)
    if scheme:
        raise BadInput(f"a camera cannot have the scheme {scheme}://", f"one of {', '.join(SCHEMES)}")
    path = Path(camera)
    if path.is_dir():
        return FolderSource(path, fps)
    if not path.is_file():
        raise BadInput(
            f"there is no camera {camera!r}", "a number, picamera2, rtsp://…, http://…, a video file, a folder"
        )
    return CaptureSource(str(path), is_file=True, fps=fps)


def shown(camera: str) -> str:
    """A camera's text without the user and password that an address may hold."""
    return re.sub(r"//[^/@]*@", "//", camera)


def bounded(picture: Any, min_side: int = 1) -> Picture:
    """A decoded picture of any kind as BGR [H, W, 3] of `min_side` to `MAX_SIDE` pixels in its longer side.

    Raises:
        BadData: it is no picture.

    """
    array = np.asarray(picture)
    if array.dtype != np.uint8 or array.ndim not in {2, 3} or not array.size:
        raise BadData(f"a frame of {array.dtype} {list(array.shape)} is no picture")
    channels = 1 if array.ndim == 2 else array.shape[2]
    if channels not in {1, 3, 4}:
        raise BadData(f"a frame of {channels} channels is no picture")
    if channels != 3:
        array = cv2.cvtColor(array, cv2.COLOR_GRAY2BGR if channels == 1 else cv2.COLOR_BGRA2BGR)
    longest = max(array.shape[:2])
    if not min_side <= longest <= MAX_SIDE:
        ratio = min(max(longest, min_side), MAX_SIDE) / longest
        size = (max(1, round(array.shape[1] * ratio)), max(1, round(array.shape[0] * ratio)))
        array = cv2.resize(array, size, interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_CUBIC)
    return np.asarray(array, np.uint8)


def decoded(path: Path) -> Picture:
    """The picture in a file, BGR [H, W, 3]. Raises BadData: it is missing or damaged."""
    try:
        content = path.read_bytes()
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    except (OSError, cv2.error):
        picture = None
    if picture is None:
        raise BadData(f"{path} cannot be decoded as a picture")
    return bounded(picture)
