"""From sound to action, on a clock that stands still: every way that a command can go."""

import json
from pathlib import Path

import numpy as np
import pytest

from device_apps.voice_assistant.endpoint import EndpointRules
from device_apps.voice_assistant.sound import RATE_HZ
from device_apps.voice_assistant.verifier import BANDS as VERIFIER_BANDS
from device_apps.voice_assistant.verifier import PARTS, SECONDS, Verifier
from edge.errors import EnvironmentFailed
from tests.device_apps.voice_assistant.assistants import BLOCK, Whole, bell
from tests.device_apps.voice_assistant.speech import silence, spoken


@pytest.fixture
def whole(tmp_path: Path) -> Whole:
    return Whole(tmp_path)


def test_a_command_is_heard_understood_and_done(whole: Whole) -> None:
    words = spoken("turn on the light")
    whole.hear(silence(1), bell(), silence(0.3), words, silence(1))
    assert whole.kinds() == ["wake", "heard", "intent"]
    (request,) = whole.action.requests
    assert request.text == "turn on the light"
    event = whole.last("intent")
    assert event.fields["done"]
    assert 400 <= event.fields["silence_ms"] <= 460
    assert event.fields["after_hangover_ms"] <= 100
    assert set(event.fields["stages_ms"]) == {"recognise", "intent", "action", "streaming"}
    # the recogniser heard from the wake word to the end of the hang-over, and no more
    seconds = whole.recogniser.samples / RATE_HZ
    assert seconds == pytest.approx(0.3 + len(words) / RATE_HZ + 0.4, abs=0.35)
    json.loads(event.as_json())


def test_without_a_wake_word_nothing_is_heard(whole: Whole) -> None:
    whole.hear(silence(0.5), spoken("unlock the door"), silence(1))
    assert whole.kinds() == []
    assert whole.recogniser.samples == 0


def test_nobody_speaks_after_the_wake_word(whole: Whole) -> None:
    whole.hear(silence(1), bell(), silence(5))
    assert whole.kinds() == ["wake", "nothing"]
    assert whole.meter.reading.false_accepts == 1
    assert whole.action.requests == []


def test_two_wake_words_in_a_row_are_one_command(whole: Whole) -> None:
    whole.hear(silence(1), bell(), bell(), silence(0.3), bell(), spoken("stop"), silence(1))
    assert whole.kinds() == ["wake", "heard", "intent"]


def test_a_voice_alone_opens_nothing(whole: Whole) -> None:
    whole.recogniser.text = "unlock the front door"
    whole.hear(silence(1), bell(), silence(0.3), spoken("unlock the front door"), silence(1))
    assert whole.action.requests == []
    assert not whole.last("intent").fields["done"]
    assert "voice alone" in whole.last("intent").fields["reply"]


def test_what_is_not_understood_does_nothing(whole: Whole) -> None:
    whole.recogniser.text = ""
    whole.hear(silence(1), bell(), silence(0.3), spoken("mumble"), silence(1))
    assert whole.action.requests == []
    assert whole.last("intent").fields["intent"] is None


def test_a_recogniser_that_fails_is_a_fault_and_the_next_command_is_heard(whole: Whole) -> None:
    whole.recogniser.fails = True
    whole.hear(silence(1), bell(), silence(0.5), spoken("stop"), silence(1))
    assert "fault" in whole.kinds()
    assert whole.action.requests == []
    whole.recogniser.fails = False
    whole.hear(silence(2), bell(), silence(0.3), spoken("stop"), silence(1))
    assert whole.kinds()[-4:] == ["wake", "fault ended", "heard", "intent"]


def test_an_action_that_fails_is_told(whole: Whole) -> None:
    whole.action.error = EnvironmentFailed("the lamp does not answer")
    whole.hear(silence(1), bell(), silence(0.3), spoken("stop"), silence(1))
    assert whole.last("fault").fields == {"source": "action", "reason": "the lamp does not answer"}
    assert not whole.last("intent").fields["done"]


def test_a_file_that_ends_within_a_command_ends_it(whole: Whole) -> None:
    whole.hear(silence(1), bell(), silence(0.3), spoken("stop"))
    assert whole.assistant.listening_to_command
    whole.assistant.end()
    assert whole.kinds() == ["wake", "heard", "intent"]


def test_a_microphone_that_was_opened_anew_begins_anew(whole: Whole) -> None:
    whole.hear(silence(1), bell(), silence(0.3), spoken("stop"))
    whole.hear(silence(2), opened=2)
    assert whole.kinds() == ["wake"]
    assert not whole.assistant.listening_to_command


def test_a_clock_that_is_set_changes_no_decision(whole: Whole) -> None:
    whole.hear(silence(1), bell(), silence(0.3), spoken("stop"))
    whole.clock.set_wall(0.0)
    whole.hear(silence(1))
    assert whole.kinds() == ["wake", "heard", "intent"]
    assert whole.last("intent").fields["after_hangover_ms"] <= 100


def test_muting_forgets_what_was_heard(whole: Whole) -> None:
    whole.hear(silence(1), bell(), silence(0.3), spoken("stop"))
    assert len(whole.meter.replays()) == 1
    whole.assistant.mute()
    assert whole.meter.replays() == ()
    assert not whole.assistant._ring._kept.any()
    assert not whole.assistant.listening_to_command
    assert whole.assistant.last_sound(1.0).tolist() == []


def verifier(threshold: float) -> Verifier:
    length = PARTS * 2 * VERIFIER_BANDS.bands
    return Verifier("m" * 64, (0.0,) * length, (1.0,) * length, (0.0,) * length, 0.0, threshold, 20, 20)  # always 0.5


def test_the_second_stage_can_only_veto(tmp_path: Path) -> None:
    refusing = Whole(tmp_path, verifiers={"bell": verifier(0.6)})
    refusing.hear(silence(SECONDS), bell(), silence(0.3), spoken("stop"), silence(1))
    assert refusing.kinds() == ["refused wake"]
    assert refusing.meter.reading.accepts == 0
    passing = Whole(tmp_path, verifiers={"bell": verifier(0.4)})
    passing.hear(silence(SECONDS), bell(), silence(0.3), spoken("stop"), silence(1))
    assert passing.last("wake").fields["verified"] == 0.5


def test_the_page_gets_levels_ten_times_a_second(whole: Whole) -> None:
    whole.hear(silence(1), spoken("stop"), silence(0.5))
    levels = [event for event in whole.events if event.kind == "level"]
    total_s = 1.5 + len(spoken("stop")) / RATE_HZ
    assert len(levels) == pytest.approx(total_s * 10, abs=2)
    assert sum(len(event.fields["peaks"]) for event in levels) * BLOCK / RATE_HZ == pytest.approx(total_s, abs=0.15)
    assert any(event.fields["speech"] for event in levels)
    json.loads(levels[-1].as_json())


def test_warnings_about_the_sound_are_told_once(whole: Whole) -> None:
    from device_apps.voice_assistant.microphone import Block

    for _ in range(3):
        whole.assistant.hear(Block(np.zeros(BLOCK, np.float32), 1, 0.0, ("clipped",)))
    whole.assistant.hear(Block(np.zeros(BLOCK, np.float32), 1, 0.0))
    assert [event.fields["warnings"] for event in whole.events if event.kind == "sound"] == [["clipped"], []]


def test_a_full_disk_is_a_fault_and_it_goes_on_listening(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise EnvironmentFailed("the disk is full")

    monkeypatch.setattr(whole.meter, "save", full)
    whole.assistant._rules = EndpointRules(no_speech_s=1.0)
    whole.hear(silence(0.5), bell(), silence(2))
    assert whole.last("fault").fields["reason"] == "the disk is full"
    whole.hear(silence(1), bell(), silence(0.3), spoken("stop"), silence(1))
    assert len(whole.action.requests) == 1
