import math

import numpy as np
import pytest

from edge.audio_features import BLOCK, FeatureStream, LogMel, Mfcc, filterbank
from edge.errors import BadData

KEYWORD = LogMel(8000, 256, 160, 40)
SETTINGS = [
    KEYWORD,
    LogMel(16000, 480, 320, 40, 20.0, 4000.0),
    LogMel(16000, 400, 160, 80, floor=1e-2),
    LogMel(16000, 512, 512, 23, 0.0, 7600.0),
]


def speech_like(n, rate_hz, seed=0):
    """A voice's harmonics that glide and pulse, over a little noise: [n]."""
    rng = np.random.default_rng(seed)
    time = np.arange(n) / rate_hz
    phase = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * time)) / rate_hz
    voice = sum(np.sin(k * phase) / k for k in range(1, 12)) * (0.5 + 0.5 * np.sin(9 * time))
    return (0.1 * voice + 0.003 * rng.standard_normal(n)).astype(np.float32)


def by_definition(features, samples):
    """Every number from its formula alone, one by one, without an FFT and without matrices."""
    length = 1
    while length < features.window:
        length *= 2
    mel = [2595 * math.log10(1 + k * features.sample_rate_hz / length / 700) for k in range(length // 2 + 1)]
    low, high = (2595 * math.log10(1 + hz / 700) for hz in (features.low_hz, features.top_hz))
    distance = (high - low) / (features.bands + 1)
    rows = []
    for start in range(0, len(samples) - features.window + 1, features.hop):
        weighted = [
            float(samples[start + i]) * (0.5 - 0.5 * math.cos(2 * math.pi * i / features.window))
            for i in range(features.window)
        ]
        turns = np.exp(-2j * np.pi * np.outer(np.arange(length // 2 + 1), np.arange(features.window)) / length)
        magnitudes = [abs(sum(turn * np.array(weighted))) for turn in turns]
        row = []
        for band in range(features.bands):
            centre = low + (band + 1) * distance
            total = sum(max(0.0, 1 - abs(m - centre) / distance) * v for m, v in zip(mel, magnitudes, strict=True))
            row.append(math.log(total + features.floor))
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("features", SETTINGS)
def test_log_mel_is_what_its_formula_says(features):
    samples = speech_like(features.window + 2 * features.hop + 5, features.sample_rate_hz)
    made = features(samples)
    assert made.shape == (3, features.bands)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, by_definition(features, samples), atol=1e-5)


def test_mfcc_is_the_cosine_transform_of_the_bands():
    samples = speech_like(2000, 8000)
    bands = KEYWORD(samples).astype(np.float64)
    wanted = [
        [math.sqrt(2 / 40) * sum(row[j] * math.cos(math.pi * i * (j + 0.5) / 40) for j in range(40)) for i in range(13)]
        for row in bands
    ]
    np.testing.assert_allclose(Mfcc(KEYWORD, 13)(samples), wanted, atol=1e-4)


@pytest.mark.parametrize("features", [*SETTINGS, Mfcc(KEYWORD, 13)])
def test_hop_by_hop_is_the_whole_file_without_drift(features):
    n = (BLOCK + 300) * features.hop + features.window  # more than one block of the whole, and 10 s and more
    samples = speech_like(n, 8000, seed=1)
    whole = features(samples)
    stream, rng, place, parts = FeatureStream(features), np.random.default_rng(2), 0, []
    while place < n:  # by the hop, in crumbs and in lumps
        step = int(rng.choice([1, 7, features.hop, features.hop, features.window + 3 * features.hop]))
        parts.append(stream.push(samples[place : place + step]))
        place += step
    together = np.concatenate(parts)
    assert together.shape == whole.shape
    np.testing.assert_allclose(together, whole, atol=1e-5)
    np.testing.assert_allclose(together[-100:], whole[-100:], atol=1e-5)


def test_a_stream_starts_anew_after_reset():
    stream = FeatureStream(KEYWORD)
    samples = speech_like(500, 8000)
    first = stream.push(samples)
    stream.reset()
    np.testing.assert_array_equal(stream.push(samples), first)


def test_a_tone_is_in_its_band_and_silence_is_the_floor():
    time = np.arange(4000) / 8000
    for hz in (300.0, 1000.0, 2500.0):
        made = KEYWORD(np.sin(2 * np.pi * hz * time).astype(np.float32))
        weights = filterbank(8000, 256, 40, 20.0, 4000.0)
        assert set(made.argmax(axis=1)) <= set(np.flatnonzero(weights[round(hz * 256 / 8000)]))
    np.testing.assert_allclose(KEYWORD(np.zeros(1000, np.float32)), math.log(1e-6), atol=1e-5)


def test_sound_shorter_than_a_window_has_no_frame():
    assert KEYWORD(np.zeros(255, np.float32)).shape == (0, 40)
    assert KEYWORD(np.zeros(256, np.float32)).shape == (1, 40)
    assert FeatureStream(KEYWORD).push(np.zeros(0, np.float32)).shape == (0, 40)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ((8000, 256, 300, 40), "hop"),
        ((8000, 256, 160, 40, 20.0, 5000.0), "4000"),
        ((8000, 256, 160, 0), "band"),
        ((8000, 256, 160, 40, 20.0, None, 0.0), "floor"),
        ((16000, 256, 160, 128), "fewer bands"),
    ],
)
def test_settings_that_cannot_be_are_said(settings, said):
    with pytest.raises(BadData) as caught:
        LogMel(*settings)
    assert said in f"{caught.value.message} {caught.value.hint}"


def test_more_coefficients_than_bands_cannot_be():
    with pytest.raises(BadData, match="41 cepstral"):
        Mfcc(KEYWORD, 41)


@pytest.mark.parametrize(
    "samples", [np.zeros((300, 2), np.float32), np.zeros(300, np.int16), np.full(300, np.nan, np.float32)]
)
def test_what_is_no_mono_sound_is_refused_and_a_stream_goes_on(samples):
    stream = FeatureStream(KEYWORD)
    stream.push(speech_like(200, 8000))
    with pytest.raises(BadData):
        stream.push(samples)
    assert stream.push(np.zeros(56, np.float32)).shape == (1, 40)
