"""What comes from a microphone, to mono float32 at 16 kHz, and what is wrong with it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from edge.audio import ResampleStream, from_pcm
from edge.errors import BadData

Samples = npt.NDArray[np.float32]
RATE_HZ = 16_000
MIN_RATE_HZ, MAX_RATE_HZ, MAX_CHANNELS = 8_000, 192_000, 8
DC_TIME_S = 0.5  # an offset is followed within about this: slow beside speech, fast beside a cable
QUIET_S = 5.0  # a real microphone has noise; zeros for so long are a switch, or a driver
CLIPPED = 0.999
CLIPPED_SHARE = 0.005  # of a second's samples; a click has less, a gain that is too high more
MAX_DC = 0.05


@dataclass(frozen=True)
class Format:
    """Interleaved PCM: little-endian integers of `width` bytes, or floats of 4 in -1..1."""

    rate_hz: int = RATE_HZ
    width: int = 2
    channels: int = 1
    kind: Literal["int", "float"] = "int"

    def __post_init__(self) -> None:
        if not MIN_RATE_HZ <= self.rate_hz <= MAX_RATE_HZ:
            raise BadData(
                f"sound at {self.rate_hz} Hz cannot be used",
                f"{MIN_RATE_HZ} to {MAX_RATE_HZ} Hz are resampled; below that speech is lost",
            )
        if not 1 <= self.channels <= MAX_CHANNELS:
            raise BadData(f"sound of {self.channels} channels cannot be used", f"1 to {MAX_CHANNELS} are mixed to one")
        if (self.kind == "int" and self.width not in {1, 2, 3, 4}) or (self.kind == "float" and self.width != 4):
            raise BadData(
                f"sound of {self.width}-byte {self.kind} samples cannot be used", "PCM of 1 to 4 bytes, or floats of 4"
            )

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of every channel."""
        return self.width * self.channels

    def bytes_of(self, seconds: float) -> int:
        """Whole frames of so long."""
        return max(1, round(seconds * self.rate_hz)) * self.frame_bytes


class Converter:
    """Bytes in pieces of any length to mono float32 at 16 kHz. Raises BadData: the rate cannot be resampled."""

    def __init__(self, form: Format) -> None:
        self._form = form
        self._left = b""
        self._resampling = ResampleStream(form.rate_hz, RATE_HZ)

    def __call__(self, content: bytes) -> Samples:
        """The samples [0 or more] that the next bytes complete; what is no number counts as silence."""
        content = self._left + content
        whole = len(content) - len(content) % self._form.frame_bytes
        self._left, content = content[whole:], content[:whole]
        if self._form.kind == "float":
            values = np.frombuffer(content, "<f4")
            values = np.where(np.isfinite(values), values, np.float32(0)).clip(-1, 1).astype(np.float32)
        else:
            values = from_pcm(content, self._form.width)
        mono = values if self._form.channels == 1 else values.reshape(-1, self._form.channels).mean(axis=1)
        return self._resampling.push(np.asarray(mono, np.float32))


class DcBlock:
    """Takes an offset away: the mean of each block, followed by a first-order low-pass of 0.5 s."""

    def __init__(self) -> None:
        self.offset = 0.0
        self._heard_s = 0.0

    def __call__(self, samples: Samples) -> Samples:
        """[n] to [n]. The first half second is averaged, so that an offset is gone from the beginning."""
        if not len(samples):
            return samples
        span_s = len(samples) / RATE_HZ
        self._heard_s += span_s
        weight = max(span_s / self._heard_s, 1 - np.exp(-span_s / DC_TIME_S))
        before = self.offset if self._heard_s > span_s else float(samples.mean())
        self.offset = before + weight * (float(samples.mean()) - before)
        slope = np.linspace(before, self.offset, len(samples), dtype=np.float32)  # no step between two blocks
        return samples - slope


@dataclass(frozen=True)
class Level:
    """A block's loudness: `rms_db` to full scale (-120 is silence), `peak` 0..1, the share of `clipped` samples."""

    rms_db: float
    peak: float
    clipped: float


def level(samples: Samples) -> Level:
    """The level of [n >= 1] samples."""
    rms = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    magnitudes = np.abs(samples)
    return Level(
        max(-120.0, 20 * float(np.log10(max(rms, 1e-6)))),
        float(magnitudes.max()),
        float(np.mean(magnitudes >= CLIPPED)),
    )


class Quality:
    """Says what is wrong with the sound of the last second, before the offset is taken away."""

    def __init__(self) -> None:
        self._zeros_s = self._span_s = 0.0
        self._clipped = self._sum = 0.0
        self._verdict: tuple[str, ...] = ()

    def __call__(self, samples: Samples) -> tuple[str, ...]:
        """Take a block; the warnings now, each without a figure that moves."""
        if not len(samples):
            return self._verdict
        span_s = len(samples) / RATE_HZ
        self._zeros_s = self._zeros_s + span_s if not samples.any() else 0.0
        self._clipped += float(np.count_nonzero(np.abs(samples) >= CLIPPED))
        self._sum += float(samples.sum())
        self._span_s += span_s
        if self._span_s >= 1.0 or self._zeros_s >= QUIET_S > self._zeros_s - span_s:
            counted = self._span_s * RATE_HZ
            found = []
            if self._zeros_s >= QUIET_S:
                found.append(f"nothing but zeros for {QUIET_S:g} s: is the microphone switched off?")
            if self._clipped / counted > CLIPPED_SHARE:
                found.append("the sound is clipped: turn the microphone's gain down")
            if abs(self._sum / counted) > MAX_DC:
                found.append("the sound has an offset, which is taken away")
            self._verdict = tuple(found)
            self._span_s = self._clipped = self._sum = 0.0
        return self._verdict
