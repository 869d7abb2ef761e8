"""The parts of a running assistant, wired together."""

import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from device_apps.clock import Clock, ClockWatch
from device_apps.events import Background, Event, Events, Listener
from device_apps.only_one import OnlyOne
from device_apps.voice_assistant.assistant import Assistant, Ears
from device_apps.voice_assistant.calibrate import read_calibration
from device_apps.voice_assistant.cases import Cases
from device_apps.voice_assistant.microphone import Microphone
from device_apps.voice_assistant.models import Parts
from device_apps.voice_assistant.network import Network
from device_apps.voice_assistant.policy import Policy
from device_apps.voice_assistant.reply import open_voice
from device_apps.voice_assistant.source import is_file, open_source
from device_apps.voice_assistant.state import State
from device_apps.voice_assistant.verifier import Verifier, read_verifier
from edge.errors import EdgetoolError

CHECK_S = 0.5
METER_S = 30.0
EXPIRE_S = 3600.0


@dataclass(frozen=True)
class Running:
    """What a run is told beside the settings: `fast` plays a file as fast as it is heard, `seconds` ends the run."""

    mic: str
    fast: bool = False
    seconds: float | None = None
    page: int | None = None
    wyoming: int | None = None


def run(state: State, policy: Policy, told: Running, clock: Clock, listeners: tuple[Listener, ...]) -> None:
    """Run the assistant until it is stopped, or until a file that stands for a microphone is through.

    Raises:
        BadInput: there is no such file, or the settings' models are not what they should be.
        EnvironmentFailed: another assistant runs on this state, or a runtime is not there.

    """
    only = OnlyOne(state.folder, "voice assistant")
    try:
        if is_file(told.mic):
            open_source(told.mic).close()  # a wrong name is said at once
        _run(state, policy, told, clock, listeners)
    finally:
        only.release()


def _run(state: State, policy: Policy, told: Running, clock: Clock, listeners: tuple[Listener, ...]) -> None:
    events, changed = Events(), threading.Event()

    def tell(kind: str, **fields: object) -> None:
        events.tell(Event(kind, clock.wall(), fields))

    parts = Parts(policy, state.models, thresholds(state, policy))
    network = Network(
        state,
        policy,
        clock,
        lambda kind, text: tell(kind, text=text),
        changed.set,
        page=told.page,
        wyoming=told.wyoming,
    )
    told_to = [Background(listener) for listener in (*listeners, *network.listeners)]
    for listener in told_to:
        events.add(listener)
    ears = Ears(parts.detector(), parts.activity(), parts.recogniser(), verifiers(state, parts.wake_hashes))
    voice = open_voice(policy.reply.kind, policy.reply.piper_model)
    meter = state.meter()
    cases = state.cases(policy.feedback.days)
    cases.expire(clock.wall())  # also where nothing is kept any more: what was kept before expires all the same
    assistant = Assistant(
        ears,
        parts.intents,
        network.dispatcher(),
        voice,
        meter,
        events,
        clock,
        policy.listen,
        policy.intents.min_confidence,
    )
    microphone = Microphone(lambda: open_source(told.mic), clock, fast=told.fast, muted=state.muted)
    watch = _Watch(state, assistant, microphone, network, cases, clock, tell)
    stop = stopped_by_signal()
    microphone.start()
    network.start(meter, cases if policy.feedback.keep else None, parts)
    tell("started", mic=told.mic, key=state.key.origin, voice=voice.name, words=list(policy.wake), muted=state.muted)
    until = None if told.seconds is None else time.monotonic() + told.seconds
    try:
        while not stop.is_set() and not microphone.through and (until is None or time.monotonic() < until):
            block = microphone.next(0.05)
            if block is not None and not watch.muted:
                assistant.hear(block)
            watch.look(now=changed.is_set())
            changed.clear()
        if microphone.through:
            assistant.end()
    finally:
        microphone.stop()
        watch.last()
        tell("stopped", **meter.reading.as_plain(), dropped_blocks=microphone.dropped, losses=microphone.losses)
        for listener in told_to:
            listener.close()
        network.stop()
        voice.stop()
        ears.close()


def thresholds(state: State, policy: Policy) -> dict[str, float]:
    """What this home was calibrated to. Raises BadInput: a calibration is damaged."""
    found = {
        word: read_calibration(state.calibration(word), rule.model.sha256, rule.window)
        for word, rule in policy.wake.items()
    }
    return {word: threshold for word, threshold in found.items() if threshold is not None}


def verifiers(state: State, hashes: Mapping[str, str]) -> dict[str, Verifier]:
    """The second stage of each wake word that has one. Raises BadInput: one is damaged, or another model's."""
    found = {word: read_verifier(state.verifier(word), digest) for word, digest in hashes.items()}
    return {word: verifier for word, verifier in found.items() if verifier is not None}


class _Watch:
    """What is looked at twice a second, and not for each block: mute, faults, the clock, the disk, old cases."""

    def __init__(
        self,
        state: State,
        assistant: Assistant,
        microphone: Microphone,
        network: Network,
        cases: Cases,
        clock: Clock,
        tell: Callable[..., None],
    ) -> None:
        self._state, self._assistant, self._microphone, self._network = state, assistant, microphone, network
        self._cases, self._clock, self._tell = cases, clock, tell
        self._jumps = ClockWatch(clock)
        self._looked_s = float("-inf")
        self._metered_s = self._expired_s = clock.monotonic()
        self.muted = state.muted
        if self.muted:
            tell("muted")

    def look(self, *, now: bool) -> None:
        """Look, where it is time or something changed."""
        at = self._clock.monotonic()
        if not now and at - self._looked_s < CHECK_S:
            return
        self._looked_s = at
        self._mute()
        self._assistant.fault("microphone", self._microphone.fault())
        self._assistant.fault("broker", self._network.fault())
        jump = self._jumps.jump()
        if jump:
            self._tell("clock", jumped_s=round(jump, 1))
        if at - self._metered_s >= METER_S:
            self._metered_s = at
            self._tell("meter", **self._assistant.meter.reading.as_plain())
        if at - self._expired_s >= EXPIRE_S:
            self._expired_s = at
            self._keep(lambda: self._cases.expire(self._clock.wall()))

    def last(self) -> None:
        """Keep the counts."""
        self._keep(self._assistant.meter.save)

    def _mute(self) -> None:
        wanted = self._state.muted
        if wanted == self.muted:
            return
        self.muted = wanted
        if not wanted:
            self._microphone.unmute()
            self._tell("unmuted")
            return
        closed = self._microphone.mute()
        self._assistant.mute()
        self._network.live.forget()
        self._tell("muted")
        self._assistant.fault("mute", None if closed else "the microphone could not be closed in time")

    def _keep(self, action: Callable[[], object]) -> None:
        try:
            action()
        except EdgetoolError as error:
            self._assistant.fault("disk", error.message)
        else:
            self._assistant.fault("disk", None)


def stopped_by_signal() -> threading.Event:
    """Set by SIGTERM and SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
