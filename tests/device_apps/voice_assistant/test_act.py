"""Actions: a voice alone opens nothing, whatever the settings; what leaves holds no words."""

import pytest

from device_apps.events import Event
from device_apps.voice_assistant.act import (
    REFUSAL,
    ActionRule,
    AskLock,
    Dispatcher,
    Outcome,
    Post,
    Print,
    Request,
    opens,
)
from device_apps.voice_assistant.intent import Understood


def request(intent: str | None, text: str = "", /, **slots: str) -> Request:
    return Request(Understood(intent, slots, 1.0), text, 1_700_000_000.0)


@pytest.mark.parametrize(
    ("intent", "text", "slots"),
    [
        ("HassUnlock", "unlock the front door", {}),
        ("unlock_door", "", {}),
        ("UNLOCK", "", {}),
        ("HassOpenCover", "open the garage door", {"name": "garage door"}),
        ("HassTurnOff", "turn off the lock", {"domain": "lock"}),
        ("HassTurnOff", "turn off the alarm", {"name": "alarm"}),
        ("disarm", "", {}),
        ("Said", "please unlock everything", {"text": "please unlock everything"}),
        ("HassTurnOn", "", {"name": "unlock front door"}),
        ("openDoor", "", {}),
        ("set_state", "", {"target": "Gate", "state": "OPEN"}),
    ],
)
def test_what_opens_is_refused_before_any_handler(intent: str, text: str, slots: dict[str, str]) -> None:
    asked: list[Request] = []

    class Handler:
        def __call__(self, one: Request) -> Outcome:
            asked.append(one)
            return Outcome(True, "done")

    dispatch = Dispatcher({intent: Handler(), "*": Handler()})
    assert dispatch(request(intent, text, **slots)) == Outcome(False, REFUSAL)
    assert asked == []


@pytest.mark.parametrize(
    ("intent", "text", "slots"),
    [
        ("HassTurnOn", "turn on the light", {"name": "light"}),
        ("HassTurnOff", "turn off the hall light", {"name": "hall light"}),
        ("PlayMusic", "play open your eyes", {"track": "open your eyes"}),
        ("LockDoor", "lock the door", {}),
        ("BlockList", "block the unlocker", {}),
    ],
)
def test_the_rest_is_done(intent: str, text: str, slots: dict[str, str]) -> None:
    assert not opens(intent, slots, text)
    assert Dispatcher({"*": Print()})(request(intent, text, **slots)).done


def test_what_is_not_known_or_not_set_up_does_nothing() -> None:
    dispatch = Dispatcher({"Stop": Print("stopped")})
    assert dispatch(request("Stop")) == Outcome(True, "stopped")
    assert not dispatch(request(None, "make me a sandwich")).done
    assert "don't know" in dispatch(request(None, "make me a sandwich")).reply
    assert "did not understand" in dispatch(request(None)).reply
    assert not dispatch(request("Other")).done


def test_the_lock_is_asked_and_never_moved() -> None:
    assert AskLock(lambda: "LOCKED")(request("LockState")).reply == "The door is locked."
    assert not AskLock(lambda: None)(request("LockState")).done


def test_a_webhook_gets_intent_and_slots_and_not_the_words() -> None:
    sent: list[Event] = []
    assert Post(sent.append, ActionRule("webhook", reply="On it."))(request("Light", "the words", room="hall")).done
    (event,) = sent
    assert event.fields == {"intent": "Light", "slots": {"room": "hall"}}
    assert "words" not in event.as_json()


@pytest.mark.parametrize("topic", ["a/#", "+", "/a", "a/", "$SYS/x"])
def test_topics_that_are_none(topic: str) -> None:
    with pytest.raises(ValueError, match="topic"):
        ActionRule("mqtt", topic)
