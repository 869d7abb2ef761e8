"""The lock's page: live picture, events, enrolment, people, record, and a button for "that was wrong".

Everything is behind a password (a session's cookie; /metrics takes it by HTTP Basic, as Prometheus sends it). No
request unlocks the door.
"""

import datetime as dt
import json
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlsplit

from device_apps.audit import read
from device_apps.clock import Clock
from device_apps.door_lock.commands import people_table, remove, set_pin, verify_audit
from device_apps.door_lock.feedback import quarantine
from device_apps.door_lock.live import BOUNDARY, Live
from device_apps.door_lock.lockout import Lockout
from device_apps.door_lock.policy import Policy
from device_apps.door_lock.state import State
from device_apps.door_lock.wizard import Wizard
from device_apps.metrics import CONTENT_TYPE, Metrics
from device_apps.sealed_store import SealedStore
from device_apps.web.login import Password, Sessions, basic_password
from edge.errors import BadInput, EdgetoolError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from device_apps.door_lock.app import DoorLock

FILES = Path(__file__).parent.parent / "web"
MAX_BODY = 4096
ROWS = 200
COOKIE = "door_lock_session"
SAFE = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


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


def page_app(door: Door) -> "FastAPI":  # noqa: C901, PLR0915  # a list of routes, each a few lines
    """The page of a lock."""
    from fastapi import Depends, FastAPI, HTTPException, Request
    from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response, StreamingResponse
    from jinja2 import Environment, FileSystemLoader

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    pages = Environment(loader=FileSystemLoader(FILES), autoescape=True)

    def rendered(name: str, status: int = 200, **values: Any) -> Response:
        return HTMLResponse(pages.get_template(name).render(**values), status, SAFE)

    def signed_in(request: Request) -> None:
        if not door.sessions.holds(request.cookies.get(COOKIE)):
            raise HTTPException(303, headers={"Location": "/login"})

    async def form(request: Request) -> dict[str, str]:
        origin = request.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
            raise HTTPException(403, "a form of another page")
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MAX_BODY:
                raise HTTPException(413, f"at most {MAX_BODY} bytes")
        try:
            return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=10))
        except ValueError:
            raise HTTPException(400, "no form") from None

    inside = [Depends(signed_in)]

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in {"style.css", "door_lock.js"}:
            raise HTTPException(404)
        return FileResponse(FILES / name, headers=SAFE)

    @app.get("/login")
    def login_page() -> Response:
        return rendered("login.html")

    @app.post("/login")
    def login(given: dict[str, str] = Depends(form)) -> Response:  # noqa: B008  # FastAPI's way
        wrong = door.admits(given.get("password"))
        if wrong is not None:
            return rendered("login.html", 403, wrong=wrong)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(COOKIE, door.sessions.begin(), httponly=True, samesite="strict")
        return answer

    @app.post("/logout")
    def logout(request: Request) -> Response:
        door.sessions.end(request.cookies.get(COOKIE))
        return RedirectResponse("/login", 303)

    @app.get("/", dependencies=inside)
    def index(said: str = "") -> Response:
        people = people_table(door.state, door.policy)
        names = json.dumps({row["id"]: row["name"] for row in people if row["name"]})
        return rendered("door_lock.html", people=people, names=names, said=said[:300], cases=len(door.quarantine))

    @app.get("/live.mjpg", dependencies=inside)
    def live() -> Response:
        kind = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
        return StreamingResponse(door.live.pictures(), media_type=kind, headers=SAFE)

    @app.get("/counted.jpg", dependencies=inside)
    def counted() -> Response:
        if door.live.counted is None:
            raise HTTPException(404, "there was no decision yet")
        return Response(door.live.counted, media_type="image/jpeg", headers=SAFE)

    @app.get("/events", dependencies=inside)
    def events() -> Response:
        return StreamingResponse(door.live.lines(), media_type="text/event-stream", headers=SAFE)

    @app.get("/audit", dependencies=inside)
    def audit() -> Response:
        return rendered("audit.html", **door.record())

    @app.get("/metrics")
    def metrics(request: Request) -> Response:
        given = basic_password(request.headers.get("authorization"))
        if given is None or door.admits(given) is not None:
            return Response("the password, by HTTP Basic", 401, {"WWW-Authenticate": "Basic"})
        return Response(door.metrics.text(), media_type=CONTENT_TYPE, headers=SAFE)

    def act(request: Request, given: dict[str, str] = Depends(form)) -> Response:  # noqa: B008  # FastAPI's way
        try:
            said = door.act(request.url.path, given)
        except EdgetoolError as error:
            said = error.message
        return RedirectResponse(f"/?said={quote(said)}", 303)

    for path in ("/enrol", "/pin", "/remove", "/wrong"):
        app.post(path, dependencies=inside)(act)
    return app


def _when(at: Any) -> str:
    try:
        return dt.datetime.fromtimestamp(at, dt.timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (TypeError, ValueError, OverflowError, OSError):
        return str(at)
