"""The front end against TensorFlow's, and what the program of the keyword models makes of clips."""

import numpy as np
import pytest

from benchmarks import keyword_rnn
from edge.audio_features import LogMel, Mfcc


@pytest.fixture(scope="module")
def speech(shared_data):
    clip = keyword_rnn.sound(shared_data / "speech" / "fsdd" / "recordings" / "7_jackson_0.wav")
    return np.concatenate([clip, np.zeros(700, np.float32), clip])


@pytest.mark.shared_data
@pytest.mark.parametrize("features", [keyword_rnn.FEATURES, LogMel(8000, 240, 80, 30, 60.0, 3800.0)])
def test_log_mel_and_mfcc_of_speech_are_those_of_tensorflow(features, speech):
    import tensorflow as tf

    window, hop = features.window, features.hop
    spectrum = tf.abs(tf.signal.stft(speech, window, hop, window_fn=tf.signal.hann_window))
    mel = tf.signal.linear_to_mel_weight_matrix(
        features.bands, spectrum.shape[-1], features.sample_rate_hz, features.low_hz, features.top_hz
    )
    bands = tf.math.log(spectrum @ mel + features.floor)
    cepstrum = tf.signal.mfccs_from_log_mel_spectrograms(bands)[:, :13]
    np.testing.assert_allclose(features(speech), bands, atol=1e-4)
    np.testing.assert_allclose(Mfcc(features, 13)(speech), cepstrum, atol=1e-4)


@pytest.mark.shared_data
def test_versions_of_a_clip_differ_and_can_be_made_again(speech):
    clip = speech[:3000]
    made = [keyword_rnn.varied(clip, np.random.default_rng(seed)) for seed in (1, 2, 1)]
    assert {one.shape for one in made} == {(keyword_rnn.RATE,)}
    assert {one.dtype for one in made} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(made[0], made[2])
    assert np.abs(made[0] - made[1]).max() > 0.01


def test_a_fold_never_trains_on_the_speaker_it_is_judged_on():
    n = 4 * 10 * 6
    index = np.arange(n)
    speakers, digits, takes = index // 60, index // 6 % 10, index % 6
    marked = np.broadcast_to(index[None, :, None, None], (3, n, 2, 1)).astype(
        np.float32
    )  # a clip's number is its sound
    task = keyword_rnn.task_of(keyword_rnn.Clips(marked, digits, speakers, takes), speaker=2)
    seen = {}
    for side in ("train", "val", "test"):
        examples = getattr(task, side)
        inputs, labels = examples.take(np.arange(examples.n))
        numbers = inputs["features"][:, 0, 0].astype(int)
        np.testing.assert_array_equal(labels, digits[numbers])
        seen[side] = set(numbers)
    assert seen["test"] == set(index[speakers == 2])
    assert seen["val"] == set(index[(speakers != 2) & (takes < keyword_rnn.VALIDATION_TAKES)])
    assert seen["train"] == set(index[(speakers != 2) & (takes >= keyword_rnn.VALIDATION_TAKES)])
    assert task.train.n == 2 * len(seen["train"])  # two versions beside the clip as it is
