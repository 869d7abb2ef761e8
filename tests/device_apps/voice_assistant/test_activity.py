"""Is somebody speaking? On speech, on silence, on noise."""

from pathlib import Path

import numpy as np
import pytest

from device_apps.voice_assistant.activity import EnergyActivity, SileroActivity, TinyActivity, VoiceActivity
from device_apps.voice_assistant.recognise import runs
from device_apps.voice_assistant.sound import RATE_HZ, Samples
from edge.engines import open_engine
from edge.errors import BadModel
from tests.device_apps.voice_assistant.speech import silence, spoken


def flags(activity: VoiceActivity, sound: Samples, piece: int = 320) -> list[bool]:
    return np.concatenate([activity.push(sound[at : at + piece]) for at in range(0, len(sound), piece)]).tolist()


def seconds(activity: VoiceActivity, sound: Samples) -> list[tuple[float, float]]:
    hop_s = activity.hop / RATE_HZ
    return [(begin * hop_s, end * hop_s) for begin, end in runs(flags(activity, sound))]


def test_energy_finds_speech_where_it_is() -> None:
    word = spoken("stop the music")
    sound = np.concatenate([silence(1.5), word, silence(1.5)])
    found = seconds(EnergyActivity(), sound)
    assert found[0][0] == pytest.approx(1.5, abs=0.15)
    assert found[-1][1] == pytest.approx(1.5 + len(word) / RATE_HZ, abs=0.25)


def test_energy_is_the_same_in_pieces_of_any_length() -> None:
    sound = np.concatenate([silence(0.5), spoken("stop"), silence(0.5)])
    assert flags(EnergyActivity(), sound, 320) == flags(EnergyActivity(), sound, 1777)


def test_energy_calls_steady_noise_silence() -> None:
    noise = np.random.default_rng(2).normal(size=5 * RATE_HZ).astype(np.float32) * np.float32(0.05)
    assert not any(flags(EnergyActivity(), noise))


def test_a_reset_forgets_the_noise() -> None:
    activity = EnergyActivity()
    before = flags(activity, np.concatenate([silence(0.5), spoken("stop")]))
    activity.reset()
    assert flags(activity, np.concatenate([silence(0.5), spoken("stop")])) == before


@pytest.mark.shared_data
@pytest.mark.parametrize("suffix", ["tflite", "onnx"])
def test_tinyvad_hears_real_speech_and_not_real_noise(shared_data: Path, suffix: str) -> None:
    pytest.importorskip("ai_edge_litert" if suffix == "tflite" else "onnxruntime")
    name = "tinyvad_cnn_speech_mel_fp32.tflite" if suffix == "tflite" else "tinyvad_cnn_speech_mel.onnx"
    activity = TinyActivity(open_engine(shared_data / "models/moonshine_micro" / name, suffix))
    word = spoken("turn on the kitchen light")
    found = seconds(activity, np.concatenate([silence(1.5), word, silence(1.5)]))
    assert found[0][0] == pytest.approx(1.5, abs=0.3)
    assert found[-1][1] == pytest.approx(1.5 + len(word) / RATE_HZ, abs=0.35)
    activity.reset()
    assert not any(flags(activity, silence(2.0)))


@pytest.mark.shared_data
def test_silero_hears_speech(shared_data: Path) -> None:
    pytest.importorskip("onnxruntime")
    engine = open_engine(shared_data / "models/silero/silero_vad_16k_op15.onnx", "onnx")
    activity = SileroActivity(engine)
    found = seconds(activity, np.concatenate([silence(1.0), spoken("turn on the kitchen light"), silence(1.0)]))
    assert found[0][0] == pytest.approx(1.0, abs=0.2)
    with pytest.raises(BadModel, match="no TinyVAD"):
        TinyActivity(engine)


@pytest.mark.shared_data
def test_another_model_is_no_voice_activity(shared_data: Path) -> None:
    pytest.importorskip("onnxruntime")
    engine = open_engine(shared_data / "models/moonshine_micro/tinyvad_cnn_speech_mel.onnx", "onnx")
    with pytest.raises(BadModel, match="no voice activity model of Silero"):
        SileroActivity(engine)
