"""Log-mel bands and MFCC of sound, whole or as it comes in. The same code in training and on the device.

Frame t covers the samples t * hop … t * hop + window: nothing is padded, so a frame exists as soon as its last sample
does, and a stream gives the frames of the whole file.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edge.errors import BadData

Frames = npt.NDArray[np.float32]
Samples = npt.NDArray[np.float32]
BLOCK = 1024  # frames computed at a time, so that an hour of sound needs no more memory than a minute


@dataclass(frozen=True)
class LogMel:
    """log(magnitude in mel bands + floor) of mono sound in -1..1: [n] -> [1 + (n - window) // hop, bands].

    Periodic Hann window, zeros up to the next power of two, triangles that are straight over the mel scale of
    `filterbank`. `window` and `hop` are in samples. `floor` is what silence counts: a band is a sum of magnitudes of
    about window / 4 times the amplitude of a tone.
    """

    sample_rate_hz: int
    window: int
    hop: int
    bands: int
    low_hz: float = 20.0
    high_hz: float | None = None
    floor: float = 1e-6

    def __post_init__(self) -> None:
        if not 1 <= self.hop <= self.window:
            raise BadData(f"windows of {self.window} samples every {self.hop}", "1 <= hop <= window")
        if not 0 <= self.low_hz < self.top_hz <= self.sample_rate_hz / 2:
            raise BadData(
                f"mel bands from {self.low_hz:g} to {self.top_hz:g} Hz of sound at {self.sample_rate_hz} Hz",
                f"the highest frequency that there is is {self.sample_rate_hz / 2:g} Hz",
            )
        if not (self.bands >= 1 and self.floor > 0):
            raise BadData(f"{self.bands} mel bands over a floor of {self.floor:g}: at least 1 band, a floor above 0")
        empty = int((self._weights().sum(axis=0) == 0).sum())
        if empty:
            raise BadData(
                f"{empty} of {self.bands} mel bands lie between two frequencies of a window of {self.window} samples",
                "take fewer bands or a longer window",
            )

    @property
    def top_hz(self) -> float:
        """Where the last band ends: `high_hz`, else half the sample rate."""
        return self.sample_rate_hz / 2 if self.high_hz is None else self.high_hz

    @property
    def length(self) -> int:
        """Numbers in a frame."""
        return self.bands

    def __call__(self, samples: Samples) -> Frames:
        """[n] to [frames, bands].

        Raises:
            BadData: not mono float sound, or with NaN or infinity in it.

        """
        _check(samples)
        if len(samples) < self.window:
            return np.zeros((0, self.bands), np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(samples, self.window)[:: self.hop]
        made = np.empty((len(windows), self.bands), np.float32)
        for start in range(0, len(windows), BLOCK):
            block = windows[start : start + BLOCK] * _hann(self.window)  # float64, since the window is
            magnitudes = np.abs(np.fft.rfft(block, _fft_length(self.window)))
            made[start : start + BLOCK] = np.log(magnitudes @ self._weights() + self.floor)
        return made

    def _weights(self) -> npt.NDArray[np.float64]:
        return filterbank(self.sample_rate_hz, _fft_length(self.window), self.bands, self.low_hz, self.top_hz)


@dataclass(frozen=True)
class Mfcc:
    """The first `coefficients` of the cosine transform of log-mel bands: [n] -> [frames, coefficients].

    c_i = sqrt(2 / B) sum_j m_j cos(pi i (j + 1/2) / B) for i = 0 …, where m is the log of B bands (Davis and
    Mermelstein, 1980; The HTK Book, equation 5.14).
    """

    log_mel: LogMel
    coefficients: int

    def __post_init__(self) -> None:
        if not 1 <= self.coefficients <= self.log_mel.bands:
            raise BadData(f"{self.coefficients} cepstral coefficients of {self.log_mel.bands} mel bands")

    @property
    def window(self) -> int:
        """Samples under a frame."""
        return self.log_mel.window

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""
        return self.log_mel.hop

    @property
    def length(self) -> int:
        """Numbers in a frame."""
        return self.coefficients

    def __call__(self, samples: Samples) -> Frames:
        """[n] to [frames, coefficients]; raises as `LogMel` does."""
        frames = self.log_mel(samples) @ _cosines(self.log_mel.bands, self.coefficients)
        return np.asarray(frames, np.float32)


class Features(Protocol):
    """`LogMel` and `Mfcc`: frames of `length` numbers, of `window` samples every `hop`."""

    @property
    def window(self) -> int: ...

    @property
    def hop(self) -> int: ...

    @property
    def length(self) -> int: ...

    def __call__(self, samples: Samples) -> Frames: ...


class FeatureStream:
    """The frames of sound that comes in pieces of any length: together they are those of the whole."""

    def __init__(self, features: Features) -> None:
        self._features = features
        self._kept = np.zeros(0, np.float32)

    def push(self, samples: Samples) -> Frames:
        """The next samples [n]; the frames that they complete, [0 or more, length].

        Raises:
            BadData: as the features do; the samples are left out, and the stream goes on.

        """
        _check(samples)
        heard = np.concatenate([self._kept, samples])
        made = self._features(heard)
        self._kept = heard[len(made) * self._features.hop :]
        return made

    def reset(self) -> None:
        """Start anew, as if nothing had been heard."""
        self._kept = np.zeros(0, np.float32)


@lru_cache(maxsize=8)
def filterbank(rate_hz: int, fft_length: int, bands: int, low_hz: float, high_hz: float) -> npt.NDArray[np.float64]:
    """[fft_length // 2 + 1, bands]: what each frequency of a spectrum counts in each mel band.

    mel(f) = 2595 log10(1 + f / 700); bands + 2 points of equal distance in mel from `low_hz` to `high_hz`, and from
    each to the second next a triangle over mel whose height is 1 (The HTK Book, section 5.4; O'Shaughnessy, "Speech
    Communication", 1987).
    """
    edges = np.linspace(_mel(low_hz), _mel(high_hz), bands + 2)
    points = _mel(np.arange(fft_length // 2 + 1) * (rate_hz / fft_length))[:, None]
    rising = (points - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - points) / (edges[2:] - edges[1:-1])
    weights: npt.NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
    weights.setflags(write=False)  # all callers share it
    return weights


def _mel(hz: Any) -> Any:
    return 2595 * np.log10(1 + np.asarray(hz) / 700)


def _fft_length(window: int) -> int:
    return 1 << (window - 1).bit_length()


@lru_cache(maxsize=8)
def _hann(window: int) -> npt.NDArray[np.float64]:
    return np.asarray(0.5 - 0.5 * np.cos(2 * math.pi * np.arange(window) / window))


@lru_cache(maxsize=8)
def _cosines(bands: int, coefficients: int) -> npt.NDArray[np.float64]:
    angles = np.pi / bands * (np.arange(bands)[:, None] + 0.5) * np.arange(coefficients)
    return np.asarray(math.sqrt(2 / bands) * np.cos(angles))


def _check(samples: Samples) -> None:
    if samples.ndim != 1 or samples.dtype.kind != "f":
        raise BadData(
            f"not mono sound: {samples.dtype} {list(samples.shape)}", "AudioInput makes it of PCM and channels"
        )
    if not np.isfinite(samples).all():
        raise BadData("sound with NaN or infinity in it")
