"""The assistant on an MQTT broker: what it tells, how Home Assistant finds it, and the one thing that it obeys: mute.

A broker can close the microphone and never open it: that takes the page's password, or this machine's command line.
What was said stays here; intents that the settings send are published by `act.Publish`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from device_apps.events import Event
from device_apps.mqtt import Mqtt
from device_apps.voice_assistant.policy import HomeRules

TOLD = frozenset({"started", "wake", "nothing", "muted", "unmuted", "fault", "fault ended", "ignored"})
MAX_PAYLOAD = 64


@dataclass(frozen=True)
class Topics:
    """The topics of one assistant, all below `base`."""

    base: str

    @property
    def availability(self) -> str:
        """`online` or `offline`, retained."""
        return f"{self.base}/availability"

    @property
    def event(self) -> str:
        """Each event as JSON, without what was said."""
        return f"{self.base}/event"

    @property
    def microphone(self) -> str:
        """`open` or `closed`, retained."""
        return f"{self.base}/microphone"

    @property
    def problem(self) -> str:
        """`ON` while there is a fault, else `OFF`, retained."""
        return f"{self.base}/problem"

    @property
    def mute(self) -> str:
        """Where `ON` closes the microphone."""
        return f"{self.base}/mute"


def discovery(topics: Topics, rules: HomeRules, device: str) -> dict[str, dict[str, Any]]:
    """Home Assistant's discovery messages by topic; `device` is an id of this assistant, of a-z and 0-9."""
    shared = {
        "availability_topic": topics.availability,
        "device": {"identifiers": [device], "name": "Voice assistant", "model": "edgetool voice-assistant"},
    }
    parts: dict[str, dict[str, Any]] = {
        "sensor": {
            "name": "Last event",
            "state_topic": topics.event,
            "value_template": "{{ value_json.event }}",
            "json_attributes_topic": topics.event,
        },
        "binary_sensor": {"name": "Problem", "device_class": "problem", "state_topic": topics.problem},
        "button": {"name": "Close the microphone", "command_topic": topics.mute, "payload_press": "ON"},
    }
    return {
        f"{rules.discovery}/{part}/{device}/config": {**config, **shared, "unique_id": f"{device}_{part}"}
        for part, config in parts.items()
    }


def without_words(event: Event) -> dict[str, Any] | None:
    """What of an event may leave the machine; None where nothing does."""
    if event.kind == "intent":
        return {"intent": event.fields["intent"], "done": event.fields["done"]}
    return dict(event.fields) if event.kind in TOLD else None


class HomeAssistant:
    """A listener that keeps the broker informed."""

    def __init__(self, mqtt: Mqtt, topics: Topics, rules: HomeRules, device: str) -> None:
        self._mqtt, self._topics = mqtt, topics
        self._faults: set[str] = set()
        for topic, config in discovery(topics, rules, device).items():
            mqtt.publish(topic, json.dumps(config).encode(), retain=True)
        mqtt.publish(topics.problem, b"OFF", retain=True)

    def __call__(self, event: Event) -> None:
        """Publish what changed."""
        fields = without_words(event)
        if fields is None:
            return
        if event.kind in {"fault", "fault ended"}:
            change = self._faults.add if event.kind == "fault" else self._faults.discard
            change(str(event.fields["source"]))
            self._mqtt.publish(self._topics.problem, b"ON" if self._faults else b"OFF", retain=True)
        if event.kind in {"muted", "unmuted"}:
            state = b"closed" if event.kind == "muted" else b"open"
            self._mqtt.publish(self._topics.microphone, state, retain=True)
        self._mqtt.publish(self._topics.event, Event(event.kind, event.at, fields).as_json().encode())


def heard(
    topics: Topics,
    bolt_topic: str,
    mute: Callable[[], None],
    bolt: Callable[[str], None],
    ignore: Callable[[str], None],
) -> Callable[[str, bytes, bool], None]:
    """What to do with a message: `mute`, take the state of the lock's `bolt`, or `ignore` it with the reason."""

    def message(topic: str, payload: bytes, retained: bool) -> None:
        if topic == bolt_topic:
            if payload in {b"LOCKED", b"UNLOCKED"}:
                bolt(payload.decode())
        elif topic != topics.mute:
            ignore("a message on a topic that nobody asked for")
        elif retained:
            ignore("a retained command is ignored")
        elif payload == b"ON":
            mute()
        elif payload in {b"OFF", b"on", b"off"}:
            ignore("a broker can close the microphone, not open it; ON closes it")
        else:
            ignore(f"a command of {len(payload)} bytes that is not ON")

    return message
