"""The Wyoming server, talked to by Home Assistant's own client, and by those who mean it ill."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from device_apps.voice_assistant.models import Parts
from device_apps.voice_assistant.policy import read_policy
from device_apps.voice_assistant.sound import RATE_HZ, Samples
from device_apps.voice_assistant.wyoming import Frame
from device_apps.voice_assistant.wyoming_server import MAX_CLIENTS, WyomingServer
from tests.device_apps.mosquitto import soon
from tests.device_apps.voice_assistant.running import initialised
from tests.device_apps.voice_assistant.speech import clip, silence, spoken

IDLE_S, FRAME_S = 6.0, 1.5


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return initialised(tmp_path_factory.mktemp("wyoming"))


class Served:
    """A server on a free port, and what it said of those it refused."""

    def __init__(self, state: Path) -> None:
        self.said: list[str] = []
        parts = Parts(read_policy(state / "voice-assistant.toml"), state / "models")
        self.server = WyomingServer("127.0.0.1", 0, parts, ("alexa",), self.said.append, idle_s=IDLE_S, frame_s=FRAME_S)
        self.server.start()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.server.port), timeout=30)


@pytest.fixture
def served(state: Path) -> Iterator[Served]:
    running = Served(state)
    yield running
    running.server.stop()


async def talk(port: int, events: list[object], wanted: str) -> object:
    """Send events by the real client; the first answer of a type."""
    from wyoming.client import AsyncTcpClient

    async with AsyncTcpClient("127.0.0.1", port, connect_timeout=20, read_timeout=60) as client:
        for event in events:
            await client.write_event(event.event())  # type: ignore[attr-defined]
        while (answer := await client.read_event()) is not None:
            if answer.type == wanted:
                return answer
    return None


def chunks(samples: Samples, rate_hz: int = RATE_HZ) -> list[object]:
    from wyoming.audio import AudioChunk, AudioStart, AudioStop

    pcm = np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
    form = {"rate": rate_hz, "width": 2, "channels": 1}
    pieces = [AudioChunk(audio=pcm[at : at + 2048], **form) for at in range(0, len(pcm), 2048)]
    return [AudioStart(**form), *pieces, AudioStop()]


def test_home_assistants_client_learns_what_there_is(served: Served) -> None:
    pytest.importorskip("wyoming")
    from wyoming.info import Describe, Info

    info = Info.from_event(asyncio.run(talk(served.server.port, [Describe()], "info")))
    assert [model.name for model in info.wake[0].models] == ["alexa"]
    assert info.asr[0].models[0].languages == ["en"]
    assert info.intent[0].installed


def test_home_assistants_client_gets_a_transcript_and_an_intent(served: Served) -> None:
    pytest.importorskip("wyoming")
    from wyoming.asr import Transcribe, Transcript
    from wyoming.intent import Intent, NotRecognized, Recognize

    sound = np.concatenate([silence(0.3), spoken("switch off the radio"), silence(0.3)])
    answer = asyncio.run(talk(served.server.port, [Transcribe(language="en"), *chunks(sound)], "transcript"))
    text = Transcript.from_event(answer).text
    assert text == "switch off the radio"
    intent = Intent.from_event(asyncio.run(talk(served.server.port, [Recognize(text=text)], "intent")))
    assert intent.name == "HassTurnOff"
    assert [(entity.name, entity.value) for entity in intent.entities] == [("name", "radio")]
    unknown = asyncio.run(talk(served.server.port, [Recognize(text="make me a sandwich")], "not-recognized"))
    assert NotRecognized.from_event(unknown).text == "make me a sandwich"


@pytest.mark.shared_data
def test_home_assistants_client_hears_of_a_wake_word(served: Served, shared_data: Path) -> None:
    pytest.importorskip("wyoming")
    from wyoming.wake import Detect, Detection, NotDetected

    word = clip(shared_data / "speech/microww_tests/alexa/1.wav")
    sound = np.concatenate([silence(1.5), word, silence(0.5)])
    found = asyncio.run(talk(served.server.port, [Detect(names=["alexa"]), *chunks(sound)], "detection"))
    detection = Detection.from_event(found)
    assert detection.name == "alexa"
    assert 1500 < (detection.timestamp or 0) < 1500 + len(word) / 16 + 500
    other = asyncio.run(talk(served.server.port, [Detect(), *chunks(silence(3.0))], "not-detected"))
    assert NotDetected.is_type(other.type)  # type: ignore[attr-defined]


def closed(client: socket.socket) -> bytes:
    """All that is said until the server closes."""
    client.settimeout(30)
    said = b""
    while True:
        try:
            content = client.recv(65536)
        except ConnectionResetError:
            return said
        if not content:
            return said
        said += content


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"type": "audio-chunk", "payload_length": 999999999999}\n', "payload_length"),
        (b'{"type": "audio-chunk", "data_length": 60000, "payload_length": 1000}\n{', "not whole after"),
        (b'{"type": "audio-chunk"', "not whole after"),
        (b"GET / HTTP/1.1\r\n\r\n", "no JSON"),
        (b'{"type": "audio-chunk"}\n', "no rate"),
        (b'{"type": "audio-start", "data": {"rate": 1, "width": 2, "channels": 1}}\n', "1 Hz"),
        (b'{"type": "recognize"}\n', "no text"),
        (b'{"type": "detect", "data": {"names": 3}}\n', "no list of texts"),
    ],
)
def test_who_sends_damage_or_never_the_body_is_told_and_closed(served: Served, content: bytes, reason: str) -> None:
    with served.connect() as client:
        client.sendall(content)
        assert reason in closed(client).decode()
    assert reason in served.said[-1]


def test_a_body_that_drips_is_not_waited_for(served: Served) -> None:
    began = time.monotonic()
    with served.connect() as client:
        client.sendall(b'{"type": "audio-chunk", "payload_length": 100000}\n')
        while time.monotonic() - began < 20:
            try:
                client.sendall(b"x")
            except OSError:
                break
            time.sleep(0.1)
    assert "not whole after" in served.said[-1]


def test_who_says_nothing_is_closed_and_makes_room(served: Served) -> None:
    quiet = [served.connect() for _ in range(MAX_CLIENTS)]
    late = served.connect()
    assert closed(late) == b""  # no place
    assert served.server.refused == 1
    for client in quiet:
        assert b"nothing came" in closed(client)
    assert soon(lambda: served.server.closed == MAX_CLIENTS)
    with served.connect() as client:
        client.sendall(json.dumps({"type": "ping", "data": {"text": "x"}}).encode() + b"\n")
        assert b"pong" in client.recv(1000)


def test_a_command_without_an_end_is_ended(served: Served) -> None:
    form = {"rate": 8000, "width": 1, "channels": 1}
    with served.connect() as client:
        client.sendall(b'{"type": "transcribe"}\n' + Frame("audio-chunk", form, bytes(250_000)).encoded())
        assert b"command of more than" in closed(client)
