"""What somebody called wrong, kept for retraining where the settings allow it: sealed, labelled, expiring."""

import base64
import io
import json
import re
import secrets
import wave
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from device_apps.sealed_store import SealedStore
from device_apps.voice_assistant.sound import RATE_HZ, Samples
from edge.audio import from_pcm
from edge.errors import BadData, BadInput, EnvironmentFailed

SCHEMA = "edgetool.voice-case/1"
MAX_CASES = 200
DAY_S = 86_400
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


class Cases:
    """The cases of one assistant: an event and the sound that it was decided on. A case's name begins with its time."""

    def __init__(self, store: SealedStore, days: int) -> None:
        self._store, self._days = store, days

    def names(self) -> tuple[str, ...]:
        """All cases, the oldest first."""
        return self._store.names()

    def add(self, event: Mapping[str, Any], samples: Samples, at: float) -> str:
        """Keep a case, and its name. Raises BadInput: 200 wait already; EnvironmentFailed: it cannot be written."""
        if len(self.names()) >= MAX_CASES:
            raise BadInput(f"{MAX_CASES} cases wait to be labelled", "export or delete some first")
        name = f"{max(0, int(at)):012d}-{secrets.token_hex(4)}"
        self._write(name, dict(event), _pcm(samples), None)
        return name

    def case(self, name: str) -> tuple[dict[str, Any], Samples, str | None]:
        """A case's event, sound and label. Raises BadInput: there is none, or it is damaged."""
        try:
            record = json.loads(self._store.read(name))
            samples = from_pcm(base64.b64decode(record["pcm"]), 2)
            return record["event"], samples, record["label"]
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f"the case {name} is damaged: {error}") from error

    def label(self, name: str, label: str) -> None:
        """Say what it really was. Raises BadData: no plain label; BadInput: there is no such case."""
        if not _LABEL.fullmatch(label):
            raise BadData(f"{label!r} is no label", "1 to 40 of A-Z, a-z, 0-9, _ and -")
        event, samples, _ = self.case(name)
        self._write(name, event, _pcm(samples), label)

    def delete(self, name: str) -> None:
        """Raises BadInput: there is no such case."""
        self._store.delete(name)

    def expire(self, now: float) -> int:
        """Delete what is older than the days, or from the future by as much; how many these were."""
        old = [name for name in self.names() if abs(now - _time(name)) > self._days * DAY_S]
        for name in old:
            self._store.delete(name)
        return len(old)

    def export(self, folder: Path) -> int:
        """Labelled cases as wav files, a folder for each label: what `--data` of a recipe takes. How many.

        Raises:
            EnvironmentFailed: they cannot be written.

        """
        written = 0
        for name in self.names():
            _, samples, label = self.case(name)
            if label is None:
                continue
            try:
                (folder / label).mkdir(parents=True, exist_ok=True)
                (folder / label / f"{name}.wav").write_bytes(wav(samples))
            except OSError as error:
                raise EnvironmentFailed(f"cannot write to {folder}: {error.strerror}") from error
            written += 1
        return written

    def _write(self, name: str, event: dict[str, Any], pcm: bytes, label: str | None) -> None:
        record = {"schema": SCHEMA, "event": event, "label": label, "pcm": base64.b64encode(pcm).decode()}
        self._store.write(name, json.dumps(record).encode())


def wav(samples: Samples) -> bytes:
    """A wav file of 16 bits at 16 kHz."""
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(_pcm(samples))
    return content.getvalue()


def _pcm(samples: Samples) -> bytes:
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2").tobytes()


def _time(name: str) -> float:
    seconds = name.partition("-")[0]
    return float(seconds) if seconds.isdigit() else 0.0
