"""The page on a real server: nobody without the password; what a real browser shows; replay, mute, feedback."""

import base64
import http.client
import io
import json
import shutil
import wave
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("cryptography")

from device_apps.clock import FakeClock, SystemClock
from device_apps.events import Event
from device_apps.voice_assistant.live import Live
from device_apps.voice_assistant.metrics import Metrics
from device_apps.voice_assistant.page import Room, page_app
from device_apps.voice_assistant.state import open_state
from device_apps.voice_assistant.wake import Wake
from device_apps.web.login import Attempts
from device_apps.web.server import Server
from tests.device_apps.door_lock.signed_in_browser import Browser
from tests.device_apps.voice_assistant.assistants import Whole, bell
from tests.device_apps.voice_assistant.speech import silence, spoken

PASSWORD = "correct horse"
CHROMIUM = shutil.which("chromium")


class Paged:
    """A page on a free port, over an assistant that heard one command."""

    def __init__(self, folder: Path) -> None:
        self.state = open_state(folder / "state")
        self.state.password().set(PASSWORD)
        self.whole = Whole(folder)
        self.live, self.metrics = Live(), Metrics()
        self.cases = self.state.cases(14)
        self.refreshed: list[bool] = []
        refresh = lambda: self.refreshed.append(self.state.muted)  # noqa: E731  # too small for a name of its own
        room = Room(self.state, SystemClock(), self.live, self.metrics, self.whole.meter, self.cases, refresh)
        self.server = Server(page_app(room), "127.0.0.1", 0)
        self.server.start()
        self.cookie = ""

    def play(self) -> None:
        """A command, from its sound."""
        self.whole.hear(silence(1), bell(), silence(0.4), spoken("turn on the light"), silence(1))
        for event in self.whole.events:
            self.live(event)
            self.metrics(event)

    def ask(
        self, method: str, path: str, form: dict[str, str] | None = None, **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        body = urlencode(form) if form is not None else None
        connection.request(method, path, body, {"Cookie": self.cookie, **headers})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()

    def sign_in(self) -> None:
        status, headers, _ = self.ask("POST", "/login", {"password": PASSWORD})
        assert status == 303
        self.cookie = headers["Set-Cookie"].split(";")[0]

    def stop(self) -> None:
        self.live.stopping.set()
        self.server.stop()


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Paged]:
    running = Paged(tmp_path)
    yield running
    running.stop()


@pytest.mark.parametrize("path", ["/", "/events", "/trigger/1.wav", "/mute", "/unmute", "/false"])
def test_nobody_without_the_password(page: Paged, path: str) -> None:
    method = "POST" if path in {"/mute", "/unmute", "/false"} else "GET"
    status, headers, _ = page.ask(method, path, {} if method == "POST" else None)
    assert (status, headers["Location"]) == (303, "/login")
    assert page.refreshed == []
    assert page.ask("POST", "/login", {"password": "wrong"})[0] == 403
    assert page.ask("GET", "/metrics")[0] == 401


def test_mute_replay_and_feedback(page: Paged) -> None:
    page.play()
    page.sign_in()
    status, headers, content = page.ask("GET", "/trigger/1.wav")
    assert (status, headers["Content-Type"]) == (200, "audio/wav")
    with wave.open(io.BytesIO(content)) as file:
        assert (file.getframerate(), file.getnframes()) == (16000, 16320)  # all that was heard until the wake word
    assert page.ask("GET", "/trigger/9.wav")[0] == 404
    assert page.ask("POST", "/mute", {})[0] == 303
    assert page.ask("POST", "/unmute", {})[0] == 303
    assert page.refreshed == [True, False]
    assert page.ask("POST", "/false", {"number": "1"})[0] == 303
    assert page.whole.meter.reading.false_accepts == 1
    (case,) = page.cases.names()
    assert page.cases.case(case)[0]["word"] == "bell"
    assert b"not in memory" in page.ask("GET", page.ask("POST", "/false", {"number": "x"})[1]["Location"])[2]
    assert page.ask("POST", "/mute", {}, Origin="http://evil.example")[0] == 403
    assert page.ask("POST", "/mute", {"x": "y" * 5000})[0] == 413


def test_prometheus_gets_figures_and_no_words(page: Paged) -> None:
    page.play()
    page.metrics(Event("meter", 0.0, {"hours": 2.0, "false_accepts": 1}))
    page.metrics(Event("fault", 0.0, {"source": "microphone", "reason": "gone"}))
    page.metrics(Event("muted", 0.0))
    basic = base64.b64encode(f"prometheus:{PASSWORD}".encode()).decode()
    status, _, content = page.ask("GET", "/metrics", Authorization=f"Basic {basic}")
    text = content.decode()
    assert status == 200
    for line in (
        'voice_assistant_wakes_total{word="bell"} 1.0',
        'voice_assistant_intents_total{outcome="done"} 1.0',
        'voice_assistant_fault{source="microphone"} 1.0',
        "voice_assistant_muted 1.0",
        "voice_assistant_listened_hours 2.0",
        "voice_assistant_after_hangover_ms_count 1.0",
    ):
        assert line in text, text
    assert "light" not in text


def test_wrong_passwords_close_the_door_for_a_while() -> None:
    clock = FakeClock()
    attempts = Attempts(clock)
    for _ in range(4):
        attempts.ended(False)
    assert attempts.remaining_s() == 0
    attempts.ended(False)
    assert attempts.remaining_s() == 60
    clock.set_wall(0)  # setting the clock ends nothing
    assert attempts.remaining_s() == 60
    clock.advance(61)
    attempts.ended(False)
    assert attempts.remaining_s() == 120
    clock.advance(121)
    attempts.ended(True)
    assert attempts.remaining_s() == 0


def test_the_stream_forgets_levels_when_muted() -> None:
    live = Live()
    live(Event("wake", 0.0, {"word": "a"}))
    for _ in range(200):
        live(Event("level", 0.0, {"peaks": []}))
    assert [event.kind for _, event in live.newer_than(0, 0)].count("level") == 100
    live.forget()
    assert [event.kind for _, event in live.newer_than(0, 0)] == ["wake"]
    json.loads(live.newer_than(0, 0)[0][1].as_json())


def test_replays_are_the_last_ten(tmp_path: Path) -> None:
    page = Whole(tmp_path)
    for number in range(12):
        page.meter.accepted(Wake("a", 0, 0.9), np.zeros(3, np.float32), float(number))
    assert [one.number for one in page.meter.replays()] == list(range(3, 13))


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_what_a_browser_shows(page: Paged, tmp_path: Path) -> None:
    browser = Browser(str(CHROMIUM), tmp_path / "profile")
    try:
        browser.ask("Page.navigate", url=f"http://127.0.0.1:{page.server.port}/login")
        assert browser.until("document.querySelector('input[type=password]') !== null")
        browser.evaluate(f"document.querySelector('input[type=password]').value = '{PASSWORD}'")
        browser.evaluate("document.querySelector('form').submit()")
        assert browser.until("document.title === 'Voice assistant'")
        page.play()
        assert browser.until("document.getElementById('transcript').textContent === 'turn on the light'")
        assert browser.evaluate("document.getElementById('intent').textContent").startswith("Said text = turn on the")
        assert browser.evaluate("document.getElementById('reply').textContent") == "done"
        assert browser.evaluate("document.getElementById('stages').rows.length") == 6
        assert "dBFS" in browser.evaluate("document.getElementById('numbers').textContent")
        painted = (
            "[...document.getElementById('wave').getContext('2d').getImageData(0, 0, 720, 160).data].some((v) => v)"
        )
        assert browser.evaluate(painted)
        page.live(Event("muted", 0.0))
        assert browser.until("document.getElementById('mode').textContent === 'MUTED'")
        browser.ask("Page.reload")
        assert browser.until("document.querySelectorAll('audio').length === 1")
        assert browser.until("document.getElementById('reply').textContent === 'done'")
        (tmp_path / "page.png").write_bytes(browser.screenshot())
        assert (tmp_path / "page.png").stat().st_size > 10_000
    finally:
        browser.close()
