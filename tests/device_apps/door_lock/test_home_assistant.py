"""The lock on a real broker: what Home Assistant would find there, and which commands open."""

import dataclasses
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from device_apps.clock import SystemClock
from device_apps.door_lock.app import DoorLock, RemoteUnlock, Reported
from device_apps.door_lock.camera import Camera
from device_apps.door_lock.home_assistant import HomeAssistantRules
from device_apps.door_lock.network import MqttSide, Network, command_key
from device_apps.mqtt import Broker, Mqtt, fetched
from device_apps.signed_command import signed_command
from tests.device_apps.door_lock.scenes import POLICY
from tests.device_apps.door_lock.test_app import Door
from tests.device_apps.mosquitto import Mosquitto, soon

CLOCK = SystemClock()
BASE = "edgetool/door-lock"


class OnePicture:
    """A source of grey."""

    interval_s = 0.05

    def read(self) -> np.ndarray:
        return np.full((48, 64, 3), 90, np.uint8)

    def close(self) -> None: ...


class Wired:
    """A lock on the system's clock, wired to a broker."""

    def __init__(self, folder: Path, port: int) -> None:
        rules = HomeAssistantRules(unlock=True, picture_s=0.5)
        self.folder, self.broker = folder, Broker("127.0.0.1", port)
        policy = dataclasses.replace(POLICY, mqtt=self.broker, home_assistant=rules)
        self.door = Door(folder)
        self.door.clock = CLOCK  # type: ignore[assignment]
        self.ignored: list[str] = []
        self.network = Network(self.door.state, policy, CLOCK, lambda _, why: self.ignored.append(why))
        self.door.lock._clock = CLOCK
        self.door.lock._watch._clock = CLOCK
        self.door.lock._watch.jump()
        self.door.lock._checks = self.network.checks
        self.door.actuator._now = CLOCK.monotonic
        for listener in self.network.listeners:
            self.door.lock._events.add(listener)
        self.camera = Camera(OnePicture, CLOCK)  # type: ignore[arg-type]
        self.camera.start()
        self.network.start(self.door.lock, self.camera)
        self.stranger = Mqtt(self.broker, folder, CLOCK, topics=(f"{BASE}/picture",), heard=self._heard)
        self.pictures: list[bytes] = []
        self.stranger.start()
        assert soon(lambda: self.stranger.fault(CLOCK.monotonic()) is None and self.healthy())

    def _heard(self, _topic: str, payload: bytes, _retained: bool) -> None:
        self.pictures.append(payload)

    def healthy(self) -> bool:
        self.door.lock.tick()
        return not self.door.lock.faults

    def shown(self, topic: str) -> str:
        return (fetched(self.broker, self.folder, topic) or b"").decode()

    def command(self, payload: bytes, *, retain: bool = False) -> None:
        self.stranger.publish(f"{BASE}/command", payload, retain=retain)

    def becomes(self, is_open: bool) -> bool:
        def there() -> bool:
            self.door.lock.tick()
            return self.door.is_open is is_open

        return soon(there)

    def close(self) -> None:
        self.stranger.stop()
        self.network.stop()
        self.camera.stop()


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    started = Mosquitto(tmp_path / "broker")
    yield started
    started.stop()


@pytest.fixture
def wired(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Wired]:
    made = Wired(tmp_path / "state", mosquitto.port)
    yield made
    made.close()


def test_home_assistant_finds_a_lock_an_event_a_problem_and_a_camera(wired: Wired) -> None:
    device = wired.door.state.key.derived("mqtt id")[:6].hex()
    for part in ("lock", "sensor", "binary_sensor", "camera"):
        config = json.loads(wired.shown(f"homeassistant/{part}/{device}/config"))
        assert config["unique_id"] == f"{device}_{part}"
        assert config["availability_topic"] == f"{BASE}/availability"
        assert config["device"]["identifiers"] == [device]
    assert wired.shown(f"{BASE}/availability") == "online"
    assert wired.shown(f"{BASE}/bolt") == "LOCKED"
    assert wired.shown(f"{BASE}/problem") == "OFF"
    assert soon(lambda: wired.pictures)
    assert wired.pictures[0][:2] == b"\xff\xd8"


def test_a_signed_command_opens_for_one_pulse_and_is_told(wired: Wired) -> None:
    key = command_key(wired.door.state)
    message = signed_command(key, "unlock", "Ann's phone", CLOCK.wall())
    wired.command(message)
    assert wired.becomes(True)
    assert soon(lambda: wired.shown(f"{BASE}/bolt") == "UNLOCKED")
    assert wired.becomes(False)
    assert soon(lambda: wired.shown(f"{BASE}/bolt") == "LOCKED")
    unlock = next(event for event in wired.door.events if event.kind == "unlock")
    assert unlock.fields["by"] == "Ann's phone"
    wired.command(message)
    assert soon(lambda: wired.ignored)
    assert wired.ignored == ["the command was used before"]
    assert wired.door.said == ["UNLOCKED for 3 s", "LOCKED"]


def test_unsigned_old_and_retained_commands_do_not(wired: Wired) -> None:
    key = command_key(wired.door.state)
    wired.command(b"UNLOCK")
    wired.command(signed_command(key, "unlock", "x", CLOCK.wall() - 6))
    assert soon(lambda: len(wired.ignored) == 2)
    wired.command(signed_command(key, "unlock", "x", CLOCK.wall() - 6), retain=True)
    assert soon(lambda: len(wired.ignored) == 3)
    again = MqttSide(
        wired.broker,
        wired.door.state,
        dataclasses.replace(POLICY, home_assistant=HomeAssistantRules(unlock=True)),
        CLOCK,
        wired.ignored.append,
    )
    again.start(wired.door.lock, wired.camera)
    try:
        assert soon(lambda: wired.ignored[3:] == ["a retained command is ignored"])
    finally:
        again.stop()
    wired.door.lock.tick()
    assert wired.door.said == []


def test_a_broker_that_is_gone_keeps_faces_out_and_says_so(wired: Wired, mosquitto: Mosquitto) -> None:
    mosquitto.stop()
    assert soon(lambda: not wired.healthy())
    assert "broker" in wired.door.lock.faults.reasons()[0]
    assert "fault" in wired.door.kinds()


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path / "state")


def give(lock: DoorLock, until_s: float) -> None:
    lock.submit(RemoteUnlock("x", "mqtt", until_s))
    lock.tick()


def test_a_command_opens_nothing_with_a_fault_or_too_late(door: Door) -> None:
    door.lock.submit(Reported("camera", "gone"))
    give(door.lock, door.clock.monotonic() + 5)
    assert door.events[-1].fields["reasons"] == ("gone",)
    door.wrong["camera"] = None
    door.lock.tick()
    give(door.lock, door.clock.monotonic() - 0.1)
    assert door.events[-1].fields["reasons"] == ("the command came too late",)
    assert door.said == []
    assert door.kinds()[-2:] == ["fault ended", "refused"] or door.kinds()[-1] == "refused"
    give(door.lock, door.clock.monotonic() + 5)
    assert door.is_open


def test_a_broker_whose_files_are_missing_is_a_fault_of_a_lock_that_runs(door: Door) -> None:
    broker = Broker("127.0.0.1", user="ann", password_file="none")
    network = Network(door.state, dataclasses.replace(POLICY, mqtt=broker), CLOCK, lambda _, why: door.said.append(why))
    assert "password" in str(network.checks["broker"](0.0))
    assert (network.listeners, network.anchors) == ([], ())
    before = threading.active_count()
    network.start(door.lock, Camera(OnePicture, CLOCK))  # type: ignore[arg-type]
    assert threading.active_count() == before
    network.stop()
