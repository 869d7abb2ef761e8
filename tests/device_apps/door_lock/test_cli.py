"""The command line from `init` to `audit verify`, on real models and faces, in processes of its own where it runs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from device_apps.clock import SystemClock
from device_apps.door_lock.__main__ import main
from device_apps.door_lock.network import command_key
from device_apps.door_lock.policy import read_policy
from device_apps.door_lock.recogniser import Recogniser
from device_apps.door_lock.run import Running, run
from device_apps.door_lock.state import open_state
from device_apps.events import Event
from device_apps.signed_command import CommandCheck
from tests.device_apps.door_lock.scenes import scene

pytestmark = pytest.mark.shared_data


@pytest.fixture(scope="module")
def lock(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of a lock with Ann, and Ben who has a PIN."""
    pytest.importorskip("onnx")  # which writes the embedder; the device's environments have it not
    from tests.device_apps.door_lock.tiny_embedder import write_embedder

    folder = tmp_path_factory.mktemp("lock")
    write_embedder(folder / "tiny.onnx")
    models = ["--detector", str(shared_data / "models/yunet/yunet_n_320_320.onnx")]
    models += ["--liveness", str(shared_data / "models/antispoof_minifas/best_model.onnx")]
    state = ["--state", str(folder / "state")]
    assert main(["init", *models, "--embedder", str(folder / "tiny.onnx"), *state]) == 0
    for person in range(1, 7):
        (folder / "faces" / f"s{person}").mkdir(parents=True)
        for number in range(1, 9):
            picture = scene(shared_data, person, number)
            cv2.imwrite(str(folder / "faces" / f"s{person}" / f"{number:02}.png"), picture)
    assert main(["calibrate", str(folder / "faces"), "--fmr", "0.02", *state]) == 0
    assert main(["enrol", "Ann", "--camera", str(folder / "faces/s2"), *state]) == 0
    return folder


def command(folder: Path, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "GPIOZERO_PIN_FACTORY": "mock"}
    line = [sys.executable, "-m", "device_apps.door_lock", *arguments, "--state", str(folder / "state")]
    return subprocess.run(line, capture_output=True, text=True, input=given, env=environment, check=False)


def events_of(done: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


class SlowClock(SystemClock):
    """Ten times slower than it should be: on a machine that is busy with other things frames are fresh all the same."""

    def monotonic(self) -> float:
        return time.monotonic() / 10


@pytest.fixture
def signals() -> Iterator[None]:
    """What a run does with signals ends with the test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
def test_a_run_on_a_folder_recognises_and_asks_for_the_pin(lock: Path) -> None:
    events: list[Event] = []
    state = open_state(lock / "state")
    told = Running(str(lock / "faces/s2"), state.folder / "models", page=0)
    run(state, read_policy(state.policy), told, SlowClock(), (events.append,))
    kinds = {event.kind for event in events}
    assert {"started", "frame", "waiting", "page"} <= kinds  # of the page only why there is none: no password
    assert "unlock" not in kinds
    counted = next(event for event in events if event.kind == "counted")  # made while the lock went on
    assert counted.fields["outcome"] == "accept"
    assert "jpeg" not in counted.fields
    frame = next(event for event in events if event.kind == "frame" and event.fields["outcome"] == "accept")
    assert {"detect", "liveness.model", "embed"} <= set(frame.fields["stages_ms"])
    assert frame.fields["similarity"] > 0.5
    assert command(lock, "audit", "verify").returncode == 0


def test_a_run_that_is_told_to_prints_lines_of_json(lock: Path) -> None:
    events = events_of(command(lock, "--camera", str(lock / "faces/s2"), "--json", "--seconds", "3"))
    assert {"started", "fault"} <= {str(event["event"]) for event in events}


def test_a_wrong_hash_is_a_fault_with_which_the_pin_opens(lock: Path) -> None:
    assert command(lock, "pin", "Ann", given="4711\n").returncode == 0
    model = lock / "state/models/embedder.onnx"
    good = model.read_bytes()
    model.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    try:
        done = command(lock, "--camera", str(lock / "faces/s2"), "--json", "--keypad", "--seconds", "4", given="4711\n")
    finally:
        model.write_bytes(good)
    events = events_of(done)
    faults = [event for event in events if event["event"] == "fault"]
    assert "another file than the settings say" in str(faults)
    (unlock,) = [event for event in events if event["event"] == "unlock"]
    assert "PIN" in str(unlock["reasons"])
    last = [str(event.get("reasons")) for event in events if event["event"] == "frame"]
    assert not last  # nothing was ever looked at


def test_enrolling_the_same_face_twice_is_refused(lock: Path) -> None:
    done = command(lock, "enrol", "Zoe", "--camera", str(lock / "faces/s2"))
    assert done.returncode == 2
    assert "the lock would take this face for Ann" in done.stderr
    done = command(lock, "enrol", "Ann", "--camera", str(lock / "faces/s3"))
    assert done.returncode == 2
    assert "Ann is enrolled already" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--camera", "none.mp4"], 2, "there is no camera 'none.mp4'"),
        (["enrol", "Bob", "--camera", "none"], 2, "there is no camera 'none'"),
        (["people", "remove", "Nobody"], 2, "nobody is enrolled as 'Nobody'"),
        (["people", "remove"], 2, "needs the name"),
        (["pin", "Ann"], 2, "the PIN is empty"),
        (["calibrate", "nowhere"], 2, "holds 0 people"),
        (["init", "--detector", "x", "--liveness", "x", "--embedder", "x"], 2, "exists"),
    ],
)
def test_what_cannot_be_done_is_one_line(lock: Path, arguments: list[str], code: int, said: str) -> None:
    done = command(lock, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_key_of_the_settings_names_the_nearest(lock: Path) -> None:
    path = lock / "other.toml"
    path.write_text((lock / "state/door-lock.toml").read_text().replace("face_alone", "face_alown"))
    done = command(lock, "--camera", str(lock / "faces/s2"), "--config", str(path))
    assert done.returncode == 2
    assert "unknown key" in done.stderr
    assert "did you mean face_alone" in done.stderr


def test_models_of_the_wrong_kind_or_of_two_runtimes_are_refused(lock: Path, shared_data: Path) -> None:
    yunet = str(shared_data / "models/yunet/yunet_n_320_320.onnx")
    minifas = str(shared_data / "models/antispoof_minifas/best_model.onnx")
    tflite = str(shared_data / "models/mobilefacenet/MobileFaceNet.tflite")
    for embedder, said in (
        (yunet, "no face embedder"),
        (tflite, "one runtime runs all three"),
        ("none", "no model file"),
    ):
        arguments = ["init", "--detector", yunet, "--liveness", minifas, "--embedder", embedder]
        assert main([*arguments, "--state", str(lock / "fresh")]) == 2
        done = command(lock, *arguments, "--replace")
        assert said in done.stderr
    assert not (lock / "fresh/door-lock.toml").exists()


def test_a_second_lock_on_one_state_is_refused(lock: Path) -> None:
    line = [sys.executable, "-m", "device_apps.door_lock", "--camera", str(lock / "faces"), "--json"]
    first = subprocess.Popen([*line, "--state", str(lock / "state")], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout is not None
        first.stdout.readline()
        done = command(lock, "--camera", str(lock / "faces/s2"))
        assert done.returncode == 3
        assert "another door lock runs" in done.stderr
    finally:
        first.terminate()
        assert first.wait(timeout=20) == 0


def test_people_come_and_go_and_leave_no_trace(lock: Path) -> None:
    assert command(lock, "enrol", "Cy", "--camera", str(lock / "faces/s5")).returncode == 0
    rows = json.loads(command(lock, "people", "--json").stdout)
    cy = next(row for row in rows if row["name"] == "Cy")
    done = command(lock, "people", "remove", "Cy")
    assert done.returncode == 0
    assert "are deleted" in done.stdout
    left = [path.name for path in (lock / "state/people").iterdir()]
    assert not any(cy["id"] in name for name in left)
    shown = command(lock, "audit", "show").stdout
    assert '"revoked"' in shown
    assert "Cy" not in shown


def test_a_record_that_was_cut_off_fails_the_check(lock: Path) -> None:
    path = lock / "state/audit.jsonl"
    whole = path.read_bytes()
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    try:
        done = command(lock, "audit", "verify")
    finally:
        path.write_bytes(whole)
    assert done.returncode == 1
    assert "it was cut off" in done.stderr


def test_a_person_who_is_revoked_is_unknown_at_the_next_frame(lock: Path, shared_data: Path, tmp_path: Path) -> None:
    shutil.copytree(lock / "state", tmp_path / "state")
    state = open_state(tmp_path / "state")
    look = Recogniser(state, read_policy(state.policy), state.folder / "models", lambda refused: None)
    before = look(scene(shared_data, 2, 3), 1.0)
    assert before.match is not None
    assert before.match.person == state.people().find("Ann").id
    assert main(["people", "remove", "Ann", "--state", str(tmp_path / "state")]) == 0
    after = look(scene(shared_data, 2, 3), 2.0)
    assert after.match is not None
    assert after.match.person is None


def test_a_command_is_signed_on_the_lock_or_with_its_key_elsewhere(lock: Path, tmp_path: Path) -> None:
    key = command(lock, "remote", "key")
    assert key.returncode == 0
    (tmp_path / "key").write_text(key.stdout)
    check = CommandCheck(command_key(open_state(lock / "state")), SystemClock())
    for arguments in ([], ["--key", str(tmp_path / "key")]):
        done = command(lock, "remote", "unlock", "--by", "hall", *arguments)
        assert check.check(done.stdout.encode(), retained=False).by == "hall"
    (tmp_path / "key").write_text("none")
    assert "holds no key" in command(lock, "remote", "unlock", "--key", str(tmp_path / "key")).stderr
