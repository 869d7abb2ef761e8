"""What of a lock others reach over the network, opened as the settings say: before the lock, which needs its parts."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from device_apps.audit import Anchor
from device_apps.clock import Clock
from device_apps.door_lock.app import RemoteUnlock
from device_apps.door_lock.home_assistant import HomeAssistant, Topics, commands, is_notable
from device_apps.door_lock.live import Live
from device_apps.door_lock.page import Door, page_app
from device_apps.door_lock.policy import PageRules, Policy
from device_apps.door_lock.state import State
from device_apps.events import Listener
from device_apps.metrics import Metrics
from device_apps.mqtt import Broker, Mqtt, MqttAnchor
from device_apps.signed_command import CommandCheck
from device_apps.web.server import Server
from device_apps.webhook import Webhook
from edge.errors import BadInput, EdgetoolError

if TYPE_CHECKING:
    from device_apps.door_lock.app import DoorLock
    from device_apps.door_lock.camera import Camera

JPEG_QUALITY = 80


def command_key(state: State) -> bytes:
    """The key of signed commands."""
    return state.key.derived("signed commands")


def webhook_key(state: State) -> bytes:
    """The key that signs what the webhook sends."""
    return state.key.derived("webhook")


def broker_anchor(state: State, policy: Policy, clock: Clock) -> tuple[Anchor, ...]:
    """The record's head on the broker, to be read; none where the settings name no broker."""
    if policy.mqtt is None:
        return ()
    return (MqttAnchor(Mqtt(policy.mqtt, state.folder, clock), Topics(policy.mqtt.topic).head),)


class MqttSide:
    """The lock's connection to its broker; `tell` is told why a command was ignored. Raises as `Mqtt`."""

    def __init__(self, broker: Broker, state: State, policy: Policy, clock: Clock, tell: Callable[[str], None]) -> None:
        self._rules, self._topics = policy.home_assistant, Topics(broker.topic)
        self._lock: DoorLock | None = None
        check = CommandCheck(command_key(state), clock)
        self.mqtt = Mqtt(
            broker,
            state.folder,
            clock,
            topics=(self._topics.command,) if self._rules.unlock else (),
            heard=commands(check, clock, self._obey, tell),
            will=self._topics.availability,
        )
        device = state.key.derived("mqtt id")[:6].hex()
        self.listener: Listener = HomeAssistant(self.mqtt, self._topics, self._rules, device)
        self.anchor: Anchor = MqttAnchor(self.mqtt, self._topics.head)
        self._stopping = threading.Event()

    def start(self, lock: "DoorLock", camera: "Camera") -> None:
        """Connect, and obey from now on."""
        self._lock = lock
        self.mqtt.start()
        if self._rules.picture_s:
            threading.Thread(target=self._pictures, args=(camera,), name="mqtt pictures", daemon=True).start()

    def stop(self) -> None:
        """Disconnect."""
        self._stopping.set()
        self.mqtt.stop()

    def _obey(self, by: str, until_s: float) -> None:
        if self._lock is not None:
            self._lock.submit(RemoteUnlock(by, "mqtt", until_s))

    def _pictures(self, camera: "Camera") -> None:
        import cv2

        number = 0
        while not self._stopping.wait(self._rules.picture_s):
            frame = camera.newer_than(number, 0.0)
            if frame is not None:
                number = frame.number
                _, jpeg = cv2.imencode(".jpg", frame.picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
                self.mqtt.publish(self._topics.picture, jpeg.tobytes(), qos=0)


class Network:
    """All of it. A broker that cannot be asked is a fault in `checks`; a page that cannot be shown is only told.

    `tell` tells an event of a kind with a text of why or where. `page` asks for the page on this port.
    """

    def __init__(
        self, state: State, policy: Policy, clock: Clock, tell: Callable[[str, str], None], page: int | None = None
    ) -> None:
        self._state, self._policy, self._clock, self._tell = state, policy, clock, tell
        self.checks: dict[str, Callable[[float], str | None]] = {}
        self.listeners: list[Listener] = []
        self.anchors: tuple[Anchor, ...] = ()
        self._side: MqttSide | None = None
        self._page = policy.page if page is None else PageRules((policy.page or PageRules()).host, page)
        self._live: Live | None = None
        self._server: Server | None = None
        self._webhook: Webhook | None = None
        if self._page is not None:
            self._live, self._metrics = Live(), Metrics("door_lock")
            self.listeners += [self._live, self._metrics]
        if policy.webhook is not None:
            self._webhook = Webhook(policy.webhook, webhook_key(state), is_notable)
            self.listeners.append(self._webhook)
        if policy.mqtt is not None:
            try:
                self._side = MqttSide(policy.mqtt, state, policy, clock, lambda why: tell("ignored", why))
            except EdgetoolError as error:
                why = error.message
                self.checks["broker"] = lambda _: why
            else:
                self.checks["broker"] = self._side.mqtt.fault
                self.listeners.append(self._side.listener)
                self.anchors = (self._side.anchor,)

    def start(self, lock: "DoorLock", camera: "Camera") -> None:
        """Begin to talk."""
        if self._side is not None:
            self._side.start(lock, camera)
        if self._page is not None and self._live is not None:
            self._live.camera = camera
            try:
                self._server = self._opened(self._page, self._live, lock)
            except EdgetoolError as error:
                self._tell("page", f"{error.message}" + (f": {error.hint}" if error.hint else ""))

    def _opened(self, rules: PageRules, live: Live, lock: "DoorLock") -> Server:
        door = Door(self._state, self._policy, self._clock, live, self._metrics, lock)
        if not door.password.is_set:
            raise BadInput("there is no page without a password", "the command `password` sets it")
        server = Server(page_app(door), rules.host, rules.port)
        server.start()
        self._tell("page", f"http://{rules.host}:{server.port}/")
        return server

    def show_counted(self, jpeg: bytes) -> None:
        """Show on the page which part of the face the last decision rested on."""
        if self._live is not None:
            self._live.counted = jpeg

    def stop(self) -> None:
        """Say good-bye, as far as somebody listens."""
        if self._live is not None:
            self._live.stopping.set()
        if self._server is not None:
            self._server.stop()
        if self._side is not None:
            self._side.stop()

    def hurry(self) -> None:
        """Try nothing again: the lock is about to stop."""
        if self._webhook is not None:
            self._webhook.stop()
