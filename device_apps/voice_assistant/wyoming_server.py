"""A Wyoming server: wake words, speech to text, and intents, for Home Assistant and other clients of the protocol.

It recognises and never acts. A connection is closed that is silent for too long, takes too long over one frame, sends
too much, or speaks something else.
"""

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from device_apps.voice_assistant.intent import IntentModel
from device_apps.voice_assistant.models import Parts
from device_apps.voice_assistant.recognise import Recogniser
from device_apps.voice_assistant.sound import RATE_HZ, Converter, Samples
from device_apps.voice_assistant.wake import Detector
from device_apps.voice_assistant.wyoming import Frame, FrameParser, audio_format, text_of
from edge.errors import BadData, EdgetoolError, EnvironmentFailed

MAX_CLIENTS = 4
IDLE_S = 30.0  # between frames: a satellite sends sound all the time
FRAME_S = 5.0  # from a frame's first byte to its last
MAX_COMMAND_S = 30.0
SEND_S = 5.0
ATTRIBUTION = {"name": "edgetool", "url": ""}


class Session:
    """One connection's frames in, frames out. Pure but for the models that it opens."""

    def __init__(self, parts: Parts, info: dict[str, Any]) -> None:
        self._parts, self._info = parts, info
        self._intents: IntentModel = parts.intents
        self._detector: Detector | None = None
        self._recogniser: Recogniser | None = None
        self._convert: Converter | None = None
        self._form: object = None
        self._names: tuple[str, ...] = ()
        self._heard = self._detected = 0

    def answer(self, frame: Frame) -> list[Frame]:
        """What is said to a frame; what is not known is left out, as the protocol wants.

        Raises:
            BadData: the frame is damaged.
            EnvironmentFailed: a model cannot be opened.

        """
        answers: dict[str, Callable[[Frame], list[Frame]]] = {
            "describe": lambda _: [Frame("info", self._info)],
            "ping": lambda ping: [Frame("pong", {"text": text_of(ping, "text")} if "text" in ping.data else {})],
            "detect": self._detect,
            "transcribe": self._transcribe,
            "recognize": lambda asked: [self._recognise(text_of(asked, "text"))],
            "audio-start": self._begin,
            "audio-chunk": self._hear,
            "audio-stop": lambda _: self._end(),
        }
        answer = answers.get(frame.kind)
        return [] if answer is None else answer(frame)

    def close(self) -> None:
        """Free the models."""
        for part in (self._detector, self._recogniser):
            if part is not None:
                part.close()
        self._detector = self._recogniser = None

    def _detect(self, frame: Frame) -> list[Frame]:
        names = frame.data.get("names")
        if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise BadData("detect's names are no list of texts")
        self._names = tuple(names or ())
        if self._detector is None:
            self._detector = self._parts.detector()
        return []

    def _transcribe(self, _frame: Frame) -> list[Frame]:
        if self._recogniser is None:
            self._recogniser = self._parts.recogniser()
        self._recogniser.start()
        return []

    def _begin(self, frame: Frame) -> list[Frame]:
        self._form = audio_format(frame)
        self._convert = Converter(audio_format(frame))
        self._heard = self._detected = 0
        if self._detector is not None:
            self._detector.reset()
        if self._recogniser is not None:
            self._recogniser.start()
        return []

    def _hear(self, frame: Frame) -> list[Frame]:
        if self._convert is None or audio_format(frame) != self._form:
            self._begin(frame)
        assert self._convert is not None
        samples = self._convert(frame.payload)
        self._heard += len(samples)
        if self._recogniser is not None:
            if self._heard > MAX_COMMAND_S * RATE_HZ:
                raise BadData(f"a command of more than {MAX_COMMAND_S:g} s")
            self._recogniser.push(samples)
        return self._wakes(samples)

    def _wakes(self, samples: Samples) -> list[Frame]:
        if self._detector is None:
            return []
        found = []
        for piece in np.array_split(samples, max(1, len(samples) // (RATE_HZ // 10))):
            wake = self._detector.push(piece)
            if wake is not None and (not self._names or wake.word in self._names):
                self._detected += 1
                at_ms = round(wake.at / RATE_HZ * 1000)
                found.append(Frame("detection", {"name": wake.word, "timestamp": at_ms}))
        return found

    def _end(self) -> list[Frame]:
        frames = []
        if self._recogniser is not None:
            frames.append(Frame("transcript", {"text": self._recogniser.finish().text}))
        elif self._detector is not None and not self._detected:
            frames.append(Frame("not-detected"))
        self._convert = None
        return frames

    def _recognise(self, text: str) -> Frame:
        understood = self._intents(text)
        if understood.intent is None:
            return Frame("not-recognized", {"text": text})
        entities = [{"name": name, "value": value} for name, value in understood.slots.items()]
        return Frame("intent", {"name": understood.intent, "entities": entities, "text": text})


class WyomingServer:
    """Listens on a port (0: any free one, which `port` then is). Raises EnvironmentFailed: it cannot be had."""

    def __init__(
        self,
        host: str,
        port: int,
        parts: Parts,
        words: tuple[str, ...],
        tell: Callable[[str], None],
        *,
        idle_s: float = IDLE_S,
        frame_s: float = FRAME_S,
    ) -> None:
        self._parts, self._info, self._tell = parts, info(words), tell
        self._idle_s, self._frame_s = idle_s, frame_s
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._socket = socket.create_server((host, port), family=family)
        except OSError as error:
            raise EnvironmentFailed(f"no Wyoming server at {host}:{port}: {error.strerror or error}") from error
        self._socket.settimeout(0.2)
        self.port: int = self._socket.getsockname()[1]
        self._stopping = threading.Event()
        self._places = threading.BoundedSemaphore(MAX_CLIENTS)
        self._working = threading.Lock()  # one client's models at a time: a device has few cores
        self._thread = threading.Thread(target=self._accept, name="wyoming", daemon=True)
        self.refused = self.closed = 0

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving; connections end within a moment."""
        self._stopping.set()
        self._thread.join(timeout=2.0)
        self._socket.close()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                client, _ = self._socket.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            if not self._places.acquire(blocking=False):
                self.refused += 1
                client.close()
                continue
            threading.Thread(target=self._serve, args=(client,), name="wyoming client", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        session = Session(self._parts, self._info)
        try:
            with client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._talk(client, session)
        except OSError:
            pass  # the client is gone
        finally:
            with self._working:
                session.close()
            self.closed += 1
            self._places.release()

    def _talk(self, client: socket.socket, session: Session) -> None:
        parser = FrameParser()
        silent_since, began = time.monotonic(), None
        while not self._stopping.is_set():
            client.settimeout(0.2)
            try:
                content = client.recv(1 << 16)
            except TimeoutError:
                content = None
            if content == b"":
                return
            try:
                frames = parser.feed(content) if content else []
                now = time.monotonic()
                silent_since = now if frames else silent_since
                began = None if parser.is_between else (now if frames or began is None else began)
                self._check_time(now, silent_since, began)
                client.settimeout(SEND_S)
                for frame in frames:
                    with self._working:
                        answers = session.answer(frame)
                    for answer in answers:
                        client.sendall(answer.encoded())
                worked = time.monotonic() - now  # what the models take is not the client's time
                silent_since += worked
                began = None if began is None else began + worked
            except EdgetoolError as error:
                self._tell(error.message)
                client.settimeout(SEND_S)
                client.sendall(Frame("error", {"text": error.message, "code": type(error).__name__}).encoded())
                return

    def _check_time(self, now: float, silent_since: float, began: float | None) -> None:
        """Raises BadData: no frame for too long, or one that has begun and is not ended."""
        if began is not None and now - began > self._frame_s:
            raise BadData(f"a frame was not whole after {self._frame_s:g} s")
        if began is None and now - silent_since > self._idle_s:
            raise BadData(f"nothing came for {self._idle_s:g} s")


def info(words: tuple[str, ...]) -> dict[str, Any]:
    """What the server tells of itself."""
    common = {"attribution": ATTRIBUTION, "installed": True, "version": None}

    def program(name: str, description: str, models: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"name": name, "description": description, **common, "models": models}]

    def model(name: str, description: str, **more: Any) -> dict[str, Any]:
        return {"name": name, "description": description, **common, "languages": ["en"], **more}

    return {
        "wake": program("edgetool", "wake words", [model(word, word, phrase=word) for word in words]),
        "asr": program("edgetool", "speech to text", [model("edgetool", "the recogniser of the settings")]),
        "intent": program("edgetool", "intents", [model("edgetool", "the intents of the settings")]),
    }
