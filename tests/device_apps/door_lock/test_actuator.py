"""The relay on gpiozero's mock pins: in this process for what the line does, in its own for who ends what."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gpiozero import Device
from gpiozero.pins.mock import MockFactory

from device_apps.door_lock.actuator import PrintActuator, RelayActuator, open_actuator
from device_apps.door_lock.policy import Actuation
from device_apps.door_lock.relay_process import open_relay, serve
from edge.errors import EnvironmentFailed
from tests.device_apps.door_lock.test_camera import wait_for


@pytest.fixture
def pins() -> Iterator[MockFactory]:
    previous, Device.pin_factory = Device.pin_factory, MockFactory()
    yield Device.pin_factory
    Device.pin_factory.close()
    Device.pin_factory = previous


class Line:
    """A relay's process as a thread of this one, so that the mock pin can be looked at."""

    def __init__(self, *, active_high: bool = True, max_s: float = 0.4) -> None:
        commands, self.to = os.pipe()
        self._answers, answers = os.pipe()
        relay = open_relay(17, active_high=active_high)
        self.thread = threading.Thread(target=serve, args=(relay, commands, answers, max_s))
        self.thread.start()
        self.reader = os.fdopen(self._answers)

    def tell(self, text: str) -> None:
        os.write(self.to, text.encode())

    def heard(self) -> str:
        return self.reader.readline().strip()

    def end(self) -> None:
        os.close(self.to)
        self.thread.join(timeout=5)
        assert not self.thread.is_alive()


@pytest.mark.parametrize("active_high", [True, False])
def test_the_line_is_off_at_the_start_on_for_a_pulse_and_off_at_the_end(pins: MockFactory, active_high: bool) -> None:
    line = Line(active_high=active_high)
    assert line.heard() == "ready"
    line.tell("pulse 0.1\n")
    assert (line.heard(), line.heard()) == ("on", "off")
    line.end()
    states = [entry.state for entry in pins.pin(17).states]
    levels = [state if active_high else not state for state in states]
    # the first is the mock's own, before anybody opened it; afterwards it is on exactly once
    assert "".join("1" if level else "0" for level in levels[1:]).strip("0") in {"1", "11"}
    assert levels[-1] is False


def test_no_pulse_is_longer_than_the_longest_and_none_is_made_longer(pins: MockFactory) -> None:
    line = Line(max_s=0.3)
    assert line.heard() == "ready"
    started = time.monotonic()
    line.tell("pulse 100\n")
    assert line.heard() == "on"
    for _ in range(3):
        line.tell("pulse 100\n")
        assert line.heard() == "on"
    assert line.heard() == "off"
    assert time.monotonic() - started >= 0.29
    assert pins.pin(17).state == 0
    line.end()
    times = [(entry.timestamp, entry.state) for entry in pins.pin(17).states]
    assert sum(1 for _, state in times if state) == 1


@pytest.mark.parametrize("text", ["open\n", "pulse\n", "pulse x\n", "pulse -1\n", "pulse nan\n", "\n", "pulse 0\n"])
def test_what_is_no_command_moves_nothing(pins: MockFactory, text: str) -> None:
    line = Line()
    assert line.heard() == "ready"
    line.tell(text)
    assert line.heard().startswith("failed")
    line.end()
    assert not any(entry.state for entry in pins.pin(17).states)


def test_the_pipe_that_ends_in_a_pulse_ends_the_pulse(pins: MockFactory) -> None:
    line = Line(max_s=5)
    assert line.heard() == "ready"
    line.tell("pulse 5\n")
    assert line.heard() == "on"
    assert pins.pin(17).state == 1
    line.end()
    assert pins.pin(17).state == 0


@pytest.fixture
def relay(monkeypatch: pytest.MonkeyPatch) -> Iterator[RelayActuator]:
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "mock")
    actuator = RelayActuator(Actuation(kind="gpio", pulse_s=0.3))
    yield actuator
    actuator.close()


def test_a_pulse_through_the_process(relay: RelayActuator) -> None:
    assert relay.check() is None
    relay.open_door(0.2)
    assert relay.is_open
    wait_for(lambda: relay.check() is None and not relay.is_open)


def test_a_killed_process_is_noticed_taken_over_and_started_again(relay: RelayActuator) -> None:
    relay.open_door(5)
    first = relay.process_id
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: relay.check() is not None)
    assert not relay.is_open
    with pytest.raises(EnvironmentFailed):
        relay.open_door(1)
    wait_for(lambda: relay.check() is None)
    assert relay.process_id != first
    relay.open_door(0.1)
    wait_for(lambda: relay.check() is None and not relay.is_open)


def test_a_process_that_hangs_in_a_pulse_is_ended(relay: RelayActuator) -> None:
    relay.open_door(0.2)
    first = relay.process_id
    os.kill(first, signal.SIGSTOP)
    took = wait_for(lambda: relay.check() is not None)
    assert took < 5
    assert not relay.is_open
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


def test_the_app_that_is_killed_takes_the_relay_with_it(tmp_path: Path) -> None:
    code = (
        "import os\nfrom device_apps.door_lock.actuator import RelayActuator\n"
        "from device_apps.door_lock.policy import Actuation\n"
        "a = RelayActuator(Actuation(kind='gpio'))\na.open_door(5)\nprint(a.process_id, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    environment = {**os.environ, "GPIOZERO_PIN_FACTORY": "mock"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -9
    relay_process = int(done.stdout)
    wait_for(lambda: not _runs(relay_process), seconds=4)  # well before the pulse would have ended


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_line_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "no_such_factory")
    with pytest.raises(EnvironmentFailed, match="the relay on GPIO 17 cannot be opened"):
        RelayActuator(Actuation(kind="gpio"))


def test_the_printed_bolt_says_what_it_does() -> None:
    said: list[str] = []
    now = [10.0]
    actuator = PrintActuator(said.append, lambda: now[0])
    assert isinstance(open_actuator(Actuation(), said.append), PrintActuator)
    actuator.open_door(100)
    assert actuator.is_open
    now[0] += 5.1
    assert actuator.check() is None
    assert not actuator.is_open
    actuator.open_door(1)
    actuator.close()
    assert said == ["UNLOCKED for 5 s", "LOCKED", "UNLOCKED for 1 s", "LOCKED"]
