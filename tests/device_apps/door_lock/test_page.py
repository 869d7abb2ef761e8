"""The page on a real server: nobody without the password, nothing that unlocks, and what a real browser shows."""

import base64
import dataclasses
import http.client
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import cv2
import numpy as np
import pytest

from device_apps.clock import SystemClock
from device_apps.door_lock.app import EgressPressed, Reported
from device_apps.door_lock.camera import Camera
from device_apps.door_lock.feedback import quarantine
from device_apps.door_lock.network import Network
from device_apps.door_lock.page import page_password
from device_apps.door_lock.people import Person
from device_apps.door_lock.policy import PageRules
from device_apps.door_lock.state import open_state
from device_apps.events import Event
from tests.device_apps.door_lock.scenes import POLICY
from tests.device_apps.door_lock.signed_in_browser import Browser
from tests.device_apps.door_lock.test_app import Door
from tests.device_apps.door_lock.test_home_assistant import OnePicture
from tests.device_apps.mosquitto import soon

PASSWORD = "correct horse"
CHROMIUM = shutil.which("chromium")


class Paged:
    """A lock with its page on a free port."""

    def __init__(self, folder: Path) -> None:
        page_password(open_state(folder)).set(PASSWORD)
        self.door = Door(folder)
        self.said: list[tuple[str, str]] = []
        policy = dataclasses.replace(POLICY, page=PageRules(port=0))
        self.network = Network(self.door.state, policy, SystemClock(), lambda kind, why: self.said.append((kind, why)))
        for listener in self.network.listeners:
            self.door.lock._events.add(listener)
        self.camera = Camera(OnePicture, SystemClock())  # type: ignore[arg-type]
        self.camera.start()
        self.network.start(self.door.lock, self.camera)
        assert self.network._server is not None
        self.port = self.network._server.port
        self.cookie = ""

    def ask(
        self, method: str, path: str, form: dict[str, str] | bytes | None = None, **headers: str
    ) -> tuple[int, http.client.HTTPMessage, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        body = urlencode(form) if isinstance(form, dict) else form
        connection.request(method, path, body, {"Cookie": self.cookie, **headers})
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
        connection.close()
        return answer.status, answer.headers, text

    def sign_in(self) -> None:
        status, headers, _ = self.ask("POST", "/login", {"password": PASSWORD})
        assert status == 303
        assert "HttpOnly" in headers["set-cookie"]
        assert "SameSite=strict" in headers["set-cookie"]
        self.cookie = headers["set-cookie"].partition(";")[0]

    def said_by(self, path: str, **form: str) -> str:
        status, headers, _ = self.ask("POST", path, form)
        assert status == 303
        return self.ask("GET", headers["location"])[2]

    def begin_of(self, path: str, size: int) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request("GET", path, headers={"Cookie": self.cookie})
        begin = connection.getresponse().read(size)
        connection.close()
        return begin

    def close(self) -> None:
        self.camera.stop()
        self.network.stop()


@pytest.fixture
def paged(tmp_path: Path) -> Iterator[Paged]:
    made = Paged(tmp_path / "state")
    yield made
    made.close()


PATHS = [
    ("GET", "/"),
    ("GET", "/live.mjpg"),
    ("GET", "/counted.jpg"),
    ("GET", "/events"),
    ("GET", "/audit"),
    ("POST", "/enrol"),
]
PATHS += [("POST", "/pin"), ("POST", "/remove"), ("POST", "/wrong")]


@pytest.mark.parametrize("cookie", ["", "door_lock_session=", "door_lock_session=guess"])
def test_nobody_sees_or_does_anything_without_the_password(paged: Paged, cookie: str) -> None:
    paged.cookie = cookie
    for method, path in PATHS:
        status, headers, _ = paged.ask(method, path, {} if method == "POST" else None)
        assert (status, headers["location"]) == (303, "/login"), path
    assert paged.ask("GET", "/metrics")[0] == 401
    assert paged.ask("GET", "/openapi.json")[0] == 404
    assert paged.ask("GET", "/static/..%2f__init__.py")[0] == 404


def test_wrong_passwords_lock_the_page_out(paged: Paged) -> None:
    for _ in range(POLICY.lockout.max_failures):
        status, _, text = paged.ask("POST", "/login", {"password": "wrong"})
        assert status == 403
        assert "wrong password" in text
    assert "locked out" in paged.ask("POST", "/login", {"password": PASSWORD})[2]
    assert paged.door.said == []


def test_who_signs_out_is_out(paged: Paged) -> None:
    paged.sign_in()
    assert paged.ask("GET", "/")[0] == 200
    paged.ask("POST", "/logout", {})
    assert paged.ask("GET", "/")[0] == 303


def test_forms_of_other_pages_and_bodies_without_end_are_refused(paged: Paged) -> None:
    paged.sign_in()
    assert paged.ask("POST", "/wrong", {}, Origin="http://evil.example")[0] == 403
    assert paged.ask("POST", "/wrong", b"x" * 5000)[0] == 413
    assert paged.ask("POST", "/wrong", b"\xff=\xff")[0] == 400


def test_the_stream_of_pictures_and_of_events(paged: Paged) -> None:
    paged.sign_in()
    paged.door.see()
    head, _, rest = paged.begin_of("/live.mjpg", 1200).partition(b"\r\n\r\n")
    assert b"image/jpeg" in head
    assert rest[:2] == b"\xff\xd8"
    line = paged.begin_of("/events", 200).decode()
    assert json.loads(line.partition("data: ")[2].partition(', "person"')[0] + "}")["event"] == "frame"


def test_what_counted_is_shown_once_there_is_a_decision(paged: Paged) -> None:
    paged.sign_in()
    assert paged.ask("GET", "/counted.jpg")[0] == 404
    paged.network.show_counted(b"picture")
    status, headers, body = paged.ask("GET", "/counted.jpg")
    assert (status, headers["content-type"], body) == (200, "image/jpeg", "picture")
    assert headers["cache-control"] == "no-store"


def test_that_was_wrong_keeps_the_last_decision_sealed_and_changes_nothing_else(paged: Paged) -> None:
    paged.sign_in()
    assert "there was no decision yet" in paged.said_by("/wrong")
    assert soon(lambda: paged.camera.newer_than(0, 0) is not None)
    paged.door.see()
    assert "kept for a person to label" in paged.said_by("/wrong")
    kept = quarantine(paged.door.state)
    (case,) = kept._store.names()
    event, jpeg = kept.case(case)
    assert event["outcome"] == "accept"
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (48, 64, 3)
    sealed = (paged.door.state.folder / "quarantine" / f"{case}.sealed").read_bytes()
    assert b"accept" not in sealed
    assert not paged.door.is_open


def test_people_get_pins_and_are_revoked_on_the_page(paged: Paged) -> None:
    paged.sign_in()
    templates = np.ones((5, 8), np.float32)
    person = Person("ab" * 8, "<b>Ann</b>", templates, POLICY.models.embedder.sha256, 0.0)
    paged.door.state.people().add(person)
    assert "&lt;b&gt;Ann" in paged.ask("GET", "/")[2]
    assert "not a number" in paged.said_by("/pin", id=person.id, pin="x")
    assert "has a PIN" in paged.said_by("/pin", id=person.id, pin="4711")
    assert paged.door.pins.check("4711") == (person.id,)
    assert "is revoked" in paged.said_by("/remove", id=person.id)
    assert "nobody is enrolled as" in paged.said_by("/remove", id=person.id)


def test_enrolling_without_a_calibration_says_so_and_faces_count_again_after_it(paged: Paged) -> None:
    paged.sign_in()
    assert "look at the camera" in paged.said_by("/enrol", name="Ann")

    def ended() -> bool:
        paged.door.lock.tick()
        return any(event.kind == "fault ended" for event in paged.door.events)

    assert soon(ended)
    faults = [event.fields["reason"] for event in paged.door.events if event.kind == "fault"]
    assert faults == ["somebody is being enrolled"]
    live = paged.network._live
    assert live is not None
    (told,) = [event for _, event in live.newer_than(0, 0.0) if event.kind == "enrolment"]
    assert told.fields["outcome"] == "failed"


def test_the_record_is_shown_and_checked(paged: Paged) -> None:
    paged.sign_in()
    paged.door.lock.submit(Reported("mqtt", "broker gone"))
    paged.door.lock.tick()
    text = paged.ask("GET", "/audit")[2]
    assert "broker gone" in text
    assert "none cut off" in text
    path = paged.door.state.audit
    path.write_bytes(path.read_bytes().replace(b"broker gone", b"broker here"))
    assert "line 1 was changed" in paged.ask("GET", "/audit")[2]


def test_prometheus_gets_the_figures_with_the_password(paged: Paged) -> None:
    paged.door.see()
    paged.door.lock.submit(Reported("mqtt", "gone"))
    paged.door.lock.tick()
    basic = "Basic " + base64.b64encode(f"any:{PASSWORD}".encode()).decode()
    status, _, text = paged.ask("GET", "/metrics", Authorization=basic)
    assert status == 200
    assert 'door_lock_frames_total{outcome="accept"} 1.0' in text
    assert 'door_lock_fault{source="mqtt"} 1.0' in text
    assert "door_lock_faults 1.0" in text
    assert paged.ask("GET", "/metrics", Authorization="Basic ####")[0] == 401


def test_a_page_without_a_password_or_a_port_is_not_shown_and_the_lock_runs(paged: Paged, tmp_path: Path) -> None:
    said: list[str] = []
    for folder in (tmp_path / "other", paged.door.state.folder):
        policy = dataclasses.replace(POLICY, page=PageRules(port=paged.port))
        network = Network(open_state(folder), policy, SystemClock(), lambda _, why: said.append(why))
        network.start(paged.door.lock, paged.camera)
        network.stop()
    assert "without a password" in said[0]
    assert "no page at 127.0.0.1" in said[1]


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_signs_in_and_shows_the_door_and_what_happens(paged: Paged, tmp_path: Path) -> None:
    browser = Browser(str(CHROMIUM), tmp_path / "profile")
    try:
        browser.ask("Page.navigate", url=f"http://127.0.0.1:{paged.port}/")
        assert browser.until("document.title == 'Sign in'")
        browser.evaluate(f"document.querySelector('input').value = {json.dumps(PASSWORD)}")
        browser.evaluate("document.querySelector('form').requestSubmit()")
        assert browser.until("document.title == 'Door lock' && document.images[0]?.naturalWidth == 64")
        paged.door.see()
        assert browser.until("document.getElementById('decision').textContent.includes('3 frames agree')")
        paged.door.enter("0000")
        assert browser.until("document.getElementById('events').textContent.includes('wrong PIN')")
        assert browser.evaluate("document.getElementById('bolt').textContent") == "LOCKED"
        paged.door.lock.submit(EgressPressed())
        paged.door.lock.tick()
        assert browser.until("document.getElementById('bolt').textContent == 'UNLOCKED'")
        assert browser.evaluate("document.getElementById('counted').hidden")
        small = cv2.imencode(".jpg", np.full((20, 20, 3), 90, np.uint8))[1].tobytes()
        paged.network.show_counted(small)
        fields = {"outcome": "accept", "person": "ann", "reasons": ["the match rests most on: nose"], "regions": []}
        paged.door.lock._events.tell(Event("counted", 1.0, fields))
        assert browser.until("document.querySelector('#counted img').naturalWidth == 20")
        assert "rests most on: nose" in browser.evaluate("document.getElementById('counted').textContent")
        picture = browser.screenshot()
    finally:
        browser.close()
    assert picture[:4] == b"\x89PNG"
    shown = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    assert (np.abs(shown.astype(int) - (59, 127, 27)).max(axis=2) < 4).sum() > 1000  # the green of an open bolt
    if "EDGETOOL_SCREENSHOT" in os.environ:
        Path(os.environ["EDGETOOL_SCREENSHOT"]).write_bytes(picture)
