"""A state with real models that any machine of the tests has, and an assistant that runs on it as a process."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.device_apps.mosquitto import soon

SENTENCES = """language: en
intents:
  HassTurnOn:
    data:
      - sentences: ["(turn|switch) on the {name}"]
  HassTurnOff:
    data:
      - sentences: ["(turn|switch) off the {name}"]
lists:
  name:
    values: ["light", "radio"]
"""
GRAMMAR = "#JSGF V1.0; grammar c; public <c> = (switch | turn) (on | off) the (light | radio);"
COMMAND = [sys.executable, "-m", "device_apps.voice_assistant"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def command(*words: str, state: Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """A command of the app, run to its end."""
    line = [*COMMAND, *words, "--state", str(state)]
    return subprocess.run(line, input=text, capture_output=True, text=True, check=False, env=ENVIRONMENT, timeout=120)


def initialised(folder: Path, *more: str, settings: str = '[reply]\nkind = "text"\n') -> Path:
    """A state with microWakeWord's "alexa" and PocketSphinx."""
    for package in ("ai_edge_litert", "pymicro_wakeword", "pocketsphinx", "hassil"):
        pytest.importorskip(package)
    (folder / "commands.gram").write_text(GRAMMAR)
    (folder / "home.yaml").write_text(SENTENCES)
    state = folder / "state"
    done = command(
        "init", "--wake", "micro:alexa", "--recogniser", f"sphinx:{folder / 'commands.gram'}",
        "--sentences", str(folder / "home.yaml"), *more, state=state,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    path = state / "voice-assistant.toml"
    path.write_text(path.read_text() + "\n" + settings)
    return state


class App:
    """The app as a process; its events are read as they come."""

    def __init__(self, state: Path, *words: str, environment: dict[str, str] | None = None) -> None:
        line = [*COMMAND, *words, "--json", "--state", str(state)]
        self.process = subprocess.Popen(
            line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment or ENVIRONMENT
        )
        self.events: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(json.loads(line))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in tuple(self.events) if event["event"] == kind]

    def until(self, kind: str, seconds: float = 60.0) -> dict[str, Any]:
        """The first event of a kind, once there is one."""
        assert soon(lambda: self.of(kind) or self.process.poll() is not None, seconds), self.events
        assert self.of(kind), (self.events, self.process.stderr and self.process.stderr.read())
        return self.of(kind)[0]

    def stop(self) -> int:
        self.process.terminate()
        code = self.process.wait(timeout=30)
        self._thread.join(timeout=5)
        return code
