"""What of an assistant others reach, opened as the settings say: broker, webhook, page, Wyoming server."""

from collections.abc import Callable

from device_apps.clock import Clock
from device_apps.events import Background, Listener
from device_apps.mqtt import Mqtt
from device_apps.voice_assistant.act import Action, AskLock, Dispatcher, Post, Print, Publish
from device_apps.voice_assistant.cases import Cases
from device_apps.voice_assistant.home import HomeAssistant, Topics, heard
from device_apps.voice_assistant.live import Live
from device_apps.voice_assistant.meter import Meter
from device_apps.voice_assistant.metrics import Metrics
from device_apps.voice_assistant.models import Parts
from device_apps.voice_assistant.page import Room, page_app
from device_apps.voice_assistant.policy import Policy, Port
from device_apps.voice_assistant.state import State
from device_apps.voice_assistant.wyoming_server import WyomingServer
from device_apps.web.server import Server
from device_apps.webhook import Webhook
from edge.errors import BadInput, EdgetoolError

DEFAULT_PAGE, DEFAULT_WYOMING = 8690, 10400


class Network:
    """All of it. A part that cannot be opened is told and left out: the assistant listens without it.

    `tell` tells an event of a kind with a text of why or where; `refresh` says that the mute may have changed.
    """

    def __init__(
        self,
        state: State,
        policy: Policy,
        clock: Clock,
        tell: Callable[[str, str], None],
        refresh: Callable[[], None],
        *,
        page: int | None = None,
        wyoming: int | None = None,
    ) -> None:
        self._state, self._policy, self._clock = state, policy, clock
        self._tell, self._refresh = tell, refresh
        self._page = _port(policy.page, page)
        self._wyoming = _port(policy.wyoming, wyoming)
        self.listeners: list[Listener] = []
        self.live = Live()
        self._metrics: Metrics | None = None
        self._servers: list[Server | WyomingServer] = []
        self._bolt: str | None = None
        self.mqtt: Mqtt | None = None
        self.broker_fault: str | None = None
        self._webhook: Webhook | None = None
        self._posting: Background | None = None
        if self._page is not None:
            self._metrics = Metrics()
            self.listeners += [self.live, self._metrics]
        if policy.webhook is not None:
            self._webhook = Webhook(policy.webhook, webhook_key(state), lambda event: event.kind == "intent")
            self._posting = Background(self._webhook)
        if policy.mqtt is not None:
            self._open_broker()

    def dispatcher(self) -> Dispatcher:
        """The handlers of the settings' actions. Where there are none, every intent is printed."""
        actions: dict[str, Action] = {}
        for intent, rule in self._policy.actions.items():
            if rule.kind == "mqtt" and self.mqtt is not None:
                actions[intent] = Publish(self.mqtt, rule, self._clock.monotonic)
            elif rule.kind == "webhook" and self._posting is not None:
                actions[intent] = Post(self._posting, rule)
            elif rule.kind == "lock":
                actions[intent] = AskLock(lambda: self._bolt)
            elif rule.kind == "print":
                actions[intent] = Print(rule.reply)
        return Dispatcher(actions or {"*": Print()})

    def fault(self) -> str | None:
        """What is wrong with the broker."""
        return self.broker_fault if self.mqtt is None else self.mqtt.fault(self._clock.monotonic())

    def start(self, meter: Meter, cases: Cases | None, parts: Parts) -> None:
        """Begin to talk."""
        if self.mqtt is not None:
            self.mqtt.start()
        self._tried("page", lambda: self._open_page(meter, cases))
        self._tried("wyoming", lambda: self._open_wyoming(parts))

    def _tried(self, name: str, begin: Callable[[], None]) -> None:
        try:
            begin()
        except EdgetoolError as error:
            self._tell(name, error.message + (f": {error.hint}" if error.hint else ""))

    def stop(self) -> None:
        """Say good-bye, as far as somebody listens."""
        self.live.stopping.set()
        if self._webhook is not None:
            self._webhook.stop()
        if self._posting is not None:
            self._posting.close()
        for server in self._servers:
            server.stop()
        if self.mqtt is not None:
            self.mqtt.stop()

    def _open_broker(self) -> None:
        assert self._policy.mqtt is not None
        topics = Topics(self._policy.mqtt.topic)
        rules = self._policy.home_assistant
        bolt_topic = f"{rules.lock_topic}/bolt"
        try:
            self.mqtt = Mqtt(
                self._policy.mqtt,
                self._state.folder,
                self._clock,
                topics=(topics.mute, bolt_topic),
                heard=heard(topics, bolt_topic, self._mute, self._take_bolt, lambda why: self._tell("ignored", why)),
                will=topics.availability,
            )
        except EdgetoolError as error:
            self.broker_fault = error.message
            return
        device = self._state.key.derived("mqtt id")[:6].hex()
        self.listeners.append(HomeAssistant(self.mqtt, topics, rules, device))

    def _open_page(self, meter: Meter, cases: Cases | None) -> None:
        if self._page is None or self._metrics is None:
            return
        room = Room(self._state, self._clock, self.live, self._metrics, meter, cases, self._refresh)
        if not room.password.is_set:
            raise BadInput("there is no page without a password", "the command `password` sets it")
        server = Server(page_app(room), self._page.host, self._page.port)
        server.start()
        self._servers.append(server)
        self._tell("page", f"http://{self._page.host}:{server.port}/")

    def _open_wyoming(self, parts: Parts) -> None:
        if self._wyoming is None:
            return
        words = tuple(self._policy.wake)
        server = WyomingServer(
            self._wyoming.host, self._wyoming.port, parts, words, lambda why: self._tell("wyoming refused", why)
        )
        server.start()
        self._servers.append(server)
        self._tell("wyoming", f"tcp://{self._wyoming.host}:{server.port}")

    def _mute(self) -> None:
        try:
            self._state.mute()
        except EdgetoolError as error:
            self._tell("ignored", error.message)
        self._refresh()

    def _take_bolt(self, bolt: str) -> None:
        self._bolt = bolt


def webhook_key(state: State) -> bytes:
    """The key that signs what the webhook sends."""
    return state.key.derived("webhook")


def _port(rules: Port | None, told: int | None) -> Port | None:
    return rules if told is None else Port((rules or Port()).host, told)
