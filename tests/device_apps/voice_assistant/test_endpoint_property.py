"""Whatever is heard, a command ends in time, and never without speech before."""

import pytest

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

from device_apps.voice_assistant.endpoint import EndpointRules, Heard, step


@settings(max_examples=40)
@given(st.lists(st.booleans(), max_size=600), st.sampled_from([0.01, 0.02, 0.032]))
def test_every_command_ends_in_time(flags: list[bool], hop_s: float) -> None:
    rules = EndpointRules()
    heard, outcome = Heard(), "waiting"
    speech_s = 0.0
    frames = flags + [False] * round(rules.max_s / hop_s + 2)
    for flag in frames:
        heard, outcome = step(heard, flag, hop_s, rules)
        speech_s += hop_s * flag
        if outcome not in {"waiting", "speaking"}:
            break
    assert outcome in {"ended", "nothing", "too long"}
    assert heard.total_s <= rules.max_s + 2 * hop_s
    if outcome == "ended":
        assert speech_s * 1000 >= rules.onset_ms - 1
        assert heard.silence_s * 1000 >= rules.hangover_ms
