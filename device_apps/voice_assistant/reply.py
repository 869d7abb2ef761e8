"""The answer, spoken where something here can speak, else as text only."""

import shutil
import subprocess
import threading
from typing import Literal, Protocol

from edge.errors import EnvironmentFailed

Kind = Literal["auto", "text", "espeak-ng", "piper"]
MAX_CHARACTERS = 300
LONGEST_S = 20.0


class Voice(Protocol):
    """Speaks in the background."""

    @property
    def name(self) -> str: ...

    @property
    def speaking(self) -> bool:
        """Whether it is heard now: what the microphone hears then is this."""
        ...

    def say(self, text: str) -> None:
        """Begin to speak, and be silent about what was being said."""
        ...

    def stop(self) -> None:
        """Be silent."""
        ...


class Silent:
    """Says nothing: the answer is in the events."""

    name = "text"
    speaking = False

    def say(self, text: str) -> None:
        return

    def stop(self) -> None:
        return


class Spoken:
    """A program that reads a text from its standard input and plays it; piper's samples go on to `player`."""

    def __init__(self, name: str, command: tuple[str, ...], player: tuple[str, ...] = ()) -> None:
        self.name = name
        self._command, self._player = command, player
        self._lock = threading.Lock()
        self._running: list[subprocess.Popen[bytes]] = []
        self._timer: threading.Timer | None = None

    @property
    def speaking(self) -> bool:
        with self._lock:
            return any(process.poll() is None for process in self._running)

    def say(self, text: str) -> None:
        self.stop()
        piped = subprocess.PIPE if self._player else subprocess.DEVNULL
        quiet = subprocess.DEVNULL
        try:
            speaker = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=piped, stderr=quiet)
            running = [speaker]
            if self._player:
                running.append(subprocess.Popen(self._player, stdin=speaker.stdout, stdout=quiet, stderr=quiet))
                assert speaker.stdout is not None
                speaker.stdout.close()
            assert speaker.stdin is not None
            speaker.stdin.write(printable(text).encode() + b"\n")
            speaker.stdin.close()
        except OSError:
            return  # the answer is in the events all the same
        with self._lock:
            self._running = running
        self._timer = threading.Timer(LONGEST_S, self.stop)
        self._timer.daemon = True
        self._timer.start()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            running, self._running = self._running, []
        for process in running:
            process.kill()
            process.wait()


def open_voice(kind: Kind, piper_model: str = "") -> Voice:
    """The voice of the settings; "auto" is espeak-ng where it is there. Raises EnvironmentFailed: it is not."""
    if kind == "text":
        return Silent()
    espeak, piper = shutil.which("espeak-ng"), shutil.which("piper")
    if kind in {"auto", "espeak-ng"} and espeak is not None:
        return Spoken("espeak-ng", (espeak, "--stdin", "-s", "160"))
    if kind == "auto":
        return Silent()
    if kind == "espeak-ng":
        raise EnvironmentFailed("espeak-ng is not installed", 'apt install espeak-ng, or reply.voice = "text"')
    player = shutil.which("aplay")
    if piper is None or player is None or not piper_model:
        raise EnvironmentFailed("piper, aplay or piper's voice is missing", 'reply.piper_model = "voice.onnx"')
    playing = (player, "-q", "-r", "22050", "-f", "S16_LE", "-t", "raw", "-")
    return Spoken("piper", (piper, "--model", piper_model, "--output-raw"), playing)


def printable(text: str) -> str:
    """What may be spoken: no control signs, not too long."""
    return "".join(sign if sign.isprintable() else " " for sign in text)[:MAX_CHARACTERS]
