"""When a command begins and ends, from the frames' yes and no. Pure: a state and a frame to the next state.

The pause behind the wake word is no end: an end needs an onset before it.
"""

from dataclasses import dataclass, replace
from typing import Literal

Outcome = Literal["waiting", "speaking", "ended", "nothing", "too long"]
MAX_HANGOVER_MS = 500


@dataclass(frozen=True)
class EndpointRules:
    """`hangover_ms` of silence end a command, `no_speech_s` without one end the wait, and nobody speaks for `max_s`.

    In the first `lead_ms` after the wake word speech is its own end; an onset is `onset_ms` of speech after that.
    """

    hangover_ms: int = 400
    no_speech_s: float = 4.0
    max_s: float = 10.0
    lead_ms: int = 100
    onset_ms: int = 150

    def __post_init__(self) -> None:
        if not 150 <= self.hangover_ms <= MAX_HANGOVER_MS:
            raise ValueError(f"hangover_ms is 150 to {MAX_HANGOVER_MS}")
        if not 1 <= self.no_speech_s <= self.max_s <= 30:
            raise ValueError("no_speech_s is at least 1 and at most max_s, max_s at most 30")
        if not (0 <= self.lead_ms <= 1000 and 20 <= self.onset_ms <= 1000):
            raise ValueError("lead_ms is 0 to 1000, onset_ms 20 to 1000")


@dataclass(frozen=True)
class Heard:
    """What was heard since the wake word, in seconds: all, speech so far, silence since, and when speech last ended."""

    total_s: float = 0.0
    speech_s: float = 0.0
    silence_s: float = 0.0
    speech_end_s: float = 0.0
    began: bool = False


def step(heard: Heard, speech: bool, hop_s: float, rules: EndpointRules) -> tuple[Heard, Outcome]:
    """One frame of `hop_s` seconds further."""
    total_s = heard.total_s + hop_s
    if speech and total_s * 1000 > rules.lead_ms:
        speech_s = heard.speech_s + hop_s
        began = heard.began or speech_s * 1000 >= rules.onset_ms
        now = Heard(total_s, speech_s, 0.0, total_s, began)
    else:
        silence_s = heard.silence_s + hop_s
        kept_s = heard.speech_s if heard.began or silence_s * 1000 < rules.onset_ms else 0.0
        now = replace(heard, total_s=total_s, silence_s=silence_s, speech_s=kept_s)
    return now, _outcome(now, rules)


def _outcome(now: Heard, rules: EndpointRules) -> Outcome:
    if now.began and now.silence_s * 1000 >= rules.hangover_ms:
        return "ended"
    if now.total_s >= rules.max_s:
        return "too long" if now.began else "nothing"
    if not now.began:
        return "nothing" if now.total_s >= rules.no_speech_s and not now.speech_s else "waiting"
    return "speaking"
