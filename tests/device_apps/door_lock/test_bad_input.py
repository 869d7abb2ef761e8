"""Every line of the issue's "Bad input": one line that says why, and the door stays locked."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from device_apps.clock import FakeClock
from device_apps.door_lock.__main__ import main
from device_apps.door_lock.app import RemoteUnlock
from device_apps.door_lock.home_assistant import commands
from device_apps.door_lock.match import Gallery
from device_apps.door_lock.network import command_key
from device_apps.door_lock.people import Person
from device_apps.door_lock.source import bounded
from device_apps.door_lock.state import open_state
from device_apps.signed_command import CommandCheck, signed_command
from edge.errors import EnvironmentFailed
from tests.device_apps.door_lock.scenes import scene, vision
from tests.device_apps.door_lock.test_app import ALONE, Door

SETTINGS = "[models]\n" + "".join(
    f'{part} = {{ file = "{part}.onnx", sha256 = "{"a" * 64}" }}\n' for part in ("detector", "liveness", "embedder")
)


def command(folder: Path, camera: str, settings: str = SETTINGS) -> list[str]:
    """The words that run a lock for a second on a state of its own."""
    folder.mkdir(exist_ok=True)
    (folder / "door-lock.toml").write_text(settings)
    return ["--camera", camera, "--json", "--seconds", "1", "--state", str(folder)]


def error_of(capfd: pytest.CaptureFixture[str]) -> str:
    """What was said; the test fails where it is more than one error, its hint, and nothing else."""
    out, said = capfd.readouterr()
    lines = said.strip().splitlines()
    assert not out
    assert lines[0].startswith("error: "), said
    assert all(line.startswith("hint: ") for line in lines[1:]), said
    return said


@pytest.mark.parametrize("camera", ["/dev/video987", "rtsp://127.0.0.1:9/cam"])
def test_no_camera(tmp_path: Path, camera: str) -> None:
    line = [sys.executable, "-m", "device_apps.door_lock", *command(tmp_path / "state", camera)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    faults = [event for event in events if event["event"] == "fault" and event["source"] == "camera"]
    assert any("does not open" in event["reason"] and event["locked"] for event in faults)
    assert not [event for event in events if event["event"] == "unlock"]


@pytest.mark.parametrize("content", [b"", b"this is no film" * 99])
def test_the_wrong_camera(tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(content)
    for camera in (str(film), str(tmp_path / "none.mp4"), "gopher://camera"):
        assert main(command(tmp_path / "state", camera)) in {2, 3}
        assert camera.rpartition("://")[2] in error_of(capfd) or "gopher" in camera


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: cv2.rotate(p, cv2.ROTATE_180), ""),
        (lambda p: cv2.rotate(p, cv2.ROTATE_90_CLOCKWISE), ""),
        (lambda p: cv2.resize(p, (40, 30)), "too small"),
        (lambda p: np.full_like(p, 110), "no face"),
        (lambda p: np.tile(cv2.resize(p[80:416, 180:456], (128, 120)), (4, 5, 1)), "faces; one is needed"),
    ],
    ids=["upside down", "on its side", "tiny", "no face", "twenty faces"],
)
def test_pictures_that_are_none_of_one_upright_face(
    shared_data: Path, tmp_path: Path, change: object, said: str
) -> None:
    assert callable(change)
    template = vision(shared_data).look(scene(shared_data, 1, 1), 1.0)[1]
    assert template is not None
    look = vision(shared_data, Gallery([Person("ann", "Ann", template[None], "a" * 64, 0.0)], 0.5, 0.0))
    door = Door(tmp_path / "state", ALONE)
    shown = change(scene(shared_data, 1, 1))
    for _ in range(4):
        door.clock.advance(0.1)
        door.lock.submit(look(shown, door.clock.monotonic() - 0.05))
        door.lock.tick()
    assert not door.is_open
    frames = [event.fields for event in door.events if event.kind == "frame"]
    assert said in frames[0]["reasons"][0]
    assert all(fields["outcome"] != "accept" for fields in frames)


@pytest.mark.shared_data
def test_a_huge_picture_is_looked_at_in_a_bounded_size(shared_data: Path) -> None:
    huge = bounded(cv2.resize(scene(shared_data, 1, 1), (8000, 6000), interpolation=cv2.INTER_NEAREST))
    assert max(huge.shape) == 1920
    assert len(vision(shared_data)(huge, 1.0).faces) == 1


def test_template_files_of_strangers_models_and_devices_are_refused_and_said(tmp_path: Path) -> None:
    state, other = open_state(tmp_path / "state"), open_state(tmp_path / "other")
    vectors = np.ones((2, 8), np.float32)
    state.people().add(Person("aa" * 8, "Ann", vectors, "a" * 64, 0.0))
    state.people().add(Person("bb" * 8, "Ben", vectors, "b" * 64, 0.0))
    other.people().add(Person("cc" * 8, "Cy", vectors, "a" * 64, 0.0))
    shutil.copy(other.people_folder / f"{'cc' * 8}.sealed", state.people_folder)
    shutil.copy(state.people_folder / f"{'aa' * 8}.sealed", state.people_folder / f"{'dd' * 8}.sealed")
    (state.people_folder / f"{'ee' * 8}.sealed").write_bytes(b"somebody's own file")
    people, refused = state.people().load("a" * 64)
    assert [person.name for person in people] == ["Ann"]
    reasons = {one.id[:2]: one.reason for one in refused}
    assert "made by another model" in reasons["bb"]
    assert "sealed on another device" in reasons["cc"]
    assert "another record's file" in reasons["dd"]
    assert "no sealed record" in reasons["ee"]


def test_a_corrupted_store_opens_nothing(tmp_path: Path) -> None:
    door = Door(tmp_path / "state", ALONE)
    door.pins.set("ann", "4711")
    record = tmp_path / "state" / "pins" / "pins.sealed"
    assert record.exists()
    content = bytearray(record.read_bytes())
    content[-1] ^= 1
    record.write_bytes(content)
    door.wrong["camera"] = "gone"
    door.enter("4711")
    assert not door.is_open
    assert "was changed" in [event for event in door.events if event.kind == "pin"][-1].fields["reasons"][0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[access]\nface_alown = true\n", "did you mean face_alone"),
        ("[acces]\nface_alone = true\n", "did you mean access"),
        ("[decision]\nmin_frames = 1\n", "min_frames is 3 to 30"),
        ("[actuator]\npulse_s = 3600\n", "pulse_s is"),
        ("[access", "is no TOML"),
    ],
)
def test_a_policy_file_with_an_unknown_key_or_a_value_that_cannot_be(
    tmp_path: Path, text: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(command(tmp_path / "state", "0", SETTINGS + text)) == 2
    assert said in error_of(capfd)


@pytest.mark.parametrize("pin", ["", " ", "abcd", "12", "٤٧١١", "4711\x00", "9" * 400])
def test_a_pin_that_is_empty_or_no_number(tmp_path: Path, pin: str) -> None:
    door = Door(tmp_path / "state", ALONE)
    door.pins.set("ann", "4711")
    door.wrong["camera"] = "gone"
    door.enter(pin)
    assert not door.is_open
    assert [event.fields["right"] for event in door.events if event.kind == "pin"] == [False]


@pytest.mark.parametrize("kind", ["unsigned", "another key", "old", "replayed", "retained"])
def test_an_mqtt_unlock_that_is_none(tmp_path: Path, kind: str) -> None:
    door = Door(tmp_path / "state")
    key, why = command_key(door.state), list[str]()

    def obey(by: str, until_s: float) -> None:
        door.lock.submit(RemoteUnlock(by, "mqtt", until_s))

    heard = commands(CommandCheck(key, door.clock), door.clock, obey, why.append)
    door.clock.advance(10)
    right = signed_command(key, "unlock", "hall", door.clock.wall())
    payload = {"unsigned": b"UNLOCK", "another key": signed_command(b"k" * 32, "unlock", "x", door.clock.wall())}
    if kind == "old":
        door.clock.advance(5.1)
    if kind == "replayed":
        heard("", right, False)
        door.lock.tick()
        assert door.is_open
        door.clock.advance(4)
        door.lock.tick()
    heard("", payload.get(kind, right), kind == "retained")
    door.lock.tick()
    assert not door.is_open
    said = {"unsigned": "unsigned", "another key": "another key", "old": "older", "replayed": "used before"}
    assert said.get(kind, "retained") in why[0]


def test_an_expired_certificate_keeps_faces_out_and_the_pin_opens(tmp_path: Path) -> None:
    """What the connection says of a real broker with one: tests/device_apps/test_mqtt.py."""
    door = Door(tmp_path / "state", ALONE)
    door.pins.set("ann", "4711")
    door.wrong["mqtt"] = "the broker's TLS is refused: certificate has expired"
    door.see()
    assert not door.is_open
    assert "expired" in [event for event in door.events if event.kind == "frame"][-1].fields["reasons"][0]
    door.enter("4711")
    assert door.is_open


def test_a_record_that_cannot_be_written_keeps_the_door_locked(tmp_path: Path) -> None:
    class Full:
        def append(self, event: str, fields: object) -> object:
            raise EnvironmentFailed("no space left")

    door = Door(tmp_path / "state", ALONE, Full())  # type: ignore[arg-type]
    door.see()
    assert not door.is_open
    assert isinstance(door.clock, FakeClock)
