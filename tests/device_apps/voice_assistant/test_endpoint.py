"""When a command begins and ends. Frames of 20 ms: # is speech, . is silence."""

import pytest

from device_apps.voice_assistant.endpoint import EndpointRules, Heard, Outcome, step

HOP_S = 0.02
RULES = EndpointRules(hangover_ms=400, no_speech_s=2.0, max_s=5.0, lead_ms=100, onset_ms=150)


def ended(frames: str, rules: EndpointRules = RULES) -> tuple[Outcome, float]:
    """What it came to, and after how many seconds."""
    heard, outcome = Heard(), "waiting"
    for number, frame in enumerate(frames, 1):
        heard, outcome = step(heard, frame == "#", HOP_S, rules)
        if outcome in {"ended", "nothing", "too long"}:
            return outcome, round(number * HOP_S, 2)
    return outcome, round(len(frames) * HOP_S, 2)


def test_a_command_ends_a_hangover_after_its_last_speech() -> None:
    assert ended("." * 20 + "#" * 30 + "." * 50) == ("ended", 1.4)


def test_the_pause_behind_the_wake_word_is_no_end() -> None:
    assert ended("#" * 4 + "." * 60 + "#" * 30 + "." * 30) == ("ended", 2.28)


def test_a_click_is_no_onset() -> None:
    assert ended("." * 10 + "##" + "." * 90) == ("nothing", 2.0)


def test_a_pause_shorter_than_the_hangover_is_within_the_command() -> None:
    assert ended("." * 5 + "#" * 20 + "." * 18 + "#" * 20 + "." * 30) == ("ended", 1.66)


def test_nobody_speaks() -> None:
    assert ended("." * 200) == ("nothing", 2.0)


def test_speech_that_begins_just_before_the_wait_is_over_is_heard() -> None:
    outcome, seconds = ended("." * 96 + "#" * 30 + "." * 40)
    assert outcome == "ended"
    assert seconds == pytest.approx(2.92)


def test_a_television_does_not_keep_it_listening() -> None:
    outcome, seconds = ended("#" * 1000)
    assert outcome == "too long"
    assert seconds == pytest.approx(5.0, abs=HOP_S)


@pytest.mark.parametrize("wrong", [{"hangover_ms": 501}, {"hangover_ms": 20}, {"no_speech_s": 9, "max_s": 5}])
def test_rules_out_of_range(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"hangover_ms|no_speech_s"):
        EndpointRules(**wrong)
