"""The last seconds of sound, in memory and nowhere else."""

import numpy as np

from device_apps.voice_assistant.sound import RATE_HZ, Samples


class Ring:
    """Keeps the newest `seconds`. Positions are sample numbers since the microphone was opened."""

    def __init__(self, seconds: float) -> None:
        self._kept = np.zeros(max(1, round(seconds * RATE_HZ)), np.float32)
        self.end = 0

    def push(self, samples: Samples) -> None:
        """The next samples [n]."""
        size = len(self._kept)
        newest = samples[-size:]
        at = (self.end + len(samples) - len(newest)) % size
        first = min(len(newest), size - at)
        self._kept[at : at + first] = newest[:first]
        self._kept[: len(newest) - first] = newest[first:]
        self.end += len(samples)

    @property
    def begin(self) -> int:
        """The oldest position that is kept."""
        return max(0, self.end - len(self._kept))

    def between(self, begin: int, end: int) -> Samples:
        """A copy of [begin, end); what is older than the ring, or not there yet, is left out."""
        begin, end = max(begin, self.begin), min(end, self.end)
        return self._kept.take(np.arange(begin, max(begin, end)), mode="wrap")

    def wipe(self) -> None:
        """Forget the sound: zeros where it was, and positions start anew."""
        self._kept[:] = 0
        self.end = 0
