"""Calibration and feedback, by the command line's own functions in this process."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from device_apps.voice_assistant.__main__ import main
from device_apps.voice_assistant.cases import wav
from tests.device_apps.voice_assistant.running import initialised
from tests.device_apps.voice_assistant.speech import silence, spoken


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return initialised(tmp_path_factory.mktemp("commands"))


def said(capsys: pytest.CaptureFixture[str], *words: str, state: Path, code: int = 0) -> str:
    assert main([*words, "--state", str(state)]) == code
    captured = capsys.readouterr()
    return captured.out + captured.err


@pytest.mark.shared_data
def test_a_home_is_calibrated_and_the_app_uses_it(
    state: Path, shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from device_apps.voice_assistant.policy import read_policy
    from device_apps.voice_assistant.run import thresholds
    from device_apps.voice_assistant.state import open_state

    words, home = tmp_path / "words", tmp_path / "home"
    shutil.copytree(shared_data / "speech/microww_tests/alexa", words)
    home.mkdir()
    (home / "talk.wav").write_bytes(wav(np.concatenate([silence(2), spoken("the weather will be fine"), silence(2)])))
    text = said(capsys, "calibrate", "alexa", str(words), str(home), state=state)
    assert "0 of 3 words missed, 0 false accepts" in text
    assert "no second stage" in text
    kept = json.loads((state / "calibration-alexa.json").read_text())
    found = thresholds(open_state(state), read_policy(state / "voice-assistant.toml"))
    assert found == {"alexa": kept["threshold"]}
    assert 0.04 < found["alexa"] < 0.9
    assert "did you mean alexa" in said(capsys, "calibrate", "alexia", str(words), str(home), state=state, code=2)
    assert "no wav files" in said(capsys, "calibrate", "alexa", str(tmp_path / "none"), str(home), state=state, code=2)


def test_feedback_goes_from_a_case_to_a_folder_for_training(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from device_apps.voice_assistant.state import open_state

    case = open_state(state).cases(14).add({"word": "alexa"}, np.zeros(1600, np.float32), 1.7e9)
    assert json.loads(said(capsys, "feedback", "list", state=state))["label"] is None
    assert "no label" in said(capsys, "feedback", "label", case, "../x", state=state, code=2)
    assert "needs more words" in said(capsys, "feedback", "label", case, state=state, code=2)
    assert "is other" in said(capsys, "feedback", "label", case, "other", state=state)
    assert "1 labelled" in said(capsys, "feedback", "export", str(tmp_path / "out"), state=state)
    assert [path.name for path in (tmp_path / "out" / "other").iterdir()] == [f"{case}.wav"]
    assert "deleted" in said(capsys, "feedback", "delete", case, state=state)
    assert said(capsys, "feedback", "list", state=state) == ""


def test_init_does_not_write_over_what_is_there(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (state / "voice-assistant.toml").read_bytes()
    assert "--replace" in said(capsys, "init", "--wake", "micro:alexa", state=state, code=2)
    wrong = ("init", "--replace", "--wake", "micro:alexa", "--recogniser", "sphinx:/nonexistent")
    assert "cannot read" in said(capsys, *wrong, state=state, code=2)
    assert (state / "voice-assistant.toml").read_bytes() == before
    assert not list(state.glob("*.new*"))


@pytest.mark.shared_data
def test_models_of_two_runtimes_are_refused(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pymicro_wakeword")
    pytest.importorskip("ai_edge_litert")
    silero = shared_data / "models/silero/silero_vad_16k_op15.onnx"
    text = said(capsys, "init", "--wake", "micro:alexa", "--activity", str(silero), state=tmp_path / "s", code=2)
    assert "one runtime runs all models" in text
