"""Log-mel pictures as the models of Moonshine's "micro" family take them: Slaney's scale, standardised.

Bands from 20 to 8,000 Hz with triangles of equal area (Slaney, "Auditory Toolbox", 1998), natural logarithm. The
models' own description leaves magnitude, area and standardising open: of the ways tried, this one agrees best with real
clips.
"""

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from device_apps.voice_assistant.sound import RATE_HZ, Samples

Picture = npt.NDArray[np.float32]
WINDOW = 512
LOW_HZ, HIGH_HZ = 20.0, 8000.0
KNEE_HZ = 1000.0  # below it the scale is linear
FLOOR = 1e-6


def log_mel(samples: Samples, hop: int, bands: int) -> Picture:
    """[n] to [1 + (n - 512) // hop, bands], not standardised yet: frame t begins at t * hop."""
    if hop == WINDOW:
        windows = samples[: len(samples) - len(samples) % WINDOW].reshape(-1, WINDOW)
    else:
        windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::hop]
    magnitudes = np.abs(np.fft.rfft(windows * _hann()))
    return np.asarray(np.log(magnitudes @ _weights(bands) + np.float32(FLOOR)), np.float32)


def standardised(picture: Picture) -> Picture:
    """To mean 0 and deviation 1: loudness does not count."""
    centred = picture - picture.sum() / np.float32(picture.size)
    flat = centred.ravel()
    spread = math.sqrt(float(flat @ flat) / picture.size)
    return np.asarray(centred * np.float32(1 / (spread + 1e-5)))


@lru_cache(maxsize=4)
def _weights(bands: int) -> Picture:
    """[257, bands]."""
    edges = _hertz(np.linspace(_mel(LOW_HZ), _mel(HIGH_HZ), bands + 2))
    points = np.linspace(0, RATE_HZ / 2, WINDOW // 2 + 1)[:, None]
    rising = (points - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - points) / (edges[2:] - edges[1:-1])
    return np.asarray(np.maximum(0, np.minimum(rising, falling)) * 2 / (edges[2:] - edges[:-2]), np.float32)


@lru_cache(maxsize=1)
def _hann() -> Picture:
    return np.asarray(0.5 - 0.5 * np.cos(2 * math.pi * np.arange(WINDOW) / WINDOW), np.float32)


def _mel(hertz: float) -> float:
    return hertz * 3 / 200 if hertz < KNEE_HZ else 15 + math.log(hertz / KNEE_HZ) * 27 / math.log(6.4)


def _hertz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(mel < 15, mel * 200 / 3, KNEE_HZ * np.exp((mel - 15) * math.log(6.4) / 27))
