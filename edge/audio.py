"""Sound: read wav, mix to mono, resample, pad or trim. The same code in training and on the device."""

import io
import math
import struct
import wave
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edge.errors import BadData

Samples = npt.NDArray[np.float32]
# 32 zero crossings a side and beta 9: flat to 0.8 of the lower Nyquist rate, aliases below -80 dB (tested)
ZERO_CROSSINGS = 32
KAISER_BETA = 9.0
ROLL_OFF = 0.92
BLOCK = 8192
# What `wave` raises on chunks whose sizes are not what follows
WAV_DAMAGE = (wave.Error, EOFError, RuntimeError, ValueError, struct.error)
# of all phases together; 44.1 kHz to 16 kHz takes 30,720, and only rates that nobody uses take more than this
MAX_FILTER_TAPS = 1 << 21


@dataclass(frozen=True)
class AudioInput:
    """Sound at `sample_rate_hz` to exactly `samples` samples, mono, float32 in -1..1.

    What is too short gets zeros at the end, what is too long loses its end. `layout` is the order of the
    axes that the model takes: T (time alone), TC or CT (with one channel).
    """

    sample_rate_hz: int
    samples: int
    layout: Literal["T", "TC", "CT"] = "T"
    kind: Literal["audio"] = "audio"

    def __post_init__(self) -> None:
        if self.sample_rate_hz < 1 or self.samples < 1:
            raise BadData(f"{self.samples} samples at {self.sample_rate_hz} Hz: both must be at least 1")
        if self.layout not in {"T", "TC", "CT"} or self.kind != "audio":
            raise BadData(f"a sound input of kind {self.kind!r} and layout {self.layout!r}")

    def __call__(self, raw: npt.NDArray[Any]) -> Samples:
        """[n] or [n, channels] at `sample_rate_hz`, integer PCM or float in -1..1, to [samples] (or as `layout`).

        Raises:
            BadData: `raw` is not sound, or has NaN in it.

        """
        mono = _mono(raw)
        fitted = np.zeros(self.samples, np.float32)
        fitted[: len(mono)] = mono[: self.samples]
        if self.layout == "T":
            return fitted
        return fitted[:, None] if self.layout == "TC" else fitted[None, :]

    def read(self, path: Path) -> Samples:
        """A wav file as mono samples [n] at `sample_rate_hz`: what `__call__` takes.

        Raises:
            BadData: the file is missing, damaged, or not integer PCM.

        """
        samples, rate_hz = read_wav(path)
        return resample(_mono(samples), rate_hz, self.sample_rate_hz)

    def decode(self, content: bytes, name: str) -> Samples:
        """As `read`, of the bytes of a file called `name` that nobody vouches for: it makes no more than is used.

        A forged rate would else ask for any amount of samples, or of filters.
        """
        samples, rate_hz = decode_wav(content, name)
        up = self.sample_rate_hz // math.gcd(rate_hz, self.sample_rate_hz)
        half = _half_width(rate_hz, self.sample_rate_hz)
        if 2 * half * up > MAX_FILTER_TAPS:
            raise BadData(
                f"{name}: sound of {rate_hz} Hz cannot be brought to {self.sample_rate_hz} Hz",
                f"resample it to {self.sample_rate_hz} Hz first",
            )
        used = math.ceil(self.samples * rate_hz / self.sample_rate_hz) + half + 1
        return resample(_mono(samples[:used]), rate_hz, self.sample_rate_hz)[: self.samples]


def read_wav(path: Path) -> tuple[Samples, int]:
    """The samples [n, channels] of a wav file, float32 in -1..1, and their rate in Hz. PCM of 8 to 32 bits.

    Raises:
        BadData: the file is missing, cut short, or not integer PCM.

    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadData(f"cannot read {path}: {error.strerror}") from error
    return decode_wav(content, str(path))


def decode_wav(content: bytes, name: str) -> tuple[Samples, int]:
    """As `read_wav`, of the bytes of a file called `name`."""
    try:
        with wave.open(io.BytesIO(content), "rb") as file:
            rate_hz, channels, width, frames = (
                file.getframerate(),
                file.getnchannels(),
                file.getsampwidth(),
                file.getnframes(),
            )
            pcm = file.readframes(frames)
    except WAV_DAMAGE as error:
        reason = str(error) or "it ends early"
        raise BadData(f"{name} is no PCM wav file: {reason}", "convert it to 16-bit PCM") from error
    if width not in {1, 2, 3, 4} or rate_hz < 1:
        raise BadData(f"{name}: {8 * width} bits at {rate_hz} Hz", "PCM of 8, 16, 24 or 32 bits can be read")
    if len(pcm) != frames * channels * width or frames == 0:
        found = len(pcm) // (channels * width)
        raise BadData(f"{name} is cut short: {found} of {frames} frames" if frames else f"{name} holds no sound")
    return from_pcm(pcm, width).reshape(-1, channels), rate_hz


def from_pcm(content: bytes, width: int) -> Samples:
    """Whole little-endian integers of 1 to 4 bytes, float32 in -1..1: [n]."""
    if width == 1:  # the only unsigned one, by the format
        return (np.frombuffer(content, np.uint8).astype(np.float32) - 128) / np.float32(128)
    if width == 3:
        padded = np.zeros((len(content) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(content, np.uint8).reshape(-1, 3)
        return padded.view("<i4")[:, 0].astype(np.float32) / np.float32(2**31)
    return np.frombuffer(content, f"<i{width}").astype(np.float32) / np.float32(2 ** (8 * width - 1))


def _mono(raw: npt.NDArray[Any]) -> Samples:
    if raw.ndim not in {1, 2} or raw.dtype.kind not in "if":
        raise BadData(f"not sound: {raw.dtype} {list(raw.shape)}", "sound is PCM or float, [n] or [n, channels]")
    full_scale = 1.0 if raw.dtype.kind == "f" else float(2 ** (8 * raw.dtype.itemsize - 1))
    values = raw.astype(np.float32) / np.float32(full_scale)
    if not np.isfinite(values).all():
        raise BadData("sound with NaN or infinity in it")
    return values if values.ndim == 1 else np.asarray(values.mean(axis=1), np.float32)


def resample(samples: Samples, from_hz: int, to_hz: int) -> Samples:
    """[n] at `from_hz` to [ceil(n * to_hz / from_hz)] at `to_hz`, by a Kaiser-windowed sinc.

    y[m] = sum_k h(m from/to - k) x[k], silence before and after. Smith, "Digital Audio Resampling Home Page"
    (ccrma.stanford.edu/~jos/resample), and Crochiere & Rabiner, "Multirate Digital Signal Processing", 1983,
    section 2.4: only to_hz / gcd different filters occur, one for each phase.
    """
    if from_hz == to_hz or len(samples) == 0:
        return samples
    divisor = math.gcd(from_hz, to_hz)
    up, down = to_hz // divisor, from_hz // divisor
    filters = _phase_filters(up, down)
    half = filters.shape[1] // 2
    padded = np.pad(samples, (half - 1, half + 1))
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half)
    length = -(-len(samples) * up // down)
    result = np.empty(length, np.float32)
    for start in range(0, length, BLOCK):  # in blocks, since each output has a window of its own
        positions = np.arange(start, min(start + BLOCK, length), dtype=np.int64) * down
        picked = windows[positions // up]
        result[start : start + len(positions)] = np.einsum("nt,nt->n", picked, filters[positions % up])
    return result


class ResampleStream:
    """`resample` of sound that comes in pieces of any length: together they are those of the whole.

    The last samples of the whole, whose filter reaches behind its end, are not given.

    Raises:
        BadData: the two rates need more filters than are made (MAX_FILTER_TAPS).

    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        if from_hz < 1 or to_hz < 1:
            raise BadData(f"sound of {from_hz} Hz to {to_hz} Hz: both are at least 1")
        divisor = math.gcd(from_hz, to_hz)
        self._up, self._down = to_hz // divisor, from_hz // divisor
        half = _half_width(self._down, self._up)
        if 2 * half * self._up > MAX_FILTER_TAPS:
            raise BadData(f"sound of {from_hz} Hz cannot be brought to {to_hz} Hz", f"resample it to {to_hz} Hz first")
        self._kept = np.zeros(0 if self._up == self._down else half - 1, np.float32)
        self._first = 0  # where the kept samples begin, counted with the silence before the sound
        self._next = 0  # the number of the next sample to give

    def push(self, samples: Samples) -> Samples:
        """The next samples [n]; those that they complete at the other rate, [0 or more]."""
        if self._up == self._down:
            return samples
        filters = _phase_filters(self._up, self._down)
        taps = filters.shape[1]
        heard = np.concatenate([self._kept, samples])
        starts = self._first + len(heard) - taps + 1  # the windows that are whole
        stop = max(self._next, -(-starts * self._up // self._down))
        positions = np.arange(self._next, stop, dtype=np.int64) * self._down
        made = np.zeros(0, np.float32)
        if len(positions):
            windows = np.lib.stride_tricks.sliding_window_view(heard, taps)
            picked = windows[positions // self._up - self._first]
            made = np.einsum("nt,nt->n", picked, filters[positions % self._up])
        self._next = stop
        begin = min(stop * self._down // self._up, self._first + len(heard))
        self._kept, self._first = heard[begin - self._first :], begin
        return made


@lru_cache(maxsize=8)
def _phase_filters(up: int, down: int) -> Samples:
    """[up, taps]: row r holds h(r / up - k) for k = 1 - half .. half, each row summing to 1 (no gain at 0 Hz)."""
    cutoff = ROLL_OFF * min(1.0, up / down)
    half = _half_width(down, up)
    time = np.arange(up)[:, None] / up - np.arange(1 - half, half + 1)[None, :]
    inside = np.clip(1 - (time / (half + 1)) ** 2, 0, None)
    filters = np.sinc(cutoff * time) * np.i0(KAISER_BETA * np.sqrt(inside))
    return np.asarray(filters / filters.sum(axis=1, keepdims=True), np.float32)


def _half_width(from_hz: int, to_hz: int) -> int:
    return math.ceil(ZERO_CROSSINGS / (ROLL_OFF * min(1.0, to_hz / from_hz)))
