"""The assistant on a real broker: what it tells, what it obeys, and that no word of anybody leaves."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("paho")

from device_apps.clock import SystemClock
from device_apps.events import Event
from device_apps.model_file import ModelFile
from device_apps.mqtt import Broker, Mqtt
from device_apps.voice_assistant.act import ActionRule, Request
from device_apps.voice_assistant.home import Topics, heard, without_words
from device_apps.voice_assistant.intent import Understood
from device_apps.voice_assistant.network import Network
from device_apps.voice_assistant.policy import Policy, WakeRules
from device_apps.voice_assistant.state import State, open_state
from tests.device_apps.mosquitto import Mosquitto, soon

TOPICS = Topics("edgetool/voice")
WAKE = {"alexa": WakeRules(ModelFile("a.tflite", "0" * 64))}
ACTIONS = {"LockState": ActionRule("lock"), "*": ActionRule("mqtt", reply="Sent.")}


class Stranger:
    """Somebody else on the broker."""

    def __init__(self, port: int, folder: Path) -> None:
        self.messages: list[tuple[str, bytes]] = []
        broker = Broker("127.0.0.1", port, "stranger")
        self.mqtt = Mqtt(
            broker, folder, SystemClock(), topics=("edgetool/#", "homeassistant/#"),
            heard=lambda topic, payload, _: self.messages.append((topic, payload)),
        )  # fmt: skip
        self.mqtt.start()
        assert soon(lambda: self.mqtt.fault(SystemClock().monotonic()) is None)

    def has(self, topic: str, payload: bytes) -> bool:
        return (topic, payload) in self.messages


class Connected:
    """An assistant's network on a broker."""

    def __init__(self, folder: Path) -> None:
        self.broker = Mosquitto(folder / "broker")
        self.state: State = open_state(folder / "state")
        self.told: list[tuple[str, str]] = []
        self.refreshed = 0
        policy = Policy(WAKE, actions=ACTIONS, mqtt=Broker("127.0.0.1", self.broker.port, "edgetool/voice"))
        self.network = Network(
            self.state, policy, SystemClock(), lambda kind, text: self.told.append((kind, text)), self._refresh
        )
        self.stranger = Stranger(self.broker.port, folder)
        assert self.network.mqtt is not None
        self.network.mqtt.start()
        assert soon(lambda: self.network.fault() is None)

    def _refresh(self) -> None:
        self.refreshed += 1

    def stop(self) -> None:
        self.network.stop()
        self.stranger.mqtt.stop()
        self.broker.stop()


@pytest.fixture
def connected(tmp_path: Path) -> Iterator[Connected]:
    running = Connected(tmp_path)
    yield running
    running.stop()


def test_home_assistant_finds_it_and_events_come_without_words(connected: Connected) -> None:
    (listener,) = connected.network.listeners
    assert soon(lambda: sum(topic.startswith("homeassistant/") for topic, _ in connected.stranger.messages) == 3)
    listener(Event("wake", 1.0, {"word": "alexa", "score": 0.9}))
    listener(Event("heard", 1.0, {"text": "my secret words"}))
    fields = {"intent": "Light", "done": True, "slots": {"x": "secret"}, "reply": "my secret reply"}
    listener(Event("intent", 1.0, fields))
    listener(Event("fault", 1.0, {"source": "microphone", "reason": "gone"}))
    assert soon(lambda: connected.stranger.has(TOPICS.problem, b"ON"))
    listener(Event("fault ended", 1.0, {"source": "microphone", "reason": None}))
    listener(Event("muted", 1.0))
    assert soon(lambda: connected.stranger.has(TOPICS.microphone, b"closed"))
    assert connected.stranger.has(TOPICS.availability, b"online")

    def found() -> list[str]:
        messages = list(connected.stranger.messages)
        return [json.loads(payload)["event"] for topic, payload in messages if topic == TOPICS.event]

    told = ["wake", "intent", "fault", "fault ended", "muted"]
    assert soon(lambda: len(found()) >= len(told)), "the event follows the microphone's state"
    assert found() == told
    assert not any(b"secret" in payload for _, payload in connected.stranger.messages)


def test_an_intent_is_published_and_the_locks_state_is_told(connected: Connected) -> None:
    act = connected.network.dispatcher()
    done = act(Request(Understood("Light on/+#", {"room": "hall"}, 1.0), "the words", 5.0))
    assert done.reply == "Sent."
    assert soon(lambda: any(topic == "edgetool/voice/intent/Light_on___" for topic, _ in connected.stranger.messages))
    (payload,) = [one for topic, one in connected.stranger.messages if "/intent/" in topic]
    assert json.loads(payload) == {"intent": "Light on/+#", "slots": {"room": "hall"}, "at": 5.0}
    ask = Request(Understood("LockState", {}, 1.0), "is it locked", 5.0)
    assert not act(ask).done
    connected.stranger.mqtt.publish("edgetool/door-lock/bolt", b"LOCKED", retain=True)
    assert soon(lambda: act(ask).reply == "The door is locked.")


def test_a_broker_closes_the_microphone_and_never_opens_it(connected: Connected) -> None:
    connected.stranger.mqtt.publish(TOPICS.mute, b"OFF")
    connected.stranger.mqtt.publish(TOPICS.mute, bytes(5000))
    assert soon(lambda: len(connected.told) == 2)
    assert not connected.state.muted
    connected.stranger.mqtt.publish(TOPICS.mute, b"ON")
    assert soon(lambda: connected.state.muted)
    assert soon(lambda: connected.refreshed == 1)
    connected.stranger.mqtt.publish(TOPICS.mute, b"OFF")
    assert soon(lambda: len(connected.told) == 3)
    assert connected.state.muted
    assert all(kind == "ignored" for kind, _ in connected.told)


def test_a_broker_that_is_gone_is_a_fault_and_an_intent_says_so(connected: Connected) -> None:
    connected.broker.stop()
    assert soon(lambda: connected.network.fault() is not None)
    done = connected.network.dispatcher()(Request(Understood("Light", {}, 1.0), "", 5.0))
    assert not done.done
    assert "cannot be reached" in done.reply
    connected.broker.start()
    assert soon(lambda: connected.network.fault() is None)


def test_retained_and_strange_messages_are_ignored() -> None:
    done: list[str] = []
    message = heard(TOPICS, "lock/bolt", lambda: done.append("mute"), done.append, lambda why: done.append(f"! {why}"))
    message(TOPICS.mute, b"ON", True)
    message("other", b"ON", False)
    message("lock/bolt", b"nonsense", True)
    assert [one[:20] for one in done] == ["! a retained command", "! a message on a top"]
    message("lock/bolt", b"UNLOCKED", True)
    message(TOPICS.mute, b"ON", False)
    assert done[2:] == ["UNLOCKED", "mute"]


def test_what_may_leave() -> None:
    assert without_words(Event("heard", 0.0, {"text": "x"})) is None
    assert without_words(Event("level", 0.0, {})) is None
    assert without_words(Event("muted", 0.0)) == {}


def test_a_broker_whose_password_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    policy = Policy(WAKE, mqtt=Broker("127.0.0.1", 1, "x", "user", "no-such-file"))
    network = Network(open_state(tmp_path), policy, SystemClock(), lambda *_: None, lambda: None)
    assert "password" in (network.fault() or "")
    network.stop()
