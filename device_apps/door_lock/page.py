"""The lock's page: live picture, events, enrolment, people, record, and a button for "that was wrong".

No request unlocks the door.
"""

import datetime as dt
import json
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from device_apps.audit import read
from device_apps.clock import Clock
from device_apps.door_lock.commands import people_table, remove, set_pin, verify_audit
from device_apps.door_lock.feedback import quarantine
from device_apps.door_lock.live import BOUNDARY, Live
from device_apps.door_lock.lockout import Lockout
from device_apps.door_lock.policy import Policy
from device_apps.door_lock.state import State
from device_apps.door_lock.wizard import Wizard
from device_apps.metrics import Metrics
from device_apps.sealed_store import SealedStore
from device_apps.web.login import Password, Sessions
from device_apps.web.pages import behind_password
from edge.errors import BadInput, EdgetoolError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from device_apps.door_lock.app import DoorLock

ROWS = 200


def page_password(state: State) -> Password:
    """The page's password."""
    return Password(SealedStore(state.folder / "page", state.key.key, "page"))


@dataclass
class Door:
    """What the pages act on: the state and its settings, and the running lock."""

    state: State
    policy: Policy
    clock: Clock
    live: Live
    metrics: Metrics
    lock: "DoorLock"

    def __post_init__(self) -> None:
        self.password, self.sessions = page_password(self.state), Sessions(self.clock)
        self.lockout: Lockout = self.state.lockout("page", self.policy.lockout, self.clock)
        self.wizard = Wizard(self.state, self.policy, self.clock, self.live)
        self.quarantine = quarantine(self.state)

    def admits(self, password: str | None) -> str | None:
        """Why a password is not accepted; None where it is."""
        remaining = self.lockout.remaining_s()
        if remaining:
            return f"locked out after too many failures, {remaining:.0f} s left"
        try:
            if password is not None and self.password.is_right(password):
                self.lockout.succeeded()
                return None
            self.lockout.failed()
        except EdgetoolError as error:
            return error.message
        return "wrong password"

    def act(self, path: str, form: dict[str, str]) -> str:
        """Do what a form asks for, and say what was done. Raises an EdgetoolError: it could not be."""
        if path == "/enrol":
            if self.live.camera is None:
                raise BadInput("there is no camera yet")
            self.wizard.begin(form.get("name", ""), self.lock, self.live.camera)
            return "look at the camera, and do as the page says"
        if path == "/pin":
            return f"{set_pin(self.state, form.get('id', ''), form.get('pin', ''), self.clock).name} has a PIN"
        if path == "/remove":
            return f"{remove(self.state, form.get('id', ''), self.clock).name} is revoked"
        decided = self.live.last_decision()
        if decided is None:
            raise BadInput("there was no decision yet")
        event, jpeg = decided
        self.quarantine.add({"at": event.at, "event": event.kind, **event.fields}, jpeg)
        return "the last decision is kept for a person to label"

    def record(self) -> dict[str, Any]:
        """The newest lines of the audit record, and whether it is whole."""
        rows = deque(read(self.state.audit), ROWS)
        shown = [
            {
                "seq": row.get("seq"),
                "at": _when(row.get("at")),
                "event": row.get("event"),
                "fields": json.dumps(row.get("fields"), ensure_ascii=False),
            }
            for row in reversed(rows)
        ]
        try:
            head = verify_audit(self.state, None)
        except EdgetoolError as error:
            return {"rows": shown, "whole": False, "verdict": error.message}
        return {"rows": shown, "whole": True, "verdict": f"{head.seq} lines, all in the chain, none cut off"}


def page_app(door: Door) -> "FastAPI":
    """The page of a lock."""
    from fastapi import HTTPException
    from fastapi.responses import Response, StreamingResponse

    pages = behind_password(door, "door_lock", ("/enrol", "/pin", "/remove", "/wrong"))

    @pages.app.get("/", dependencies=pages.inside)
    def index(said: str = "") -> Response:
        people = people_table(door.state, door.policy)
        names = json.dumps({row["id"]: row["name"] for row in people if row["name"]})
        cases = len(door.quarantine)
        return pages.rendered("door_lock.html", people=people, names=names, said=said[:300], cases=cases)

    @pages.app.get("/live.mjpg", dependencies=pages.inside)
    def live() -> Response:
        kind = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
        return StreamingResponse(door.live.pictures(), media_type=kind, headers=pages.headers)

    @pages.app.get("/counted.jpg", dependencies=pages.inside)
    def counted() -> Response:
        if door.live.counted is None:
            raise HTTPException(404, "there was no decision yet")
        return Response(door.live.counted, media_type="image/jpeg", headers=pages.headers)

    @pages.app.get("/audit", dependencies=pages.inside)
    def audit() -> Response:
        return pages.rendered("audit.html", **door.record())

    return pages.app


def _when(at: Any) -> str:
    try:
        return dt.datetime.fromtimestamp(at, dt.timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (TypeError, ValueError, OverflowError, OSError):
        return str(at)
