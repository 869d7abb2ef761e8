"""Somebody is enrolled on the page of a running lock, on real models and faces, and is known from then on."""

import dataclasses
import http.client
import itertools
import shutil
from pathlib import Path
from urllib.parse import urlencode

import pytest

from device_apps.clock import SystemClock
from device_apps.door_lock.camera import Camera
from device_apps.door_lock.commands import verify_audit
from device_apps.door_lock.detect import Picture
from device_apps.door_lock.network import Network
from device_apps.door_lock.page import page_password
from device_apps.door_lock.policy import PageRules, read_policy
from device_apps.door_lock.recogniser import Recogniser
from device_apps.door_lock.state import open_state
from tests.device_apps.door_lock.scenes import scene
from tests.device_apps.door_lock.test_app import Door
from tests.device_apps.door_lock.test_cli import lock as made_lock
from tests.device_apps.mosquitto import soon

pytestmark = pytest.mark.shared_data
lock = made_lock
CLOCK = SystemClock()


class Again:
    """A source that shows a person's pictures for a second each, for ever."""

    interval_s = 1 / 15

    def __init__(self, shared_data: Path, person: int) -> None:
        self._shown = itertools.cycle(scene(shared_data, person, number) for number in range(1, 9) for _ in range(15))

    def read(self) -> Picture:
        return next(self._shown)

    def close(self) -> None: ...


def test_who_is_enrolled_on_the_page_is_recognised_at_the_next_frame(
    lock: Path, shared_data: Path, tmp_path: Path
) -> None:
    shutil.copytree(lock / "state", tmp_path / "state")
    state = open_state(tmp_path / "state")
    page_password(state).set("correct horse")
    policy = dataclasses.replace(read_policy(state.policy), page=PageRules(port=0))
    door, said = Door(state.folder), list[str]()
    network = Network(state, policy, CLOCK, lambda _, why: said.append(why))
    camera = Camera(lambda: Again(shared_data, 4), CLOCK)
    network.start(door.lock, camera)
    host = said[0].split("/")[2]

    def post(path: str, cookie: str = "", **form: str) -> str:
        connection = http.client.HTTPConnection(host, timeout=60)
        connection.request("POST", path, urlencode(form), {"Cookie": cookie})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        assert answer.status == 303
        return str(answer.headers.get("set-cookie", "")).partition(";")[0]

    try:
        cookie = post("/login", password="correct horse")
        camera.start()
        post("/enrol", cookie, name="Dora")
        live = network._live
        assert live is not None

        def outcomes() -> list[str]:
            return [event.fields["outcome"] for _, event in live.newer_than(0, 0.0) if event.kind == "enrolment"]

        assert soon(lambda: {"complete", "failed"} & set(outcomes()), 60)
        assert outcomes()[-1] == "complete"
        assert outcomes().count("taken") == 4
    finally:
        camera.stop()
        network.stop()
    door.lock.tick()
    assert not door.is_open
    dora = state.people().find("Dora")
    assert len(dora.templates) == 5
    found = Recogniser(state, policy, state.folder / "models", lambda _: None)(scene(shared_data, 4, 2), 1.0)
    assert found.match is not None
    assert found.match.person == dora.id
    assert verify_audit(state, None).seq > 0
