"""A whole assistant without a microphone: a wake word and a recogniser made for tests, everything else real."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from device_apps.clock import FakeClock
from device_apps.events import Event, Events
from device_apps.voice_assistant.act import Action, Dispatcher, Outcome, Request
from device_apps.voice_assistant.activity import EnergyActivity
from device_apps.voice_assistant.assistant import Assistant, Ears
from device_apps.voice_assistant.endpoint import EndpointRules
from device_apps.voice_assistant.intent import IntentModel, Said
from device_apps.voice_assistant.meter import Meter
from device_apps.voice_assistant.microphone import Block
from device_apps.voice_assistant.recognise import Transcript
from device_apps.voice_assistant.reply import Silent
from device_apps.voice_assistant.sound import RATE_HZ, Samples
from device_apps.voice_assistant.verifier import Verifier
from device_apps.voice_assistant.wake import Detector, OperatingPoint, Scores
from edge.errors import EdgetoolError, EnvironmentFailed

BLOCK = 320
BELL = 0.9  # a sample of this value is the wake word


class Bell:
    """A wake word that no voice says by accident: one sample of 0.9, exactly."""

    hop = BLOCK

    def push(self, samples: Samples) -> Scores:
        return np.array([float((samples == np.float32(BELL)).any())], np.float32)

    def reset(self) -> None:
        return

    def close(self) -> None:
        return


class Told:
    """A recogniser that answers what it was told to, and counts what it heard."""

    def __init__(self, text: str = "turn on the light") -> None:
        self.text, self.samples, self.fails = text, 0, False

    def start(self) -> None:
        self.samples = 0

    def push(self, samples: Samples) -> None:
        if self.fails:
            raise EnvironmentFailed("the recogniser has failed")
        self.samples += len(samples)

    def finish(self) -> Transcript:
        return Transcript(self.text, 0.9)

    def close(self) -> None:
        return


class Noted:
    """An action that notes what it was asked."""

    def __init__(self, error: EdgetoolError | None = None) -> None:
        self.requests: list[Request] = []
        self.error = error

    def __call__(self, request: Request) -> Outcome:
        if self.error is not None:
            raise self.error
        self.requests.append(request)
        return Outcome(True, "done")


class Whole:
    """An assistant, its events, and what it did."""

    def __init__(
        self,
        folder: Path,
        intents: IntentModel | None = None,
        rules: EndpointRules | None = None,
        verifiers: Mapping[str, Verifier] | None = None,
    ) -> None:
        self.events: list[Event] = []
        self.clock, self.action, self.recogniser = FakeClock(), Noted(), Told()
        self.meter = Meter(folder / "meter.json")
        detector = Detector({"bell": Bell()}, {"bell": OperatingPoint(0.5)})
        ears = Ears(detector, EnergyActivity(), self.recogniser, verifiers or {})
        actions: dict[str, Action] = {"*": self.action}
        self.assistant = Assistant(
            ears, intents or Said(), Dispatcher(actions), Silent(), self.meter, Events((self.events.append,)),
            self.clock, rules or EndpointRules(),
        )  # fmt: skip

    def hear(self, *parts: Samples, opened: int = 1) -> None:
        """Sound in blocks of 20 ms, on a clock that goes as fast."""
        sound = np.concatenate(parts)
        for at in range(0, len(sound), BLOCK):
            self.clock.advance(BLOCK / RATE_HZ)
            self.assistant.hear(Block(sound[at : at + BLOCK], opened, self.clock.monotonic()))

    def kinds(self) -> list[str]:
        """The kinds of what happened, without the levels."""
        return [event.kind for event in self.events if event.kind != "level"]

    def last(self, kind: str) -> Event:
        return next(event for event in reversed(self.events) if event.kind == kind)


def bell() -> Samples:
    """The wake word."""
    made = np.zeros(BLOCK, np.float32)
    made[10] = BELL
    return made
