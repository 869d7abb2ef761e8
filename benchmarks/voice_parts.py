"""What the programs about the voice assistant share: a state with models at hand, and recordings of the shared data."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np

from device_apps.voice_assistant.commands import Given, initialise
from device_apps.voice_assistant.models import Parts
from device_apps.voice_assistant.sound import RATE_HZ, Samples
from device_apps.voice_assistant.state import State, open_state
from edge.audio import decode_wav, read_wav, resample

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
MOONSHINE = SHARED / "models" / "moonshine_micro"
PROMPTS = Path("/usr/share/asterisk/sounds")
GRAMMAR = "#JSGF V1.0; grammar c; public <c> = (switch | turn) (on | off) the (light | radio);"
SENTENCES = """language: en
intents:
  HassTurnOn: {data: [{sentences: ["(turn|switch) on the {name}"]}]}
  HassTurnOff: {data: [{sentences: ["(turn|switch) off the {name}"]}]}
lists: {name: {values: ["light", "radio"]}}
"""
P = TypeVar("P", bound=Parts)


def state_with(folder: Path, recogniser: str = "sphinx", *, tiny: bool = False) -> State:
    """A state with microWakeWord's "alexa", and PocketSphinx with a grammar or SpellingCNN."""
    (folder / "commands.gram").write_text(GRAMMAR)
    (folder / "home.yaml").write_text(SENTENCES)
    letters = f"letters:{MOONSHINE / 'spelling_cnn_mel_fp32.tflite'}"
    given = Given(
        ("micro:alexa",),
        MOONSHINE / "tinyvad_cnn_speech_mel_fp32.tflite" if tiny else None,
        letters if recogniser == "letters" else f"sphinx:{folder / 'commands.gram'}",
        MOONSHINE / "spelling_cnn_meta.json" if recogniser == "letters" else None,
        None if recogniser == "letters" else folder / "home.yaml",
    )
    state = open_state(folder / "state")
    initialise(state, given, replace=True)
    path = state.policy
    path.write_text(path.read_text() + '\n[reply]\nkind = "text"\n')
    return state


def parts_of(folder: Path, kind: type[P]) -> P:
    """The parts of such a state."""
    from device_apps.voice_assistant.policy import read_policy

    state = state_with(folder)
    return kind(read_policy(state.policy), state.models)


def recording(path: Path) -> Samples:
    """A wav, FLAC or G.722 file as mono at 16 kHz; FLAC by `flac`, G.722 by ffmpeg."""
    if path.suffix == ".wav":
        samples, rate_hz = read_wav(path)
        return resample(np.ascontiguousarray(samples.mean(axis=1)), rate_hz, RATE_HZ)
    if path.suffix == ".flac":
        content = subprocess.run(["flac", "-dcs", str(path)], capture_output=True, check=True).stdout
        samples, rate_hz = decode_wav(content, str(path))
        return resample(np.ascontiguousarray(samples.mean(axis=1)), rate_hz, RATE_HZ)
    line = ["ffmpeg", "-v", "error", "-f", "g722", "-i", str(path), "-f", "s16le", "-ar", "16000", "-ac", "1", "-"]
    content = subprocess.run(line, capture_output=True, check=True).stdout
    return np.frombuffer(content, "<i2").astype(np.float32) / np.float32(32768)


def prompts() -> Iterator[tuple[str, Samples]]:
    """The human prompts of Debian's asterisk-core-sounds-en-g722, by name; none without them or ffmpeg."""
    if shutil.which("ffmpeg") is None:
        return
    for path in sorted(PROMPTS.rglob("*.g722")):
        yield str(path.relative_to(PROMPTS)), recording(path)
