"""Sound as microphones give it: every form, what cannot be used, and what is wrong with it."""

from collections.abc import Iterator

import numpy as np
import pytest

from device_apps.voice_assistant.ring import Ring
from device_apps.voice_assistant.sound import RATE_HZ, Converter, DcBlock, Format, Quality, Samples, level
from edge.audio import resample
from edge.errors import BadData


def tone(rate_hz: int, seconds: float = 0.5, hz: float = 440.0, amplitude: float = 0.5) -> Samples:
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(int(rate_hz * seconds)) / rate_hz)).astype(np.float32)


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(content), size):
        yield content[at : at + size]


@pytest.mark.parametrize("rate_hz", [8000, 16000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_every_form_becomes_16_khz_mono(rate_hz: int, channels: int, width: int) -> None:
    values = np.repeat(tone(rate_hz)[:, None], channels, axis=1).astype(np.float64)
    whole = np.rint(values.ravel() * (2 ** (8 * width - 1) - 1)).astype("<i8")
    if width == 1:
        content = (whole + 128).astype(np.uint8).tobytes()
    else:
        content = whole.view(np.uint8).reshape(-1, 8)[:, :width].tobytes()
    convert = Converter(Format(rate_hz, width, channels))
    made = np.concatenate([convert(piece) for piece in pieces(content, 1001)])
    wanted = resample(tone(rate_hz), rate_hz, RATE_HZ)
    assert len(made) > 0.9 * len(wanted)
    assert np.abs(made - wanted[: len(made)]).max() < (0.01 if width == 1 else 2e-4)


def test_floats_are_taken_and_what_is_no_number_is_silence() -> None:
    given = np.array([0.5, np.nan, np.inf, -2.0, -0.25], "<f4")
    made = Converter(Format(16000, 4, 1, "float"))(given.tobytes())
    assert made.tolist() == [0.5, 0.0, 0.0, -1.0, -0.25]


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ((4000, 2, 1, "int"), "4000 Hz cannot be used"),
        ((500_000, 2, 1, "int"), "500000 Hz"),
        ((16000, 2, 0, "int"), "0 channels"),
        ((16000, 2, 64, "int"), "64 channels"),
        ((16000, 5, 1, "int"), "5-byte int"),
        ((16000, 2, 1, "float"), "2-byte float"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(form: tuple[int, int, int, str], reason: str) -> None:
    with pytest.raises(BadData, match=reason):
        Format(*form)  # type: ignore[arg-type]


def test_an_offset_is_taken_away_and_told() -> None:
    sound = tone(RATE_HZ, 3.0, amplitude=0.2) + np.float32(0.3)
    block, quality = DcBlock(), Quality()
    made, said = [], ()
    for at in range(0, len(sound), 320):
        said = quality(sound[at : at + 320])
        made.append(block(sound[at : at + 320]))
    assert any("offset" in warning for warning in said)
    late = np.concatenate(made)[RATE_HZ:]
    assert abs(late.mean()) < 0.01
    assert np.abs(late - tone(RATE_HZ, 3.0, amplitude=0.2)[RATE_HZ:]).max() < 0.03


def test_clipping_and_a_dead_microphone_are_told_and_good_sound_is_not() -> None:
    def said(sound: Samples) -> tuple[str, ...]:
        quality, found = Quality(), ()
        for at in range(0, len(sound), 320):
            found = quality(sound[at : at + 320])
        return found

    assert said(tone(RATE_HZ, 3.0)) == ()
    assert any("clipped" in one for one in said(np.clip(4 * tone(RATE_HZ, 3.0), -1, 1)))
    assert any("zeros" in one for one in said(np.zeros(6 * RATE_HZ, np.float32)))
    noise = np.random.default_rng(1).normal(size=6 * RATE_HZ).astype(np.float32) * np.float32(1e-4)
    assert said(noise) == ()  # silence of a real microphone


def test_the_level_of_a_sine_and_of_silence() -> None:
    found = level(tone(RATE_HZ, amplitude=0.5))
    assert found.rms_db == pytest.approx(-9.03, abs=0.05)
    assert found.peak == pytest.approx(0.5, abs=1e-3)
    assert level(np.zeros(10, np.float32)).rms_db == -120


@pytest.mark.parametrize("piece", [1, 7, 320, 5000])
def test_the_ring_keeps_the_newest(piece: int) -> None:
    ring = Ring(0.1)
    sound = np.arange(5000, dtype=np.float32)
    for at in range(0, 5000, piece):
        ring.push(sound[at : at + piece])
    assert ring.end == 5000
    assert ring.begin == 3400
    assert ring.between(4000, 4010).tolist() == sound[4000:4010].tolist()
    assert ring.between(0, 3405).tolist() == sound[3400:3405].tolist()
    assert ring.between(4990, 9999).tolist() == sound[4990:].tolist()
    ring.wipe()
    assert ring.between(0, 10).tolist() == []
    assert not ring._kept.any()
