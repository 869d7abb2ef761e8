"""The parts of a running lock, wired together."""

import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from device_apps.clock import Clock
from device_apps.door_lock.actuator import open_actuator
from device_apps.door_lock.app import DoorLock, EgressPressed, PinEntered, Reported
from device_apps.door_lock.camera import Camera, Frame
from device_apps.door_lock.counted import Question, WhatCounted
from device_apps.door_lock.finding import Finding
from device_apps.door_lock.network import Network
from device_apps.door_lock.people import Refused
from device_apps.door_lock.policy import Policy
from device_apps.door_lock.recogniser import Recogniser
from device_apps.door_lock.source import open_source, shown
from device_apps.door_lock.state import State
from device_apps.door_lock.watcher import Watcher
from device_apps.events import Background, Event, Events, Listener
from device_apps.memory import give_back
from device_apps.only_one import OnlyOne


@dataclass(frozen=True)
class Running:
    """What a run is told beside the settings.

    `models` is the folder of the models, `anchor` a second place for the audit record's head, `keypad` whether lines
    of the standard input are PINs, `seconds` when to stop (None: when a file is through, or never), `page`
    the port of the page.
    """

    camera: str
    models: Path
    anchor: Path | None = None
    keypad: bool = False
    seconds: float | None = None
    page: int | None = None


def run(state: State, policy: Policy, told: Running, clock: Clock, listeners: tuple[Listener, ...]) -> None:
    """Run the lock until it is stopped, or until a file that stands for a camera is through.

    Raises:
        BadInput: there is no such camera file.
        EnvironmentFailed: another lock runs on this state, or the actuator cannot be opened.

    """
    if not told.camera.startswith(("rtsp", "http", "tcp", "udp", "/dev/", "picamera2")) and not told.camera.isdigit():
        open_source(told.camera, policy.camera.fps).close()  # a wrong name is said at once
    only = OnlyOne(state.folder, "door lock")
    events = Events()

    def tell(kind: str, **fields: object) -> None:
        events.tell(Event(kind, clock.wall(), fields))

    network = Network(state, policy, clock, lambda kind, why: tell(kind, reasons=[why]), told.page)
    look = _Opening(lambda: _recogniser(state, policy, told, say_refused))
    counted: Listener = WhatCounted(look.question, tell, network.show_counted)
    told_to = [Background(listener) for listener in (*listeners, *network.listeners, counted)]
    for listener in told_to:
        events.add(listener)

    def say_refused(refused: tuple[Refused, ...]) -> None:
        tell("templates refused", templates=[asdict(one) for one in refused])

    camera = Camera(lambda: open_source(told.camera, policy.camera.fps), clock)
    busy = _Outstanding(lambda finding: lock.submit(finding))  # noqa: PLW0108  # lock comes after this
    watcher = Watcher(camera, look, busy.found, clock)
    checks: dict[str, Callable[[float], str | None]] = {
        "camera": lambda now: None if camera.ended else camera.fault(now, policy.camera.lost_ms),
        "vision": watcher.fault,
        **network.checks,
    }
    actuator = open_actuator(policy.actuator, lambda text: tell("bolt", says=text))
    try:
        lock = DoorLock(
            policy,
            clock,
            actuator=actuator,
            audit=state.recorder(clock, told.anchor or policy.audit.second, network.anchors),
            pins=state.pins(),
            face_lockout=state.lockout("face", policy.lockout, clock),
            pin_lockout=state.lockout("pin", policy.lockout, clock),
            events=events,
            checks=checks,
            state=state.folder,
        )
    except BaseException:
        actuator.close()
        raise
    stop = _stopped_by_signal()
    button = _egress_button(policy.actuator.egress_pin, lock)
    if told.keypad:
        threading.Thread(target=_keypad, args=(lock,), name="keypad", daemon=True).start()
    camera.start()
    watcher.start()
    # what a page needs takes a second to import: nobody at the door waits for that
    starting = threading.Thread(target=network.start, args=(lock, camera), name="network", daemon=True)
    starting.start()
    until = None if told.seconds is None else time.monotonic() + told.seconds
    tell("started", camera=shown(told.camera), key=state.key.origin)

    def stopped() -> bool:
        through = camera.ended and busy.idle(camera) and not actuator.is_open
        return stop.is_set() or through or (until is not None and time.monotonic() > until)

    try:
        lock.run(stopped)
    finally:
        camera.stop()
        watcher.stop()
        if button is not None:
            button.close()
        only.release()
        starting.join(timeout=2.0)
        network.hurry()
        for listener in told_to:
            listener.close()
        network.stop()


def _recogniser(
    state: State, policy: Policy, told: Running, say_refused: Callable[[tuple[Refused, ...]], None]
) -> Recogniser:
    opened = Recogniser(state, policy, told.models, say_refused)
    give_back()
    return opened


class _Opening:
    """Opens the recogniser in the watcher's thread, and knows it from then on."""

    def __init__(self, open_it: Callable[[], Recogniser]) -> None:
        self._open = open_it
        self._opened: Recogniser | None = None

    def __call__(self) -> Recogniser:
        self._opened = self._open()
        return self._opened

    def question(self, captured_s: float) -> Question | None:
        """As `Recogniser.question`; None before it is there."""
        return None if self._opened is None else self._opened.question(captured_s)


class _Outstanding:
    """Passes findings on, and knows whether the newest frame has been looked at."""

    def __init__(self, submit: Callable[[Finding], None]) -> None:
        self._submit, self._number, self._at = submit, 0, time.monotonic()

    def found(self, frame: Frame, finding: Finding) -> None:
        self._submit(finding)
        self._number, self._at = frame.number, time.monotonic()

    def idle(self, camera: Camera) -> bool:
        """Whether there is no newer frame, and the last one was decided on a moment ago."""
        return camera.newer_than(self._number, 0) is None and time.monotonic() - self._at > 0.2


def _stopped_by_signal() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _keypad(lock: DoorLock) -> None:
    for line in sys.stdin:
        entered = line.strip()
        lock.submit(EgressPressed("keypad") if entered == "egress" else PinEntered(entered, "keypad"))


class _Button:
    """The egress button, on a GPIO line with a pull-up."""

    def __init__(self, pin: int, lock: DoorLock) -> None:
        from gpiozero import Button

        self._button = Button(pin)
        self._button.when_pressed = lambda: lock.submit(EgressPressed())

    def close(self) -> None:
        self._button.close()


def _egress_button(pin: int | None, lock: DoorLock) -> _Button | None:
    if pin is None:
        return None
    try:
        return _Button(pin, lock)
    except Exception as error:  # noqa: BLE001  # gpiozero's errors and the library's below it share no class
        lock.submit(Reported("egress button", f"the egress button on GPIO {pin} cannot be opened: {error}"))
        return None
