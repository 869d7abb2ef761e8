"""Damage of every kind to what the voice assistant reads from others: nothing crashes, hangs or acts.

python -m benchmarks.voice_fuzz            10,000 cases, some minutes
python -m benchmarks.voice_fuzz --slice    400 cases, for CI

Wyoming frames go to the parser and to a session with real models, wav headers to the source and its converter, MQTT
payloads to the handler of messages. A crash is any exception but an expected error, a hang is a case of more than five
seconds of CPU (nothing here waits for anybody; the wall's seconds are those of a shared machine), an action is the
microphone closed by anything but the one payload that may, or a handler of an intent asked.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import Figure, write
from benchmarks.voice_parts import parts_of
from device_apps.voice_assistant.act import Dispatcher, Outcome, Request
from device_apps.voice_assistant.cases import wav
from device_apps.voice_assistant.home import Topics, heard
from device_apps.voice_assistant.intent import Understood
from device_apps.voice_assistant.models import Parts
from device_apps.voice_assistant.recognise import Recogniser
from device_apps.voice_assistant.sound import Converter
from device_apps.voice_assistant.source import WavSource
from device_apps.voice_assistant.wake import Detector
from device_apps.voice_assistant.wyoming import Frame, FrameParser
from device_apps.voice_assistant.wyoming_server import Session, info
from edge.errors import EdgetoolError

CASES, SLICE_CASES = 10_000, 400
HANG_S = 5.0
SEED = 20261127
FORM = {"rate": 16000, "width": 2, "channels": 1}
TOPICS = Topics("edgetool/voice")


class Once(Parts):
    """The parts, opened once for all sessions."""

    def detector(self) -> Detector:
        if not hasattr(self, "_detector"):
            self._detector = super().detector()
        return self._detector

    def recogniser(self) -> Recogniser:
        if not hasattr(self, "_recogniser"):
            self._recogniser = super().recogniser()
        return self._recogniser


def main() -> int:
    """Mutate, count, write the figures; 1 where anything crashed, hung or acted."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--slice", action="store_true", help="400 cases, and no results are written")
    options = parser.parse_args()
    count = SLICE_CASES if options.slice else CASES
    rng = random.Random(SEED)
    kinds: list[Callable[[random.Random], str]] = []
    acted: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        parts = parts_of(Path(folder), Once)
        kinds = [
            lambda r: wyoming(r, parts),
            lambda r: wav_header(r, Path(folder) / "case.wav"),
            lambda r: mqtt(r, acted),
        ]
        outcomes: Counter[str] = Counter()
        slowest, longest, crashes = 0.0, 0.0, list[str]()
        for number in range(count):
            started, worked = time.monotonic(), time.process_time()
            try:
                outcomes[kinds[number % 3](rng)] += 1
            except Exception as error:  # noqa: BLE001  # whatever it is, it is counted
                crashes.append(f"case {number}: {type(error).__name__}: {error}")
                print(crashes[-1], file=sys.stderr, flush=True)
            longest = max(longest, time.monotonic() - started)
            slowest = max(slowest, time.process_time() - worked)
            if number % 1000 == 999:
                print(f"{number + 1} cases: {dict(outcomes)}, {len(crashes)} crashes", flush=True)
    print(dict(outcomes))
    figures = [
        Figure("fuzz.cases", f">= {count}", count, "cases", None, met=True),
        Figure("fuzz.crashes", "<= 0", len(crashes), "crashes", None, not crashes),
        Figure("fuzz.slowest_case_cpu", f"<= {HANG_S:g}", slowest, "s", None, slowest <= HANG_S),
        Figure("fuzz.slowest_case_wall", "reported", longest, "s", None, met=True),
        Figure("fuzz.actions", "<= 0", len(acted), "actions", None, not acted),
        Figure("fuzz.refused", "reported", outcomes["refused"], "cases", None, met=True),
    ]
    if not options.slice:
        write("voice_fuzz", "python -m benchmarks.voice_fuzz", figures)
    return 0 if all(figure.met for figure in figures) else 1


def wyoming(rng: random.Random, parts: Parts) -> str:
    """Some frames of a conversation, damaged, in pieces."""
    pcm = np.random.default_rng(rng.randrange(1 << 30)).integers(-9000, 9000, 1600).astype("<i2").tobytes()
    frames = [
        Frame("describe"),
        Frame("detect", {"names": ["alexa"]}),
        Frame("transcribe", {"language": "en"}),
        Frame("audio-start", FORM),
        Frame("audio-chunk", FORM, pcm),
        Frame("audio-chunk", {**FORM, "rate": 48000, "channels": 2}, pcm),
        Frame("audio-stop", {"timestamp": 100}),
        Frame("recognize", {"text": "turn on the light"}),
        Frame("ping", {"text": "x"}),
        Frame("select-program", {"name": "edgetool"}),
    ]
    content = b"".join(damaged_frame(rng, rng.choice(frames)) for _ in range(rng.randrange(1, 6)))
    if rng.random() < 0.5:
        content = damaged(rng, content)
    session, reader = Session(parts, info(("alexa",))), FrameParser()
    try:
        for at in range(0, len(content), 1500):
            for frame in reader.feed(content[at : at + 1500]):
                for answer in session.answer(frame):
                    answer.encoded()
    except EdgetoolError:
        return "refused"
    return "taken"


def damaged_frame(rng: random.Random, frame: Frame) -> bytes:
    """A frame whose header or data says something else, or as it is."""
    values: list[Any] = [None, True, -1, 0, 1, 3, 10**12, 1e308, "", "x" * 2000, [], {}, [[]], "16000", "\ud800"[:0]]
    content = frame.encoded()
    if rng.random() < 0.4:
        return content
    line, _, rest = content.partition(b"\n")
    header = json.loads(line)
    if rng.random() < 0.5:
        header[rng.choice(["type", "data", "data_length", "payload_length", "version", "more"])] = rng.choice(values)
    else:
        header["data"] = {**frame.data, rng.choice([*FORM, "text", "names"]): rng.choice(values)}
        header.pop("data_length", None)
        rest = frame.payload
    return json.dumps(header).encode() + b"\n" + rest


def wav_header(rng: random.Random, path: Path) -> str:
    """A wav file whose header, or anything, was changed."""
    good = wav(np.random.default_rng(rng.randrange(1 << 30)).normal(0, 0.1, 800).astype(np.float32))
    content = bytearray(good)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(44) if rng.random() < 0.8 else rng.randrange(len(content))
        content[at] = rng.randrange(256)
    path.write_bytes(bytes(content[: rng.randrange(len(content) + 1)] if rng.random() < 0.3 else content))
    try:
        source = WavSource(path)
        try:
            convert = Converter(source.form)
            for _ in range(200):
                piece = source.read()
                if piece is None:
                    break
                convert(piece)
        finally:
            source.close()
    except EdgetoolError:
        return "refused"
    return "taken"


def mqtt(rng: random.Random, acted: list[str]) -> str:
    """A message on one of the topics, or near one; and its text as if it had been heard."""
    payload = damaged(rng, rng.choice([b"ON", b"OFF", b"LOCKED", b"UNLOCK", b'{"action": "unlock"}', bytes(3000)]))
    topic = rng.choice([TOPICS.mute, "lock/bolt", TOPICS.event, TOPICS.mute + "x", ""])
    retained = rng.random() < 0.3
    said: list[str] = []

    def mute() -> None:
        if payload != b"ON" or retained or topic != TOPICS.mute:
            acted.append(f"muted by {payload!r}")
        said.append("taken")

    def bolt(state: str) -> None:
        said.append("taken" if state in {"LOCKED", "UNLOCKED"} else acted.append(state) or "")

    heard(TOPICS, "lock/bolt", mute, bolt, lambda _: said.append("refused"))(topic, payload, retained)

    def handler(request: Request) -> Outcome:
        acted.append(f"done: {request.text!r}")
        return Outcome(True, "")

    text = "unlock the door " + payload.decode(errors="replace")
    Dispatcher({"*": handler})(Request(Understood("HassTurnOn", {}, 1.0), text, 0.0))
    return said[0] if said else "refused"


def damaged(rng: random.Random, content: bytes) -> bytes:
    """Bytes with some changed, left out, put in or doubled; now and then none."""
    made = bytearray(content)
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(made) + 1)
        change = rng.randrange(4)
        if change == 0 and at < len(made):
            made[at] = rng.randrange(256)
        elif change == 1:
            del made[at : at + rng.randrange(1, 20)]
        elif change == 2:
            made[at:at] = rng.randbytes(rng.randrange(1, 20))
        else:
            made[at:at] = made[at : at + 50]
    return bytes(made)


if __name__ == "__main__":
    sys.exit(main())
