import wave

import numpy as np
import pytest

from edge.audio import AudioInput, ResampleStream, read_wav, resample
from edge.errors import BadData


def tone(frequency_hz, rate_hz, n):
    return np.sin(2 * np.pi * frequency_hz * np.arange(n) / rate_hz).astype(np.float32)


def write_wav(path, values, rate_hz=16000, width=2):
    """Floats [n] or [n, channels] in -1..1 as PCM of `width` bytes."""
    channels = 1 if values.ndim == 1 else values.shape[1]
    if width == 1:
        content = (np.rint(values * 127) + 128).astype(np.uint8).tobytes()
    else:
        whole = np.rint(values.ravel().astype(np.float64) * (2 ** (8 * width - 1) - 1)).astype("<i8")
        content = whole.view(np.uint8).reshape(-1, 8)[:, :width].tobytes()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate_hz)
        file.writeframes(content)


@pytest.mark.parametrize(("width", "step"), [(1, 2**-6), (2, 2**-14), (3, 2**-22), (4, 2**-22)])
def test_pcm_of_every_width_is_read_to_its_precision(tmp_path, width, step):
    stereo = np.stack([tone(440, 8000, 400), -0.25 * tone(200, 8000, 400)], axis=1)
    write_wav(tmp_path / "a.wav", stereo, 8000, width)
    samples, rate_hz = read_wav(tmp_path / "a.wav")
    assert rate_hz == 8000
    assert samples.shape == (400, 2)
    np.testing.assert_allclose(samples, stereo, atol=step)


@pytest.mark.parametrize(
    ("from_hz", "to_hz"), [(44100, 16000), (48000, 16000), (8000, 16000), (11025, 16000), (22050, 16000)]
)
def test_resampling_keeps_a_tone(from_hz, to_hz):
    for share in (0.05, 0.5, 0.8):  # of the lower Nyquist rate
        frequency = share * min(from_hz, to_hz) / 2
        got = resample(tone(frequency, from_hz, from_hz // 2), from_hz, to_hz)
        assert len(got) == -(-(from_hz // 2) * to_hz // from_hz)
        middle = slice(500, -500)
        np.testing.assert_allclose(got[middle], tone(frequency, to_hz, len(got))[middle], atol=1e-4)


@pytest.mark.parametrize("from_hz", [44100, 48000, 22050])
def test_resampling_does_not_alias(from_hz):
    for share in (1.02, 1.1, 1.3):
        got = resample(tone(share * 8000, from_hz, from_hz // 2), from_hz, 16000)
        assert np.abs(got[500:-500]).max() < 10 ** (-80 / 20)


def test_silence_and_a_constant_stay_what_they_are():
    assert not resample(np.zeros(1000, np.float32), 44100, 16000).any()
    np.testing.assert_allclose(resample(np.ones(4000, np.float32), 44100, 16000)[200:-200], 1, atol=1e-4)


def test_too_short_is_filled_and_too_long_is_cut():
    raw = np.arange(1, 5, dtype=np.float32) / 10
    np.testing.assert_allclose(AudioInput(16000, 6)(raw), [0.1, 0.2, 0.3, 0.4, 0, 0])
    np.testing.assert_allclose(AudioInput(16000, 2)(raw), [0.1, 0.2])


def test_integers_are_scaled_and_channels_are_averaged():
    raw = np.array([[16384, 0], [-32768, 0]], np.int16)
    np.testing.assert_allclose(AudioInput(16000, 2)(raw), [0.25, -0.5])


@pytest.mark.parametrize(("layout", "shape"), [("T", (3,)), ("TC", (3, 1)), ("CT", (1, 3))])
def test_layouts(layout, shape):
    assert AudioInput(16000, 3, layout)(np.zeros(3, np.float32)).shape == shape


def test_a_wav_file_at_another_rate_becomes_the_models(tmp_path):
    write_wav(tmp_path / "a.wav", np.stack([tone(1000, 44100, 44100)] * 2, axis=1), 44100)
    step = AudioInput(16000, 16000)
    got = step(step.read(tmp_path / "a.wav"))
    np.testing.assert_allclose(got[500:-500], tone(1000, 16000, 16000)[500:-500], atol=1e-3)


def test_damaged_files(tmp_path):
    path = tmp_path / "a.wav"
    write_wav(path, tone(440, 8000, 400))
    whole = path.read_bytes()
    for content, says in (
        (whole[:300], "cut short"),
        (whole[:20], "no PCM wav"),
        (b"RIFX" + whole[4:], "no PCM wav"),
        (b"", "no PCM wav"),
    ):
        path.write_bytes(content)
        with pytest.raises(BadData, match=says):
            read_wav(path)
    float_format = bytearray(whole)
    float_format[20] = 3
    path.write_bytes(bytes(float_format))
    with pytest.raises(BadData, match="format: 3"):
        read_wav(path)
    with pytest.raises(BadData, match="nowhere"):
        read_wav(tmp_path / "nowhere.wav")


def test_empty_and_broken_sound(tmp_path):
    write_wav(tmp_path / "a.wav", np.zeros(0, np.float32))
    with pytest.raises(BadData, match="no sound"):
        read_wav(tmp_path / "a.wav")
    with pytest.raises(BadData, match="NaN"):
        AudioInput(16000, 4)(np.array([0, np.nan], np.float32))
    with pytest.raises(BadData, match="not sound"):
        AudioInput(16000, 4)(np.zeros((1, 2, 3), np.float32))
    with pytest.raises(BadData, match="at least 1"):
        AudioInput(0, 4)


@pytest.mark.parametrize("rate_hz", [8000, 16000, 44100])
def test_bytes_decode_to_what_the_file_reads_as(tmp_path, rate_hz):
    write_wav(tmp_path / "a.wav", tone(440, rate_hz, rate_hz), rate_hz)
    step = AudioInput(16000, 8000)
    decoded = step.decode((tmp_path / "a.wav").read_bytes(), "a.wav")
    assert len(decoded) == 8000  # half of the second that is there
    np.testing.assert_allclose(step(decoded), step(step.read(tmp_path / "a.wav")), atol=1e-7)


@pytest.mark.parametrize("rate_hz", [1, 15999, 2**31 - 1])
def test_a_forged_rate_takes_no_memory(tmp_path, rate_hz):
    write_wav(tmp_path / "a.wav", tone(440, 16000, 16000), rate_hz)
    step, content = AudioInput(16000, 8000), (tmp_path / "a.wav").read_bytes()
    if rate_hz == 2**31 - 1:
        with pytest.raises(BadData, match="cannot be brought"):
            step.decode(content, "a.wav")
    else:
        assert len(step.decode(content, "a.wav")) == 8000


@pytest.mark.parametrize(("from_hz", "to_hz"), [(44100, 16000), (48000, 16000), (8000, 16000), (16000, 16000)])
@pytest.mark.parametrize("piece", [1, 37, 4410])
def test_a_stream_is_resampled_as_the_whole(from_hz, to_hz, piece):
    sound = np.random.default_rng(3).normal(size=from_hz // 10).astype(np.float32)
    stream = ResampleStream(from_hz, to_hz)
    made = np.concatenate([stream.push(sound[at : at + piece]) for at in range(0, len(sound), piece)])
    whole = resample(sound, from_hz, to_hz)
    assert 0.9 * len(whole) < len(made) <= len(whole)
    np.testing.assert_allclose(made, whole[: len(made)], atol=1e-6)


def test_a_stream_of_a_rate_that_needs_too_many_filters_is_refused():
    with pytest.raises(BadData, match="cannot be brought to 16000 Hz"):
        ResampleStream(191_999, 16_000)
