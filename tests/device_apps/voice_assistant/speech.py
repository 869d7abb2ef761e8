"""Sound for tests: speech of espeak-ng where a test only needs somebody to speak, and real words of the shared data."""

import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from device_apps.voice_assistant.sound import RATE_HZ, Samples
from edge.audio import AudioInput, decode_wav, resample


@lru_cache(maxsize=16)
def spoken(text: str) -> Samples:
    """A text by espeak-ng at 16 kHz, without the silence around it."""
    binary = shutil.which("espeak-ng")
    if binary is None:
        pytest.skip("espeak-ng is not installed")
    content = subprocess.run([binary, "--stdout", text], capture_output=True, check=True).stdout
    # espeak-ng cannot go back to write the lengths into a stream
    size = len(content) - 44
    content = (
        content[:4] + (size + 36).to_bytes(4, "little") + content[8:40] + size.to_bytes(4, "little") + content[44:]
    )
    samples, rate_hz = decode_wav(content, text)
    made = resample(samples[:, 0], rate_hz, RATE_HZ)
    loud = np.flatnonzero(np.abs(made) > 0.01)
    return made[loud[0] : loud[-1]]


def silence(seconds: float) -> Samples:
    """A room: noise of -74 dB."""
    return np.random.default_rng(5).normal(size=round(seconds * RATE_HZ)).astype(np.float32) * np.float32(2e-4)


def clip(path: Path) -> Samples:
    """A wav file at 16 kHz."""
    return AudioInput(RATE_HZ, 1).read(path)
