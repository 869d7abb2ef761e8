"""Where sound comes from: a wav file, a pipe, a device by PortAudio (ALSA), PulseAudio or PipeWire, a Wyoming stream.

| --mic | |
|---|---|
| `file.wav` | PCM, played at its own speed (`--fast`: as fast as it can be heard) |
| `fifo:PATH` | raw PCM; `fifo:PATH?rate=44100&channels=2&width=2&kind=int` where it is not 16 kHz mono of 2 bytes |
| `pulse`, `pulse:SOURCE` | PulseAudio or PipeWire, by `parec` |
| `default`, a number, a name | a device of PortAudio, by the package sounddevice |
| `tcp://HOST:PORT` | a Wyoming server that sends audio-chunk |
"""

import os
import queue
import select
import shutil
import socket
import subprocess
import time
import wave
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

from device_apps.voice_assistant.sound import Format
from device_apps.voice_assistant.wyoming import Frame, FrameParser, audio_format
from edge.audio import WAV_DAMAGE
from edge.errors import BadData, BadInput, BadRecipe, EnvironmentFailed, RuntimeMissing, UnknownName

BLOCK_S = 0.02
SILENT_S = 1.0  # a device that gives nothing for so long is gone
LATENCY_MS = 20
CONNECT_S = 3.0
OPENING_S = 3.0  # a device's first sound may take as long


class Source(Protocol):
    """An open microphone, or what stands for one."""

    @property
    def form(self) -> Format: ...

    @property
    def interval_s(self) -> float:
        """The time between two blocks of a file, which is to be played at its own speed; 0 for what is live."""
        ...

    def read(self) -> bytes | None:
        """The next bytes; None where a file is through. Raises EnvironmentFailed: it is gone, or silent."""
        ...

    def close(self) -> None:
        """Let go of the device."""
        ...


def open_source(name: str) -> Source:
    """Open what `--mic` names.

    Raises:
        BadInput: it is malformed, or a file that is missing or of a form that cannot be used.
        EnvironmentFailed: the device, or what reads it, is not there.

    """
    kind, _, rest = name.partition(":")
    if kind == "fifo":
        return FifoSource(rest)
    if kind == "pulse":
        return PulseSource(rest)
    if name.startswith("tcp://"):
        return WyomingSource(name)
    if name.lower().endswith(".wav"):
        return WavSource(Path(name))
    if not name:
        raise BadInput("the microphone has no name", "--mic default, pulse, a file.wav, fifo:PATH or tcp://HOST:PORT")
    return PortAudioSource(name)


def is_file(name: str) -> bool:
    """Whether a source ends by itself, and is best opened once before anything else is."""
    return name.lower().endswith(".wav")


class WavSource:
    """A wav file, read as it is played."""

    interval_s = BLOCK_S

    def __init__(self, path: Path) -> None:
        try:
            self._file = wave.open(str(path), "rb")  # noqa: SIM115  # close() does
        except OSError as error:
            raise BadData(f"cannot read {path}: {error.strerror}") from error
        except WAV_DAMAGE as error:
            reason = str(error) or "it ends early"
            raise BadData(f"{path} is no PCM wav file: {reason}", "convert it to 16-bit PCM") from error
        try:
            self.form = Format(self._file.getframerate(), self._file.getsampwidth(), self._file.getnchannels())
        except BadData as error:
            self._file.close()
            raise BadData(f"{path}: {error.message}", error.hint) from error

    def read(self) -> bytes | None:
        try:
            return self._file.readframes(round(self.form.rate_hz * BLOCK_S)) or None
        except WAV_DAMAGE:
            return None

    def close(self) -> None:
        self._file.close()


class FifoSource:
    """A named pipe. That nobody writes is as a device that is silent."""

    interval_s = 0.0

    def __init__(self, rest: str) -> None:
        path, _, query = rest.partition("?")
        self.form = _named_format(query)
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise EnvironmentFailed(f"the pipe {path} cannot be opened: {error.strerror}") from error
        self._path = path

    def read(self) -> bytes | None:
        ready, _, _ = select.select([self._descriptor], [], [], SILENT_S)
        content = os.read(self._descriptor, self.form.bytes_of(BLOCK_S * 4)) if ready else b""
        if not ready:
            raise EnvironmentFailed(f"the pipe {self._path} is silent")
        if not content:
            time.sleep(BLOCK_S)  # it has no writer, and is ready at once for ever
            raise EnvironmentFailed(f"nobody writes to the pipe {self._path}")
        return content

    def close(self) -> None:
        os.close(self._descriptor)


class PulseSource:
    """A source of PulseAudio or PipeWire, 16 kHz mono of 16 bits: the server resamples."""

    form = Format()
    interval_s = 0.0

    def __init__(self, device: str) -> None:
        tool = shutil.which("parec")
        if tool is None:
            raise RuntimeMissing("parec is not installed", "apt install pulseaudio-utils")
        named = [f"--device={device}"] if device else []
        self._process = subprocess.Popen(
            [tool, "--raw", "--format=s16le", "--rate=16000", "--channels=1", f"--latency-msec={LATENCY_MS}", *named],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def read(self) -> bytes | None:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], SILENT_S)
        content = os.read(self._process.stdout.fileno(), self.form.bytes_of(BLOCK_S * 4)) if ready else b""
        if content:
            return content
        if ready:  # parec has ended
            said = self._process.communicate()[1].decode(errors="replace").strip().splitlines()
            raise EnvironmentFailed(f"PulseAudio's source is gone: {said[-1] if said else 'no reason given'}")
        raise EnvironmentFailed("PulseAudio's source is silent")

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


class PortAudioSource:
    """A device of PortAudio, at its own rate where it does not do 16 kHz."""

    interval_s = 0.0

    def __init__(self, name: str) -> None:
        sounddevice = _sounddevice()
        sounddevice._terminate()  # noqa: SLF001  # else PortAudio knows only the devices that were there at its start
        sounddevice._initialize()  # noqa: SLF001
        device: int | str | None = int(name) if name.isdigit() else (None if name == "default" else name)
        self._name = name
        self._blocks: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._patience_s = OPENING_S
        try:
            found = sounddevice.query_devices(device, "input")
            self.form = Format(self._rate(sounddevice, device, found), 2, 1)
            self._stream = sounddevice.RawInputStream(
                samplerate=self.form.rate_hz, blocksize=round(self.form.rate_hz * BLOCK_S), device=device, channels=1,
                dtype="int16", latency="low", callback=self._take, finished_callback=lambda: self._blocks.put(None),
            )  # fmt: skip
            self._stream.start()
        except (sounddevice.PortAudioError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise EnvironmentFailed(
                f"the microphone {name!r} cannot be opened: {reason}", _known(sounddevice)
            ) from error

    @staticmethod
    def _rate(sounddevice: Any, device: int | str | None, found: Any) -> int:
        try:
            sounddevice.check_input_settings(device=device, channels=1, dtype="int16", samplerate=16_000)
        except sounddevice.PortAudioError:
            return int(found["default_samplerate"])
        return 16_000

    def read(self) -> bytes | None:
        try:
            content = self._blocks.get(timeout=self._patience_s)
        except queue.Empty:
            raise EnvironmentFailed(f"the microphone {self._name!r} is silent") from None
        if content is None:
            raise EnvironmentFailed(f"the microphone {self._name!r} is gone")
        self._patience_s = SILENT_S
        return content

    def _take(self, content: Any, _frames: int, _time: Any, _status: Any) -> None:
        """A block, in PortAudio's own thread."""
        self._blocks.put(bytes(content))

    def close(self) -> None:
        self._stream.close(ignore_errors=True)


class WyomingSource:
    """Sound that a Wyoming server sends (a satellite's microphone): audio-start, then audio-chunk."""

    interval_s = 0.0

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        try:
            port = parts.port
        except ValueError:
            port = None
        if not parts.hostname or port is None:
            raise BadInput(f"{address} names no host and port", "tcp://HOST:PORT")
        self._address = address
        try:
            self._socket = socket.create_connection((parts.hostname, port), timeout=CONNECT_S)
        except OSError as error:
            raise EnvironmentFailed(f"{address} cannot be reached: {error}") from error
        self._socket.settimeout(SILENT_S)
        self._parser = FrameParser()
        self._waiting: list[Frame] = []
        self.form = Format()
        try:
            first = self._next_sound()
            self.form = audio_format(first)
            self._waiting.insert(0, first)
        except BaseException:
            self._socket.close()
            raise

    def read(self) -> bytes | None:
        frame = self._next_sound()
        if audio_format(frame) != self.form:
            raise EnvironmentFailed(f"{self._address} changed the form of its sound")
        return frame.payload

    def _next_sound(self) -> Frame:
        """The next audio-chunk, or the first audio-start."""
        while True:
            while self._waiting:
                frame = self._waiting.pop(0)
                if frame.kind in {"audio-start", "audio-chunk"}:
                    return frame
            try:
                content = self._socket.recv(65536)
                self._waiting = self._parser.feed(content)
            except TimeoutError:
                raise EnvironmentFailed(f"{self._address} is silent") from None
            except OSError as error:
                raise EnvironmentFailed(f"{self._address} is gone: {error}") from error
            except BadData as error:
                raise EnvironmentFailed(f"{self._address} does not speak Wyoming: {error.message}") from error
            if not content:
                raise EnvironmentFailed(f"{self._address} is gone")

    def close(self) -> None:
        self._socket.close()


def _named_format(query: str) -> Format:
    allowed = {"rate": "rate_hz", "channels": "channels", "width": "width", "kind": "kind"}
    values: dict[str, Any] = {}
    for key, value in parse_qsl(query):
        if key not in allowed:
            raise UnknownName("word about a pipe", key, allowed)
        if key != "kind" and not value.isdigit():
            raise BadRecipe(f"{key}={value}: a whole number is expected")
        if key == "kind" and value not in {"int", "float"}:
            raise UnknownName("kind of samples", value, ("int", "float"))
        values[allowed[key]] = value if key == "kind" else int(value)
    return Format(**values)


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError:
        raise RuntimeMissing("the package sounddevice is not installed", "pip install 'edgetool[apps]'") from None
    except OSError as error:
        raise RuntimeMissing(f"PortAudio is not installed: {error}", "apt install libportaudio2") from None
    return sounddevice


def _known(sounddevice: Any) -> str:
    names = [f"{one['index']} {one['name']}" for one in sounddevice.query_devices() if one["max_input_channels"]]
    return f"there are: {'; '.join(names)}" if names else "PortAudio sees no microphone at all"
