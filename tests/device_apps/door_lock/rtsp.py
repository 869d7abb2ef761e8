"""A real RTSP camera on the loopback whose pictures tell when they were due: the age of a frame is no guess."""

import subprocess
import time
from functools import cache
from pathlib import Path

import cv2

from device_apps.door_lock.detect import Picture

SERVER = Path(__file__).with_name("rtsp_camera.py")
PYTHON = "/usr/bin/python3"  # Debian's, which has gi
FPS, CYCLE = 15, 256
_BITS, _SIDE = 8, 16


@cache
def why_absent() -> str | None:
    """Why there can be no such camera here; None where there can."""
    wanted = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst; Gst.init(None); "
    wanted += "assert all(map(Gst.ElementFactory.find, ('appsrc', 'jpegparse', 'rtpjpegpay')))"
    try:
        done = subprocess.run([PYTHON, "-c", wanted], capture_output=True, check=False)
    except OSError as error:
        return f"{PYTHON}: {error}"
    return done.stderr.decode().strip().splitlines()[-1] if done.returncode else None


def numbered(picture: Picture, number: int) -> Picture:
    """[480, 640, 3] with `number` (0 to 255) written into the lowest 16 rows, in black and white."""
    marked = picture.copy()
    width = picture.shape[1] // _BITS
    for bit in range(_BITS):
        marked[-_SIDE:, width * bit : width * (bit + 1)] = 255 * (number >> bit & 1)
    return marked


def number_in(picture: Picture) -> int:
    """The number in a picture."""
    width = picture.shape[1] // _BITS
    return sum(1 << bit for bit in range(_BITS) if picture[-_SIDE // 2, width * bit + width // 2, 0] > 128)


class RtspCamera:
    """The camera's process. `pictures` are 256, shown at 15 a second, again and again."""

    def __init__(self, folder: Path, pictures: list[Picture]) -> None:
        folder.mkdir()
        for number, picture in enumerate(pictures):
            cv2.imwrite(str(folder / f"{number:04}.jpg"), numbered(picture, number))
        self._folder, self.port = folder, "0"
        self.start()

    def start(self) -> None:
        """Start it, on the port that it had."""
        line = [PYTHON, str(SERVER), self.port, str(self._folder), str(FPS)]
        self.process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        self.port, started = self.process.stdout.readline().split()
        self._started_s = float(started)

    @property
    def address(self) -> str:
        """Where it is."""
        return f"rtsp://127.0.0.1:{self.port}/cam"

    def age_s(self, number: int) -> float:
        """How long ago the newest picture of that number was due."""
        since = time.monotonic() - self._started_s
        newest = int(since * FPS)
        return since - (newest - (newest - number) % CYCLE) / FPS

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()
