"""The lock on an MQTT broker: what it publishes, how Home Assistant finds it, and the signed commands that it obeys.

Home Assistant finds it by MQTT discovery (home-assistant.io/integrations/mqtt): a lock, its last event, what is wrong
with it, and a camera where the settings allow pictures to leave the device.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from device_apps.clock import Clock
from device_apps.events import Event
from device_apps.mqtt import Mqtt
from device_apps.signed_command import MAX_AGE_S, CommandCheck
from edge.errors import BadData

TOLD = frozenset({"started", "unlock", "locked", "waiting", "pin", "ignored", "fault", "fault ended"})


@dataclass(frozen=True)
class HomeAssistantRules:
    """`discovery` begins Home Assistant's own topics. `unlock` lets signed commands open the door; `picture_s` is how
    often a picture leaves for the broker, 0 never.
    """

    discovery: str = "homeassistant"
    unlock: bool = False
    picture_s: float = 0.0

    def __post_init__(self) -> None:
        if not self.discovery or set(self.discovery) & set("+#\0"):
            raise ValueError("discovery is not empty, and holds neither + nor #")
        if self.picture_s and not 0.5 <= self.picture_s <= 3600:
            raise ValueError("picture_s is 0, or 0.5 to 3600")


@dataclass(frozen=True)
class Topics:
    """The topics of one lock, all below `base`."""

    base: str

    @property
    def availability(self) -> str:
        """`online` or `offline`, retained."""
        return f"{self.base}/availability"

    @property
    def bolt(self) -> str:
        """`LOCKED` or `UNLOCKED`, retained."""
        return f"{self.base}/bolt"

    @property
    def event(self) -> str:
        """The last event as JSON, retained."""
        return f"{self.base}/event"

    @property
    def problem(self) -> str:
        """`ON` while there is a fault, else `OFF`, retained; `problem/reasons` has them as JSON."""
        return f"{self.base}/problem"

    @property
    def picture(self) -> str:
        """A JPEG, not retained."""
        return f"{self.base}/picture"

    @property
    def command(self) -> str:
        """Where signed commands come in."""
        return f"{self.base}/command"

    @property
    def head(self) -> str:
        """The head of the audit record, retained."""
        return f"{self.base}/audit-head"


def discovery(topics: Topics, rules: HomeAssistantRules, device: str) -> dict[str, dict[str, Any]]:
    """Home Assistant's discovery messages by topic; `device` is an id of this lock, of a-z and 0-9."""
    shared = {
        "availability_topic": topics.availability,
        "device": {"identifiers": [device], "name": "Door lock", "model": "edgetool door-lock"},
    }
    parts: dict[str, dict[str, Any]] = {
        "lock": {"name": "Lock", "state_topic": topics.bolt, "command_topic": topics.command, "optimistic": False},
        "sensor": {
            "name": "Last event",
            "state_topic": topics.event,
            "value_template": "{{ value_json.event }}",
            "json_attributes_topic": topics.event,
        },
        "binary_sensor": {
            "name": "Problem",
            "device_class": "problem",
            "state_topic": topics.problem,
            "json_attributes_topic": f"{topics.problem}/reasons",
        },
    }
    if rules.picture_s:
        parts["camera"] = {"name": "Camera", "topic": topics.picture}
    return {
        f"{rules.discovery}/{part}/{device}/config": {**config, **shared, "unique_id": f"{device}_{part}"}
        for part, config in parts.items()
    }


def is_notable(event: Event) -> bool:
    """Whether an event is for others than those who watch: not each of the frames."""
    return event.kind in TOLD or (event.kind == "frame" and event.fields["outcome"] != "wait")


class HomeAssistant:
    """A listener that keeps the broker informed."""

    def __init__(self, mqtt: Mqtt, topics: Topics, rules: HomeAssistantRules, device: str) -> None:
        self._mqtt, self._topics = mqtt, topics
        self._faults: dict[str, str] = {}
        for topic, config in discovery(topics, rules, device).items():
            mqtt.publish(topic, json.dumps(config).encode(), retain=True)
        mqtt.publish(topics.bolt, b"LOCKED", retain=True)
        self._tell_faults()

    def __call__(self, event: Event) -> None:
        """Publish what changed."""
        if event.kind in {"unlock", "locked"}:
            self._mqtt.publish(self._topics.bolt, b"UNLOCKED" if event.kind == "unlock" else b"LOCKED", retain=True)
        elif event.kind == "fault":
            self._faults[event.fields["source"]] = event.fields["reason"]
            self._tell_faults()
        elif event.kind == "fault ended":
            self._faults.pop(event.fields["source"], None)
            self._tell_faults()
        if is_notable(event):
            self._mqtt.publish(self._topics.event, event.as_json().encode(), retain=True)

    def _tell_faults(self) -> None:
        self._mqtt.publish(self._topics.problem, b"ON" if self._faults else b"OFF", retain=True)
        reasons = json.dumps({"reasons": list(self._faults.values())}).encode()
        self._mqtt.publish(f"{self._topics.problem}/reasons", reasons, retain=True)


def commands(
    check: CommandCheck, clock: Clock, obey: Callable[[str, float], None], tell: Callable[[str], None]
) -> Callable[[str, bytes, bool], None]:
    """What to do with a message on the command topic: `obey` who signed it till when (monotonic), or `tell` why not."""

    def heard(_topic: str, payload: bytes, retained: bool) -> None:
        try:
            command = check.check(payload, retained=retained)
        except BadData as error:
            tell(error.message)
        else:
            obey(command.by, clock.monotonic() + MAX_AGE_S - (clock.wall() - command.at))

    return heard
