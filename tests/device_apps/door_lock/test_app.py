"""The whole lock on a fake clock: what opens it, and that with any fault a face does not."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from device_apps.audit import FileAnchor, NoRecord, Recorder, read, verify
from device_apps.clock import FakeClock
from device_apps.door_lock.access import AccessRules
from device_apps.door_lock.actuator import PrintActuator
from device_apps.door_lock.app import DoorLock, EgressPressed, PinEntered, Reported, Reset
from device_apps.door_lock.lockout import Lockout, LockoutRules
from device_apps.door_lock.policy import Policy
from device_apps.door_lock.state import State, open_state
from device_apps.events import Event, Events
from edge.errors import DiskFull, EnvironmentFailed
from tests.device_apps.door_lock.findings import finding
from tests.device_apps.door_lock.scenes import POLICY

ALONE = dataclasses.replace(POLICY, access=AccessRules(face_alone=True))


class Door:
    """A lock with all its real parts but a camera, a runtime and a bolt."""

    def __init__(self, folder: Path, policy: Policy = POLICY, recorder: Recorder | None = None) -> None:
        self.clock = FakeClock()
        self.state: State = open_state(folder)
        self.said: list[str] = []
        self.events: list[Event] = []
        self.wrong: dict[str, str | None] = {"camera": None, "vision": None, "mqtt": None}
        self.actuator = PrintActuator(self.said.append, self.clock.monotonic)
        self.pins = self.state.pins()
        rules = LockoutRules(max_failures=3)
        self.lock = DoorLock(
            policy,
            self.clock,
            actuator=self.actuator,
            audit=recorder if recorder is not None else self.state.recorder(self.clock),
            pins=self.pins,
            face_lockout=Lockout(folder / "lockout-face.json", rules, self.clock, "boot"),
            pin_lockout=Lockout(folder / "lockout-pin.json", rules, self.clock, "boot"),
            events=Events((self.events.append,)),
            checks={source: lambda _, source=source: self.wrong[source] for source in self.wrong},
            state=folder,
        )

    def see(self, person: str | None = "ann", frames: int = 3, **kind: object) -> None:
        for _ in range(frames):
            self.clock.advance(0.1)
            self.lock.submit(finding(self.clock.monotonic() - 0.05, person, **kind))  # type: ignore[arg-type]
            self.lock.tick()

    def enter(self, pin: str) -> None:
        self.lock.submit(PinEntered(pin, "keypad"))
        self.lock.tick()

    def leave(self) -> None:
        self.see(None, frames=15, faces=0)

    @property
    def is_open(self) -> bool:
        return self.actuator.is_open

    def kinds(self) -> list[str]:
        return [row["event"] for row in read(self.state.audit)]


@pytest.fixture
def door(tmp_path: Path) -> Door:
    made = Door(tmp_path / "state")
    made.pins.set("ann", "4711")
    return made


@pytest.fixture
def alone(tmp_path: Path) -> Door:
    made = Door(tmp_path / "state", ALONE)
    made.pins.set("ann", "4711")
    return made


def test_nothing_opens_by_itself(door: Door) -> None:
    for _ in range(100):
        door.clock.advance(0.5)
        door.lock.tick()
    assert door.said == []
    assert door.kinds() == []


def test_a_face_then_its_pin_opens_for_one_pulse_and_is_recorded_before(door: Door) -> None:
    door.see()
    assert not door.is_open
    door.enter("4711")
    assert door.is_open
    door.clock.advance(3.1)
    door.lock.tick()
    assert door.said == ["UNLOCKED for 3 s", "LOCKED"]
    (row,) = list(read(door.state.audit))
    assert (row["event"], row["fields"]["person"], row["fields"]["reasons"]) == ("unlock", "ann", ["face and PIN"])
    assert verify(door.state.audit, door.state.audit_key(), door.state.anchors()).seq == 1


def test_the_pin_may_come_first(door: Door) -> None:
    door.enter("4711")
    assert not door.is_open
    door.see()
    assert door.is_open


def test_the_pin_of_another_person_or_one_too_late_does_not_open(door: Door) -> None:
    door.pins.set("ben", "0815")
    door.see()
    door.enter("0815")
    assert not door.is_open
    door.lock.submit(Reset("test"))
    door.lock.tick()
    door.see(frames=30)
    door.clock.advance(16)
    door.enter("4711")
    assert not door.is_open


def test_a_proof_opens_once(door: Door) -> None:
    door.see()
    door.enter("4711")
    door.clock.advance(3.1)
    door.lock.tick()
    door.enter("4711")
    assert door.said == ["UNLOCKED for 3 s", "LOCKED"]


def test_a_face_alone_opens_where_the_settings_say_so(alone: Door) -> None:
    alone.see(frames=2)
    assert not alone.is_open
    alone.see(frames=1)
    assert alone.is_open


FAULTS = ["camera", "vision", "mqtt", "clock", "disk", "audit", "external"]


def break_it(made: Door, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if fault in made.wrong:
        made.wrong[fault] = f"{fault} is gone"
    elif fault == "clock":
        made.clock.set_wall(made.clock.wall() - 86400)
    elif fault == "disk":
        full = type("Full", (), {"f_bavail": 0, "f_frsize": 4096})
        monkeypatch.setattr("device_apps.door_lock.app.os.statvfs", lambda _: full)
    elif fault == "external":
        made.lock.submit(Reported("broker", "broker gone"))
    elif fault == "audit":
        made.lock._audit = NoRecord(DiskFull("the disk is full"))


@pytest.mark.parametrize("fault", FAULTS)
def test_with_any_fault_a_face_does_not_open_within_a_second_and_egress_and_pin_do(
    alone: Door, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone.see(frames=2)
    break_it(alone, fault, monkeypatch)
    alone.clock.advance(0.5)
    alone.see(frames=20)
    assert not alone.is_open
    assert alone.lock.faults.reasons()
    told = [event for event in alone.events if event.kind == "fault"]
    assert told
    assert told[0].fields["reason"]
    alone.enter("4711")
    assert alone.is_open
    alone.clock.advance(3.1)
    alone.lock.tick()
    alone.lock.submit(EgressPressed())
    alone.lock.tick()
    assert alone.is_open
    assert alone.said == ["UNLOCKED for 3 s", "LOCKED", "UNLOCKED for 3 s"]


@pytest.mark.parametrize("fault", ["camera", "vision", "mqtt", "clock", "disk"])
def test_a_fault_between_face_and_pin_takes_the_face_away(
    door: Door, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    door.see()
    break_it(door, fault, monkeypatch)
    door.clock.advance(0.6)
    door.lock.tick()
    assert door.lock._face is None


def test_a_fault_that_ends_lets_faces_count_again_from_the_beginning(alone: Door) -> None:
    alone.see(frames=2)
    alone.wrong["camera"] = "the camera is silent"
    alone.see(frames=2)
    alone.wrong["camera"] = None
    alone.see(frames=2)
    assert not alone.is_open
    alone.see(frames=1)
    assert alone.is_open
    assert alone.kinds() == ["fault", "fault ended", "unlock"]


def test_a_clock_that_was_set_settles(alone: Door) -> None:
    alone.lock.tick()
    alone.clock.set_wall(0)
    alone.clock.advance(0.6)
    alone.lock.tick()
    assert "the clock jumped" in alone.lock.faults.reasons()[0]
    alone.clock.advance(6)
    alone.lock.tick()
    assert alone.lock.faults.reasons() == ()


def test_strangers_lock_the_face_out_and_the_pin_still_works_with_it(alone: Door) -> None:
    for _ in range(3):
        alone.see(None, frames=8)
        alone.leave()
    alone.see()
    assert not alone.is_open
    assert "locked out" in alone.events[-1].fields["reasons"][0]
    assert alone.kinds() == ["refused"] * 3
    alone.clock.advance(61)
    alone.see()
    assert alone.is_open


def test_wrong_pins_lock_the_pins_out_and_not_the_face(alone: Door) -> None:
    for _ in range(3):
        alone.enter("0000")
    alone.wrong["camera"] = "gone"
    alone.enter("4711")
    assert not alone.is_open
    alone.wrong["camera"] = None
    alone.see()
    assert alone.is_open


@pytest.mark.parametrize("pin", ["", "abcd", "4712", "47110", "' OR 1=1", "\x00", "9" * 5000])
def test_wrong_pins_of_every_kind_are_counted_and_not_repeated_anywhere(door: Door, pin: str) -> None:
    door.wrong["camera"] = "gone"
    door.enter(pin)
    assert not door.is_open
    everything = door.state.audit.read_text() + str(door.events) + repr(PinEntered(pin, "keypad"))
    assert not pin or len(pin) < 4 or pin not in everything
    assert "wrong PIN" in str(door.events[-1].fields)


def test_a_spoof_never_opens_however_long(alone: Door) -> None:
    for _ in range(5):
        alone.see(frames=30, live=0.3)
    assert alone.said == []


def test_a_damaged_record_of_pins_opens_nothing(door: Door) -> None:
    (door.state.folder / "pins" / "pins.sealed").write_bytes(b"damaged")
    door.wrong["camera"] = "gone"
    door.enter("4711")
    assert not door.is_open
    assert "damaged" in str(door.events[-1].fields)


def test_a_state_folder_that_is_gone_opens_by_egress_only(alone: Door) -> None:
    shutil.rmtree(alone.state.folder)
    alone.clock.advance(1)
    alone.see(frames=5)
    alone.enter("4711")
    assert not alone.is_open
    alone.lock.submit(EgressPressed())
    alone.lock.tick()
    assert alone.is_open


def test_a_relay_that_does_not_move_is_a_fault_and_is_recorded(tmp_path: Path) -> None:
    made = Door(tmp_path / "state", ALONE)

    def refuse(_: float) -> None:
        raise EnvironmentFailed("the relay does not answer")

    made.actuator.open_door = refuse  # type: ignore[method-assign]
    made.see()
    assert not made.is_open
    assert made.kinds()[:2] == ["unlock", "fault"]
    assert "failed" in made.kinds()


def test_a_record_with_a_damaged_end_keeps_the_door_locked_for_faces(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    open_state(folder)
    (folder / "audit.jsonl").write_bytes(b"damaged\n")
    made = Door(folder, ALONE)
    made.see(frames=6)
    assert not made.is_open
    assert "damaged" in made.lock.faults.reasons()[0]
    assert (folder / "audit.jsonl").read_bytes() == b"damaged\n"


def test_running_locks_at_the_end_and_records_both_ends(alone: Door) -> None:
    anchor = FileAnchor(alone.state.folder / "audit.head")
    ticks = iter([False, False, True])

    def stopped() -> bool:
        alone.see(frames=3)
        return next(ticks)

    alone.lock.run(stopped)
    assert alone.said == ["UNLOCKED for 3 s", "LOCKED"]
    assert alone.kinds()[0] == "started"
    assert alone.kinds()[-1] == "stopped"
    assert anchor.kept() is not None


def test_a_fault_that_stays_is_told_once_and_another_reason_again(alone: Door) -> None:
    for reason in ("opening", "opening", "another hash", "another hash", None, None):
        alone.wrong["vision"] = reason
        alone.lock.tick()
    told = [(event.kind, event.fields["reason"]) for event in alone.events]
    assert told == [("fault", "opening"), ("fault", "another hash"), ("fault ended", None)]
    assert alone.kinds() == ["fault", "fault", "fault ended"]
