"""From blocks of sound to actions: wake word, command, end, text, intent, action, answer. In one thread.

All that is decided is decided by the number of samples heard; a clock that is set, or a thread that is late, changes
no decision.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from device_apps.clock import Clock
from device_apps.events import Event, Events
from device_apps.faults import Faults
from device_apps.voice_assistant.act import Dispatcher, Request
from device_apps.voice_assistant.activity import VoiceActivity
from device_apps.voice_assistant.endpoint import EndpointRules, Heard, step
from device_apps.voice_assistant.intent import IntentModel, Understood
from device_apps.voice_assistant.meter import Meter
from device_apps.voice_assistant.microphone import Block
from device_apps.voice_assistant.recognise import Recogniser
from device_apps.voice_assistant.reply import Voice
from device_apps.voice_assistant.ring import Ring
from device_apps.voice_assistant.sound import RATE_HZ, Samples, level
from device_apps.voice_assistant.verifier import SECONDS, Verifier
from device_apps.voice_assistant.wake import Detector, Wake
from edge.errors import EdgetoolError

RING_S = 15.0
REPLAY_S = 2.0
LEVEL_S = 0.1
DEAF_S = 0.3  # after its own voice: what is still in the room and in buffers


@dataclass(frozen=True)
class Ears:
    """The models that hear."""

    detector: Detector
    activity: VoiceActivity
    recogniser: Recogniser
    verifiers: Mapping[str, Verifier]

    def close(self) -> None:
        """Free them."""
        for part in (self.detector, self.activity, self.recogniser):
            part.close()


@dataclass
class _Command:
    """A command that is being heard."""

    wake: Wake
    number: int
    heard: Heard
    asr_ms: float = 0.0


class Assistant:
    """One microphone's listener. `hear` takes its blocks in order, in one thread."""

    def __init__(
        self,
        ears: Ears,
        intents: IntentModel,
        act: Dispatcher,
        voice: Voice,
        meter: Meter,
        events: Events,
        clock: Clock,
        rules: EndpointRules,
        min_confidence: float = 0.0,
    ) -> None:
        self._ears, self._intents, self._act, self._voice = ears, intents, act, voice
        self.meter, self._events, self._clock, self._rules = meter, events, clock, rules
        self._min_confidence = min_confidence
        self._ring = Ring(RING_S)
        self._command: _Command | None = None
        self._opened = 0
        self._warnings: tuple[str, ...] = ()
        self._peaks: list[float] = []
        self._spent = {"wake": 0.0, "activity": 0.0}
        self._levelled = self._speech = 0
        self._peak_score = 0.0
        self.faults = Faults()

    @property
    def listening_to_command(self) -> bool:
        """Whether a wake word was heard and the command is not over."""
        return self._command is not None

    def hear(self, block: Block) -> None:
        """Take a block."""
        if block.opened != self._opened:
            self.forget(block.opened)
        if block.warnings != self._warnings:
            self._warnings = block.warnings
            self._tell("sound", warnings=list(block.warnings))
        self._guarded("meter", lambda: self.meter.listened(len(block.samples) / RATE_HZ))
        self._ring.push(block.samples)
        started = time.perf_counter()
        wake = self._ears.detector.push(block.samples)
        woken = time.perf_counter()
        flags = self._ears.activity.push(block.samples)
        self._spent["wake"] += woken - started
        self._spent["activity"] += time.perf_counter() - woken
        if self._voice.speaking:
            self._ears.detector.be_deaf(DEAF_S)
        if self._command is not None:
            self._listen(self._command, block, flags.tolist())
        elif wake is not None and not self._voice.speaking:
            self._wake(wake)
        self._show(block, flags.tolist())

    def end(self) -> None:
        """The sound is over, as behind a file: silence, until a command that is being heard has ended."""
        silence = np.zeros(RATE_HZ // 50, np.float32)
        for _ in range(round(self._rules.max_s * 50) + 50):
            if self._command is None:
                return
            self.hear(Block(silence, self._opened, self._clock.monotonic(), self._warnings))

    def forget(self, opened: int = 0) -> None:
        """Drop all sound, as when the microphone is muted or opened anew."""
        self._opened = opened
        self._command = None
        self._ring.wipe()
        self._ears.detector.reset()
        self._ears.activity.reset()
        self._ears.recogniser.start()
        self._peaks.clear()
        self._levelled = self._speech = 0
        self._peak_score = 0.0

    def mute(self) -> None:
        """As `forget`, with the sound of the last triggers and what is being said."""
        self.forget(self._opened)
        self.meter.forget()
        self._voice.stop()
        self._warnings = ()

    def _wake(self, wake: Wake) -> None:
        verifier = self._ears.verifiers.get(wake.word)
        verified = None
        if verifier is not None:
            verified = verifier(self._ring.between(self._ring.end - round(SECONDS * RATE_HZ), self._ring.end))
            if verified < verifier.threshold:
                self._tell("refused wake", word=wake.word, score=round(wake.score, 4), verified=round(verified, 4))
                return
        sound = self._ring.between(self._ring.end - round(REPLAY_S * RATE_HZ), self._ring.end)
        number = self.meter.accepted(wake, sound, self._clock.wall())
        self._command = _Command(wake, number, Heard())
        self._ears.recogniser.start()
        fields: dict[str, Any] = {"word": wake.word, "score": round(wake.score, 4), "number": number}
        if verified is not None:
            fields["verified"] = round(verified, 4)
        self._tell("wake", **fields, at_s=round(self._ring.end / RATE_HZ, 3))

    def _listen(self, command: _Command, block: Block, flags: list[bool]) -> None:
        started = time.perf_counter()
        if not self._guarded("recogniser", lambda: self._ears.recogniser.push(block.samples)):
            self._command = None
            return
        command.asr_ms += (time.perf_counter() - started) * 1000
        for flag in flags:
            command.heard, outcome = step(command.heard, flag, self._ears.activity.hop / RATE_HZ, self._rules)
            if outcome == "nothing":
                self._command = None
                self._guarded("meter", lambda: self.meter.was_false(command.number))
                self._tell("nothing", number=command.number)
                return
            if outcome in {"ended", "too long"}:
                self._command = None
                self._guarded("recogniser", partial(self._finish, command, block, outcome))
                return

    def _finish(self, command: _Command, block: Block, outcome: str) -> None:
        watch = _Stopwatch()
        transcript = self._ears.recogniser.finish()
        watch.lap("recognise")
        sure = transcript.text and transcript.confidence >= self._min_confidence
        understood = self._intents(transcript.text) if sure else Understood(None, why="nothing was understood")
        watch.lap("intent")
        at = self._clock.wall()
        fields = {"number": command.number, "text": transcript.text, "confidence": round(transcript.confidence, 4)}
        self._tell("heard", **fields, end=outcome)
        said = "That did not work."
        done = False
        try:
            result = self._act(Request(understood, transcript.text if sure else "", at))
            done, said = result.done, result.reply
        except EdgetoolError as error:
            self.fault("action", error.message)
        else:
            self.fault("action", None)
        watch.lap("action")
        silence_ms = (command.heard.total_s - command.heard.speech_end_s) * 1000
        late_ms = max(0.0, (self._clock.monotonic() - block.heard_s) * 1000)
        self._tell(
            "intent",
            number=command.number,
            intent=understood.intent,
            slots=dict(understood.slots),
            confidence=round(understood.confidence, 4),
            why=understood.why,
            done=done,
            reply=said,
            stages_ms={**watch.laps, "streaming": round(command.asr_ms, 2)},
            silence_ms=round(silence_ms, 1),
            after_hangover_ms=round(max(0.0, silence_ms - self._rules.hangover_ms) + late_ms, 1),
        )
        self._voice.say(said)
        self._ears.detector.be_deaf(DEAF_S)

    def _show(self, block: Block, flags: list[bool]) -> None:
        """What a page draws: loudness, scores, what hearing costs; ten times a second."""
        if not len(block.samples):
            return
        self._peaks.append(round(float(np.abs(block.samples).max()), 3))
        self._speech += any(flags)
        scores = self._ears.detector.scores
        self._peak_score = max(self._peak_score, max(scores.values(), default=0.0))
        span = self._ring.end - self._levelled
        if span < LEVEL_S * RATE_HZ:
            return
        per_s = RATE_HZ / span
        self._tell(
            "level",
            rms_db=round(level(block.samples).rms_db, 1),
            peaks=list(self._peaks),
            score=round(self._peak_score, 3),
            scores={word: round(score, 3) for word, score in scores.items()},
            speech=self._speech > 0,
            hearing=self._command is not None,
            rtf={stage: round(spent * per_s, 5) for stage, spent in self._spent.items()},
        )
        self._peaks.clear()
        self._levelled, self._speech, self._peak_score = self._ring.end, 0, 0.0
        self._spent = dict.fromkeys(self._spent, 0.0)

    def last_sound(self, seconds: float) -> Samples:
        """A copy of the newest sound; for whoever was asked to keep it."""
        return self._ring.between(self._ring.end - round(seconds * RATE_HZ), self._ring.end)

    def fault(self, source: str, reason: str | None) -> None:
        """Say what is wrong with a part, or None that nothing is any more; told where it is news."""
        if self.faults.set(source, reason):
            self._tell("fault" if reason is not None else "fault ended", source=source, reason=reason)

    def _guarded(self, source: str, action: Callable[[], object]) -> bool:
        try:
            action()
        except EdgetoolError as error:
            self.fault(source, error.message)
            return False
        self.fault(source, None)
        return True

    def _tell(self, kind: str, **fields: Any) -> None:
        self._events.tell(Event(kind, self._clock.wall(), fields))


class _Stopwatch:
    """The milliseconds of each stage."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self.laps: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.laps[stage], self._last = round((now - self._last) * 1000, 2), now
