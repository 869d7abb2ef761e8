"""What is done with an intent: handlers behind one small Protocol, and the rule that stands before all of them.

A voice alone opens nothing: it can be recorded, imitated, or come from a television. What would open, unlock or disarm
is refused here, whatever the settings say, before any handler is asked.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from device_apps.events import Event, Listener
from device_apps.mqtt import Mqtt
from device_apps.voice_assistant.intent import Understood

OPENS_ALWAYS = frozenset({"unlock", "unlocked", "unlocking", "unbolt", "unlatch", "disarm", "disarmed"})
OPENS = frozenset({"open", "opens", "opening", "opened"})
OPENED = frozenset({"door", "doors", "garage", "gate", "gates", "lock", "locks", "bolt", "safe", "entrance", "shutter"})
ENDS = frozenset({"off", "disable", "deactivate", "stop", "release", "undo"})
ENDED = frozenset({"alarm", "alarms", "lock", "locks", "bolt", "security"})
REFUSAL = "A voice alone opens nothing. Use your face and PIN at the lock."
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


@dataclass(frozen=True)
class Request:
    """An intent that somebody spoke: what, from which words, and when on the wall clock."""

    understood: Understood
    text: str
    at: float


@dataclass(frozen=True)
class Outcome:
    """Whether something was done, and what to say about it."""

    done: bool
    reply: str


class Action(Protocol):
    """Does one thing; returns at once."""

    def __call__(self, request: Request) -> Outcome:
        """Raises an EdgetoolError: it could not be done."""
        ...


@dataclass(frozen=True)
class ActionRule:
    """What an intent does. `topic` is where `mqtt` publishes, below the broker's own; `reply` is what is said after."""

    kind: Literal["print", "mqtt", "webhook", "lock"] = "print"
    topic: str = ""
    reply: str = ""

    def __post_init__(self) -> None:
        if set(self.topic) & set("+#\0") or self.topic.startswith(("/", "$")) or self.topic.endswith("/"):
            raise ValueError("topic holds neither + nor #, and neither begins nor ends with /")


def opens(intent: str, slots: Mapping[str, str], text: str) -> bool:
    """Whether an intent, by its name, its slots or the words that were heard, would open, unlock or disarm something.

    Rather too often than once too seldom: "open the door of the oven" is refused too.
    """
    words = set()
    for part in (intent, *slots, *slots.values(), text):
        words |= {word.lower() for word in _WORD.findall(part)}
    return bool(words & OPENS_ALWAYS or (words & OPENS and words & OPENED) or (words & ENDS and words & ENDED))


class Dispatcher:
    """Each intent to its handler; "*" is for those without one."""

    def __init__(self, actions: Mapping[str, Action]) -> None:
        self._actions = dict(actions)

    def __call__(self, request: Request) -> Outcome:
        """Do what is asked for. Raises an EdgetoolError: the handler could not."""
        understood = request.understood
        if understood.intent is None:
            return Outcome(False, "I don't know how to do that." if request.text else "I did not understand.")
        if opens(understood.intent, understood.slots, request.text):
            return Outcome(False, REFUSAL)
        action = self._actions.get(understood.intent, self._actions.get("*"))
        if action is None:
            return Outcome(False, f"Nothing is set up for {understood.intent}.")
        return action(request)


class Print:
    """Says what it would do."""

    def __init__(self, reply: str = "") -> None:
        self._reply = reply

    def __call__(self, request: Request) -> Outcome:
        slots = ", ".join(f"{name} {value}" for name, value in request.understood.slots.items())
        said = f"{request.understood.intent}: {slots}" if slots else str(request.understood.intent)
        return Outcome(True, self._reply or said)


class Publish:
    """Publishes intent and slots as JSON, not retained; the words that were heard stay here."""

    def __init__(self, mqtt: Mqtt, rule: ActionRule, now_s: Callable[[], float]) -> None:
        self._mqtt, self._rule, self._now_s = mqtt, rule, now_s

    def __call__(self, request: Request) -> Outcome:
        if self._mqtt.fault(self._now_s()) is not None:
            return Outcome(False, "The broker cannot be reached.")
        understood = request.understood
        topic = f"{self._mqtt.broker.topic}/{self._rule.topic or f'intent/{_plain(understood.intent)}'}"
        body = {"intent": understood.intent, "slots": dict(understood.slots), "at": round(request.at, 3)}
        self._mqtt.publish(topic, json.dumps(body, ensure_ascii=False).encode())
        return Outcome(True, self._rule.reply or "Okay.")


class Post:
    """Hands the intent to a webhook, which signs and posts it in a thread of its own."""

    def __init__(self, webhook: Listener, rule: ActionRule) -> None:
        self._webhook, self._rule = webhook, rule

    def __call__(self, request: Request) -> Outcome:
        understood = request.understood
        fields = {"intent": understood.intent, "slots": dict(understood.slots)}
        self._webhook(Event("intent", request.at, fields))
        return Outcome(True, self._rule.reply or "Okay.")


class AskLock:
    """Tells what the door lock's bolt does. It has no way to move it."""

    def __init__(self, bolt: Callable[[], str | None]) -> None:
        self._bolt = bolt

    def __call__(self, request: Request) -> Outcome:
        bolt = self._bolt()
        if bolt is None:
            return Outcome(False, "The door lock does not answer.")
        return Outcome(True, f"The door is {bolt.lower()}.")


def _plain(intent: str | None) -> str:
    """An intent as one level of a topic."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", intent or "none")[:64]
