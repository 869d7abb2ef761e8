"""Sources and the microphone: files, pipes, PulseAudio, PortAudio, Wyoming; what vanishes is noticed and reopened."""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from device_apps.clock import SystemClock
from device_apps.voice_assistant.cases import wav
from device_apps.voice_assistant.microphone import Microphone
from device_apps.voice_assistant.sound import RATE_HZ, Samples
from device_apps.voice_assistant.source import PortAudioSource, open_source
from device_apps.voice_assistant.wyoming import Frame
from edge.errors import BadData, BadInput, EnvironmentFailed, UnknownName
from tests.device_apps.mosquitto import soon
from tests.device_apps.voice_assistant.test_sound import tone

PCM = {"rate": 16000, "width": 2, "channels": 1}


def pcm(samples: Samples) -> bytes:
    return np.rint(samples * 32767).astype("<i2").tobytes()


def heard(microphone: Microphone, seconds: float, timeout_s: float = 20.0) -> Samples:
    """The next so many seconds."""
    pieces: list[Samples] = []
    until = time.monotonic() + timeout_s
    while sum(map(len, pieces)) < seconds * RATE_HZ and time.monotonic() < until:
        block = microphone.next(0.2)
        if block is not None:
            pieces.append(block.samples)
        elif microphone.through:
            break
    return np.concatenate([np.zeros(0, np.float32), *pieces])


@pytest.fixture
def listening() -> Iterator[list[Microphone]]:
    started: list[Microphone] = []
    yield started
    for one in started:
        one.stop()


def test_a_wav_file_is_heard_to_its_end(tmp_path: Path, listening: list[Microphone]) -> None:
    (tmp_path / "a.wav").write_bytes(wav(tone(RATE_HZ, 1.0)))
    microphone = Microphone(lambda: open_source(str(tmp_path / "a.wav")), SystemClock(), fast=True)
    listening.append(microphone)
    microphone.start()
    made = heard(microphone, 9.0)
    assert len(made) == RATE_HZ
    assert np.abs(made - tone(RATE_HZ, 1.0)).max() < 0.01
    assert soon(lambda: microphone.through)
    assert microphone.fault() is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no PCM wav"),
        (b"RIFF" + bytes(100), "no PCM wav"),
        (wav(np.zeros(10, np.float32))[:30], "no PCM wav"),
        (wav(np.zeros(10, np.float32)).replace((16000).to_bytes(4, "little"), (1).to_bytes(4, "little")), "at 1 Hz"),
    ],
)
def test_a_file_that_is_no_sound_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(BadData, match=reason):
        open_source(str(tmp_path / "a.wav"))


def test_names_that_are_none() -> None:
    with pytest.raises(BadInput, match="no name"):
        open_source("")
    with pytest.raises(BadInput, match="no host and port"):
        open_source("tcp://localhost")
    with pytest.raises(UnknownName, match="rat"):
        open_source("fifo:/tmp/x?rat=3")
    with pytest.raises(BadInput, match="whole number"):
        open_source("fifo:/tmp/x?rate=x")
    with pytest.raises(BadData, match="9 Hz"):
        open_source("fifo:/tmp/x?rate=9")
    with pytest.raises(EnvironmentFailed, match="cannot be opened"):
        open_source("fifo:/nonexistent")
    with pytest.raises(BadData, match="cannot read"):
        open_source("/nonexistent.wav")


def test_a_pipe_is_heard_sample_by_sample_and_again_after_its_writer_went(
    tmp_path: Path, listening: list[Microphone]
) -> None:
    path = tmp_path / "mic"
    os.mkfifo(path)
    microphone = Microphone(lambda: open_source(f"fifo:{path}"), SystemClock())
    listening.append(microphone)
    microphone.start()
    for turn in range(2):
        with path.open("wb", buffering=0) as writer:
            writer.write(pcm(tone(RATE_HZ, 0.5, hz=300 + 200 * turn)))
            made = heard(microphone, 0.5)
            assert np.abs(made - tone(RATE_HZ, 0.5, hz=300 + 200 * turn)).max() < 0.02
        assert soon(lambda: microphone.fault() is not None)
    assert microphone.losses >= 1


def test_a_pipe_of_another_form_is_resampled(tmp_path: Path, listening: list[Microphone]) -> None:
    path = tmp_path / "mic"
    os.mkfifo(path)
    name = f"fifo:{path}?rate=48000&channels=2&width=4&kind=float"
    microphone = Microphone(lambda: open_source(name), SystemClock())
    listening.append(microphone)
    microphone.start()
    with path.open("wb", buffering=0) as writer:
        stereo = np.repeat(tone(48000, 0.6)[:, None], 2, axis=1)
        threading.Thread(target=lambda: writer.write(stereo.astype("<f4").tobytes())).start()
        made = heard(microphone, 0.5)
    assert np.abs(made[800:] - tone(RATE_HZ, 1.0)[800 : len(made)]).max() < 0.03


def test_a_device_that_is_not_waited_for_drops_the_oldest(tmp_path: Path, listening: list[Microphone]) -> None:
    path = tmp_path / "mic"
    os.mkfifo(path)
    microphone = Microphone(lambda: open_source(f"fifo:{path}"), SystemClock())
    listening.append(microphone)
    microphone.start()
    with path.open("wb", buffering=0) as writer:
        for number in range(300):
            writer.write(pcm(np.full(1280, number / 400, np.float32)))
        assert soon(lambda: microphone.dropped > 10)
        assert soon(lambda: microphone.waiting >= 250)


def test_muting_closes_the_device_and_unmuting_opens_it(tmp_path: Path, listening: list[Microphone]) -> None:
    path = tmp_path / "mic"
    os.mkfifo(path)

    def is_open() -> bool:
        return any(link.resolve() == path for link in Path("/proc/self/fd").iterdir() if link.exists())

    microphone = Microphone(lambda: open_source(f"fifo:{path}"), SystemClock(), muted=True)
    listening.append(microphone)
    microphone.start()
    time.sleep(0.2)
    assert not is_open()
    assert microphone.state == "muted"
    microphone.unmute()
    writer = path.open("wb", buffering=0)
    writer.write(pcm(tone(RATE_HZ, 0.2)))
    assert len(heard(microphone, 0.2)) == 3200
    writer.close()  # this process may hold no other end
    assert microphone.mute()
    assert not is_open()
    assert microphone.next(0.05) is None
    assert microphone.fault() is None


class Satellite:
    """A Wyoming server that sends what it is given, and then does as it is told."""

    def __init__(self, content: bytes, then: str = "close") -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._server.getsockname()[1]}"
        self._content, self._then = content, then
        self.clients: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
                client.sendall(self._content)
            except OSError:
                return
            if self._then == "close":
                client.close()
            self.clients.append(client)

    def close(self) -> None:
        self._server.close()
        for client in self.clients:
            client.close()


def test_a_wyoming_stream_is_heard_and_reopened(listening: list[Microphone]) -> None:
    chunks = b"".join(Frame("audio-chunk", PCM, pcm(tone(RATE_HZ, 0.1))).encoded() for _ in range(5))
    satellite = Satellite(Frame("audio-start", PCM).encoded() + chunks)
    microphone = Microphone(lambda: open_source(satellite.address), SystemClock())
    listening.append(microphone)
    microphone.start()
    assert len(heard(microphone, 0.9)) >= 0.9 * RATE_HZ  # more than one connection gives
    assert microphone.opened >= 2
    satellite.close()


@pytest.mark.parametrize(
    ("content", "then", "reason"),
    [
        (b"HTTP/1.1 200 OK\n", "close", "does not speak Wyoming"),
        (b'{"type": "audio-chunk", "payload_length": 999999999999}\n', "hold", "does not speak Wyoming"),
        (b'{"type": "audio-chunk", "payload_length": 1000}\n', "hold", "is silent"),
        (b"", "hold", "is silent"),
        (b"", "close", "is gone"),
        (Frame("audio-start", {"rate": 100, "width": 2, "channels": 1}).encoded(), "hold", "100 Hz"),
    ],
)
def test_a_wyoming_stream_that_is_none(content: bytes, then: str, reason: str) -> None:
    satellite = Satellite(content, then)
    try:
        with pytest.raises((EnvironmentFailed, BadData), match=reason):
            open_source(satellite.address).read()
    finally:
        satellite.close()


class Pulse:
    """PulseAudio with a null sink: what is played to it is what the microphone hears."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("pulseaudio") is None or shutil.which("parec") is None:
            pytest.skip("PulseAudio is not installed")
        self.environment = {**os.environ, "XDG_RUNTIME_DIR": str(folder), "HOME": str(folder)}
        folder.chmod(0o700)
        script = folder / "rig.pa"
        script.write_text("load-module module-native-protocol-unix\n")
        command = ["pulseaudio", "-n", "-F", str(script), "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no"]
        self._process = subprocess.Popen(command, env=self.environment, stderr=subprocess.DEVNULL)
        assert soon(lambda: self.does("info") == 0)
        self.module = ""

    def does(self, *words: str) -> int:
        return subprocess.run(["pactl", *words], env=self.environment, capture_output=True, check=False).returncode

    def plug(self) -> None:
        options = ["sink_name=mic", "rate=16000", "channels=1", "format=s16le"]
        line = ["pactl", "load-module", "module-null-sink", *options]
        self.module = subprocess.run(
            line, env=self.environment, capture_output=True, check=True, text=True
        ).stdout.strip()

    def unplug(self) -> None:
        assert self.does("unload-module", self.module) == 0

    def play(self, samples: Samples) -> subprocess.Popen[bytes]:
        line = ["pacat", "--raw", "--rate=16000", "--channels=1", "--format=s16le", "--latency-msec=50", "-d", "mic"]
        player = subprocess.Popen(line, env=self.environment, stdin=subprocess.PIPE)
        assert player.stdin is not None
        player.stdin.write(pcm(samples))
        player.stdin.close()
        return player

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def pulse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pulse]:
    rig = Pulse(tmp_path)
    for name in ("XDG_RUNTIME_DIR", "HOME"):
        monkeypatch.setenv(name, rig.environment[name])
    yield rig
    rig.stop()


def test_a_microphone_of_pulseaudio_is_unplugged_and_plugged_in_again(
    pulse: Pulse, listening: list[Microphone]
) -> None:
    pulse.plug()
    microphone = Microphone(lambda: open_source("pulse:mic.monitor"), SystemClock())
    listening.append(microphone)
    microphone.start()
    for _ in range(2):
        assert soon(lambda: microphone.fault() is None and microphone.next(0.01) is not None)
        player = pulse.play(tone(RATE_HZ, 1.0, amplitude=0.3))
        assert np.abs(heard(microphone, 2.5)).max() == pytest.approx(0.3, abs=0.05)
        player.wait()
        pulse.unplug()
        assert soon(lambda: microphone.fault() is not None)
        pulse.plug()
    assert soon(lambda: microphone.fault() is None)


def test_portaudio_without_a_device_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sounddevice", exc_type=(ImportError, OSError))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(EnvironmentFailed, match="cannot be opened"):
        PortAudioSource("no such microphone")


READ = """
import sys, numpy as np
from device_apps.voice_assistant.source import open_source
source = open_source("default")
print(source.form.rate_hz, flush=True)
heard = b"".join(source.read() for _ in range(200))
source.close()
print(np.abs(np.frombuffer(heard, "<i2")).max() / 32768)
"""


def test_portaudio_hears_the_default_device(pulse: Pulse, tmp_path: Path) -> None:
    """ALSA's default is PulseAudio here, as on a desktop."""
    pytest.importorskip("sounddevice", exc_type=(ImportError, OSError))
    if not list(Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pulse.so")):
        pytest.skip("libasound2-plugins is not installed")
    (tmp_path / ".asoundrc").write_text("pcm.!default { type pulse }\nctl.!default { type pulse }\n")
    pulse.plug()
    assert pulse.does("set-default-source", "mic.monitor") == 0
    line = [sys.executable, "-c", READ]
    reader = subprocess.Popen(line, env=pulse.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert reader.stdout is not None
    rate = reader.stdout.readline()
    pulse.play(tone(RATE_HZ, 2.0, amplitude=0.3)).wait()
    said, wrong = reader.communicate(timeout=60)
    assert rate.strip() in {"16000", "44100", "48000"}, wrong
    assert reader.returncode == 0, wrong
    assert float(said) == pytest.approx(0.3, abs=0.05)
