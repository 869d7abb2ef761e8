"""Mutated frames, settings, MQTT payloads and HTTP requests: whether any ends the lock or opens the door.

python -m benchmarks.door_lock_fuzz            10,000 of each, about twenty minutes; --only NAME runs one of the four
python -m benchmarks.door_lock_fuzz --slice    a few of each, some seconds; writes no figures
python -m benchmarks.door_lock_fuzz --resume FILE    keeps what is done in the file, and goes on from there

- **frames**: JPEG files of strangers, and arrays, damaged, turned, cut and scaled; through the decoder, real models and
  a lock that a face alone would open.
- **settings**: door-lock.toml damaged; what is read all the same must keep within the limits of a lock.
- **mqtt**: signed commands damaged, old, repeated or retained, over a real broker to a lock that obeys signed commands;
  one that is right opens it afterwards.
- **http**: requests damaged in every part, with and without a session, to the page's real server.

An expected error (edge/errors.py, one line) is no crash; anything else, an answer 500 or a thread that ends is.
"""

import argparse
import dataclasses
import json
import random
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tomllib

from benchmarks.door_lock_rig import SHARED, door_lock, locked, scene, until
from benchmarks.figures import Figure, write
from benchmarks.mutate import mutated
from device_apps.clock import SystemClock
from device_apps.door_lock.access import AccessRules
from device_apps.door_lock.camera import Camera
from device_apps.door_lock.home_assistant import HomeAssistantRules
from device_apps.door_lock.network import Network, command_key
from device_apps.door_lock.page import page_password
from device_apps.door_lock.policy import MAX_PULSE_S, PageRules, read_policy
from device_apps.door_lock.recogniser import Recogniser
from device_apps.door_lock.source import bounded
from device_apps.door_lock.state import open_state
from device_apps.events import Event
from device_apps.mqtt import Broker
from device_apps.signed_command import signed_command
from edge.errors import BadData, EdgetoolError

EACH = 10_000
PASSWORD = "correct horse"
CLIENTS, ANSWER_S = 8, 1.0
STRANGERS = (3, 4, 5, 6)


@dataclass
class Outcome:
    """What came of one kind of input: how many were tried and taken, and what was wrong."""

    tried: int = 0
    taken: int = 0
    unlocked: int = 0
    wrong: list[str] = field(default_factory=list)

    def hear(self, event: Event) -> None:
        """Count what opens the door."""
        self.unlocked += event.kind == "unlock"


def frames(number: int, work: Path) -> Outcome:
    """Pictures, to a lock that a face alone would open; nobody in them is enrolled."""
    outcome, rng, clock = Outcome(), random.Random(1), SystemClock()
    state = open_state(locked(work / "frames"))
    policy = dataclasses.replace(read_policy(state.policy), access=AccessRules(face_alone=True))
    look = Recogniser(state, policy, state.folder / "models", lambda _: None)
    lock = door_lock(state, policy, clock, [outcome.hear], {})
    pictures = [scene(person, at) for person in STRANGERS for at in (1, 4, 7)]
    files = [cv2.imencode(".jpg", picture)[1].tobytes() for picture in pictures]
    for _ in range(number):
        outcome.tried += 1
        try:
            if rng.random() < 0.7:
                raw: Any = cv2.imdecode(np.frombuffer(mutated(rng, rng.choice(files)), np.uint8), cv2.IMREAD_UNCHANGED)
            else:
                raw = turned(rng, rng.choice(pictures))
            finding = look(bounded(raw), clock.monotonic())
        except (BadData, cv2.error):
            continue  # the camera's thread counts it as damaged
        except EdgetoolError as error:
            outcome.wrong.append(f"the models: {error.message}")
            continue
        outcome.taken += 1
        lock.submit(finding)
        lock.tick()
    return outcome


def turned(rng: random.Random, picture: Any) -> Any:  # noqa: PLR0911  # a list of what may happen
    """An array that a camera might hand out: turned, cut, scaled, in other channels and types."""
    kind = rng.randrange(8)
    if kind == 0:
        return np.rot90(picture, rng.randrange(4))
    if kind == 1:
        top, left = rng.randrange(479), rng.randrange(639)
        return picture[top : top + rng.randint(0, 480), left : left + rng.randint(0, 640)]
    if kind == 2:
        size = (rng.choice((1, 7, 48, 2500)), rng.choice((1, 7, 48, 2500)))
        return cv2.resize(picture, size)
    if kind == 3:
        return picture[..., 0] if rng.random() < 0.5 else np.concatenate([picture, picture[..., :1]], axis=2)
    if kind == 4:
        return picture.astype(rng.choice((np.float32, np.int16, np.uint16)))
    if kind == 5:
        return np.concatenate([picture] * rng.randint(2, 4), axis=rng.randrange(2))
    if kind == 6:
        noise = np.random.default_rng(rng.randrange(1 << 30)).integers(-90, 90, picture.shape)
        return np.clip(picture + noise, 0, 255).astype(np.uint8)
    return np.random.default_rng(rng.randrange(1 << 30)).integers(0, 256, (rng.randrange(99), 99, 3), np.uint8)


TOML = (
    b"face_alone = true\n", b"min_frames = 1\n", b"pulse_s = 1e9\n", b"min_live = nan\n", b"[access]\n",
    b"[decision]\n",
    b"[actuator]\n", b"[[models]]\n", b"= ", b'"""', b"'''", b"inf", b"-1", b"1e400", b"true", b"{", b"[" * 40, b"\xff",
    b"[mqtt]\nhost='x'\n", b"[page]\nport=99999\n", b"[webhook]\nurl='ftp://x'\n", b"[lockout]\nmax_failures=99999\n",
)  # fmt: skip


def settings(number: int, work: Path) -> Outcome:
    """Settings; those that are read must be settings of a lock."""
    outcome, rng = Outcome(), random.Random(2)
    hashed = "".join(f'{part} = {{ file = "{part}.onnx", sha256 = "{"a" * 64}" }}\n' for part in PARTS)
    whole = f"[models]\n{hashed}[access]\nface_alone = false\n[decision]\nmin_frames = 3\nmin_live = 0.5\n"
    whole += (
        '[actuator]\nkind = "print"\npin = 17\npulse_s = 3.0\n[lockout]\nmax_failures = 5\n[camera]\nlost_ms = 900.0\n'
    )
    path = work / "door-lock.toml"
    for _ in range(number):
        outcome.tried += 1
        path.write_bytes(mutated(rng, whole.encode(), TOML))
        try:
            policy = read_policy(path)
        except EdgetoolError:
            continue
        except Exception as error:  # noqa: BLE001  # this is what is looked for
            outcome.wrong.append(f"{type(error).__name__}: {error}")
            continue
        outcome.taken += 1
        within = policy.decision.min_frames >= 3 and policy.actuator.pulse_s <= MAX_PULSE_S
        within = within and 0 < policy.decision.min_live < 1 and policy.lockout.max_failures <= 20
        asked = tomllib.loads(path.read_text()).get("access", {}).get("face_alone", False)
        if not within or policy.access.face_alone is not asked:
            outcome.wrong.append(f"settings out of their limits: {policy}")
    return outcome


PARTS = ("detector", "liveness", "embedder")
JSON = (
    b'"action"',
    b'"unlock"',
    b"null",
    b"true",
    b"1e999",
    b"NaN",
    b"-1",
    b"{",
    b"}",
    b"[",
    b'"',
    b"\\u0000",
    b":",
    b",",
)


def mqtt(number: int, work: Path) -> Outcome:
    """Commands over a real broker; then one that is right, which opens: the lock did listen."""
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion

    from tests.device_apps.mosquitto import Mosquitto

    outcome, rng, clock = Outcome(), random.Random(3), SystemClock()
    broker = Mosquitto(work / "broker")
    state = open_state(locked(work / "mqtt"))
    policy = dataclasses.replace(
        read_policy(state.policy),
        mqtt=Broker("127.0.0.1", broker.port),
        home_assistant=HomeAssistantRules(unlock=True),
    )
    ignored: list[str] = []
    network = Network(state, policy, clock, lambda _, why: ignored.append(why))
    lock = door_lock(state, policy, clock, [outcome.hear, *network.listeners], network.checks)
    camera = Camera(Grey, clock)
    network.start(lock, camera)
    stranger = Client(CallbackAPIVersion.VERSION2)
    stranger.connect("127.0.0.1", broker.port)
    stranger.loop_start()
    topic, key = "edgetool/door-lock/command", command_key(state)

    def well() -> bool:
        lock.tick()
        return not lock.faults

    try:
        if not until(well, 10):
            raise RuntimeError(f"the lock is not well: {lock.faults.reasons()}")
        used = signed_command(key, "unlock", "fuzz", clock.wall() - 60)
        for sent in range(number):
            outcome.tried += 1
            payload = used if rng.random() < 0.1 else damaged(rng, signed_command(key, "unlock", "fuzz", clock.wall()))
            stranger.publish(topic, payload, qos=0, retain=rng.random() < 0.02)
            if sent % 50 == 49:
                until(lambda: len(ignored) >= outcome.tried - 100, 5)
                lock.tick()
        until(lambda: len(ignored) >= number, 5)
        lock.tick()
        if len(ignored) < 0.99 * number:
            outcome.wrong.append(f"{number} were sent, the lock heard {len(ignored)}")
        before = outcome.unlocked
        stranger.publish(topic, signed_command(key, "unlock", "fuzz", clock.wall()), qos=1)

        def opened() -> bool:
            lock.tick()
            return outcome.unlocked > before

        if not until(opened, 5):
            outcome.wrong.append("a command that is right does not open any more")
        outcome.unlocked = before
    finally:
        stranger.loop_stop()
        network.stop()
        broker.stop()
    return outcome


def damaged(rng: random.Random, right: bytes) -> bytes:
    """A command that says something else than the right one, which other space or a key twice would not."""
    while True:
        payload = mutated(rng, right, JSON)
        try:
            if json.loads(payload) != json.loads(right):
                return payload
        except (ValueError, RecursionError):
            return payload


class Grey:
    """A source of small grey pictures."""

    interval_s = 0.2

    def read(self) -> Any:
        """[40, 40, 3]."""
        return np.full((40, 40, 3), 90, np.uint8)

    def close(self) -> None:
        """There is nothing to close."""


HTTP = (
    b"GET", b"POST", b"/login", b"/enrol", b"/pin", b"/remove", b"/wrong", b"/audit", b"/metrics", b"/static/",
    b"/events", b"../", b"%2e%2e", b"%00", b"?", b"&", b"=", b"\r\n", b"\n", b"HTTP/9.9",
    b"Content-Length: 99999999\r\n", b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Cookie: ", b"Host: \r\n", b"\x00", b"\xff\xfe",
    b"Authorization: Basic ####\r\n", b"A: " + b"b" * 3000 + b"\r\n", b"Origin: http://evil.example\r\n",
)  # fmt: skip


def http(number: int, work: Path) -> Outcome:
    """Requests to the page; nothing on it opens the door, so anything that does is wrong."""
    outcome, rng, clock = Outcome(), random.Random(4), SystemClock()
    state = open_state(locked(work / "http"))
    page_password(state).set(PASSWORD)
    policy = dataclasses.replace(read_policy(state.policy), page=PageRules(port=0))
    said: list[str] = []
    network = Network(state, policy, clock, lambda _, why: said.append(why))
    lock = door_lock(state, policy, clock, [outcome.hear, *network.listeners], {})
    camera = Camera(Grey, clock)
    camera.start()
    network.start(lock, camera)
    port = int(said[0].rstrip("/").rpartition(":")[2])
    signed_in = b"password=" + PASSWORD.replace(" ", "+").encode()
    answer = asked(port, request(b"POST /login", b"", signed_in), 60.0)
    cookie = answer.partition(b"set-cookie: ")[2].partition(b";")[0]
    if not cookie:
        raise RuntimeError(f"cannot sign in: {answer[:200]!r}")
    gets = [b"GET /", b"GET /audit", b"GET /metrics", b"GET /static/style.css", b"GET /?said=x"]
    posts = [
        (b"POST /enrol", b"name=Zoe"),
        (b"POST /pin", b"id=a&pin=1234"),
        (b"POST /remove", b"id=a"),
        (b"POST /wrong", b""),
    ]
    whole = [request(one, session) for one in gets for session in (b"", cookie)]
    whole += [request(one, session, body) for one, body in posts for session in (b"", cookie)]
    try:
        with ThreadPoolExecutor(CLIENTS) as clients:
            contents = (mutated(rng, rng.choice(whole), HTTP) for _ in range(number))
            for answer in clients.map(lambda content: asked(port, content), contents):
                outcome.tried += 1
                outcome.taken += answer.startswith(b"HTTP/1.1 ")
                if answer.startswith(b"HTTP/1.1 5"):
                    outcome.wrong.append(f"the answer {answer[:60]!r}")
                lock.tick()
        if not asked(port, request(b"GET /login", b""), 60.0).startswith(b"HTTP/1.1 200"):
            outcome.wrong.append("the page does not answer any more")
        lock.tick()
    finally:
        camera.stop()
        network.stop()
    return outcome


def request(line: bytes, cookie: bytes, body: bytes = b"") -> bytes:
    """One request as it goes over the wire."""
    head = line + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
    head += b"Cookie: " + cookie + b"\r\n" if cookie else b""
    return head + b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body


def asked(port: int, content: bytes, timeout_s: float = ANSWER_S) -> bytes:
    """The begin of the answer; none comes where what was sent is half a request."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as wire:
        try:
            wire.sendall(content)
            return wire.recv(4096)
        except (ConnectionError, TimeoutError):
            return b""


KINDS: dict[str, Callable[[int, Path], Outcome]] = {"settings": settings, "mqtt": mqtt, "http": http, "frames": frames}
SLICE = {"frames": 40, "settings": 400, "mqtt": 150, "http": 150}


def main() -> int:
    """Fuzz, write the figures; 1 where anything crashed or opened."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slice", action="store_true")
    parser.add_argument("--only", choices=list(KINDS))
    parser.add_argument("--resume", type=Path, metavar="FILE")
    options = parser.parse_args()
    if not SHARED.is_dir():
        print(f"SKIPPED: no shared data in {SHARED} (EDGETOOL_DATA may say where it is)")
        return 0
    cv2.setNumThreads(1)
    died: list[str] = []
    threading.excepthook = lambda found: died.append(f"{found.thread and found.thread.name}: {found.exc_value!r}")
    kept = options.resume
    done = json.loads(kept.read_text()) if kept is not None and kept.exists() else {}
    outcomes = {name: Outcome(**one) for name, one in done.items()}
    with tempfile.TemporaryDirectory(prefix="door-lock-fuzz-") as work:
        for name, run in KINDS.items():
            if options.only in {None, name} and name not in outcomes:
                began = time.monotonic()
                outcomes[name] = run(SLICE[name] if options.slice else EACH, Path(work))
                one = outcomes[name]
                one.wrong += died
                died.clear()
                if kept is not None:
                    kept.write_text(json.dumps({each: dataclasses.asdict(one) for each, one in outcomes.items()}))
                print(
                    f"{name:<9} {one.tried} tried, {one.taken} taken, {one.unlocked} unlocked, {len(one.wrong)} wrong, "
                    f"{time.monotonic() - began:.0f} s",
                    flush=True,
                )
                for wrong in one.wrong[:10]:
                    print(f"  WRONG {wrong}", flush=True)
    bad = sum(one.unlocked + len(one.wrong) for one in outcomes.values())
    if not options.slice and options.only is None:
        figures = []
        for name, one in outcomes.items():
            figures += [
                Figure(f"fuzz.{name}", f">= {EACH}", one.tried, "inputs", None, one.tried >= EACH),
                Figure(f"fuzz.{name}_crashes", "== 0", len(one.wrong), "", None, not one.wrong),
                Figure(f"fuzz.{name}_unlocks", "== 0", one.unlocked, "", None, not one.unlocked),
            ]
        write("door_lock_fuzz", "python -m benchmarks.door_lock_fuzz", figures)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
