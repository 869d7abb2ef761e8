"""The assistant's page: waveform, wake score, transcript, intent, milliseconds; mute; the last triggers, to hear again.

Everything is behind a password (a session's cookie; /metrics takes it by HTTP Basic, as Prometheus sends it).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlsplit

from device_apps.clock import Clock
from device_apps.metrics import CONTENT_TYPE
from device_apps.voice_assistant.cases import Cases, wav
from device_apps.voice_assistant.live import Live
from device_apps.voice_assistant.meter import Meter
from device_apps.voice_assistant.metrics import Metrics
from device_apps.voice_assistant.state import State
from device_apps.web.login import Attempts, Password, Sessions, basic_password
from edge.errors import BadInput, EdgetoolError

if TYPE_CHECKING:
    from fastapi import FastAPI

FILES = Path(__file__).parent.parent / "web"
MAX_BODY = 4096
COOKIE = "voice_assistant_session"
SAFE = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'self'; "
    "script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass
class Room:
    """What the pages act on. `cases` is None where the settings keep nothing; `refresh` tells the app of a change."""

    state: State
    clock: Clock
    live: Live
    metrics: Metrics
    meter: Meter
    cases: Cases | None
    refresh: Callable[[], None]

    def __post_init__(self) -> None:
        self.password: Password = self.state.password()
        self.sessions, self.attempts = Sessions(self.clock), Attempts(self.clock)

    def admits(self, password: str | None) -> str | None:
        """Why a password is not accepted; None where it is."""
        remaining = self.attempts.remaining_s()
        if remaining:
            return f"locked out after too many failures, {remaining:.0f} s left"
        try:
            right = password is not None and self.password.is_right(password)
        except EdgetoolError as error:
            return error.message
        self.attempts.ended(right)
        return None if right else "wrong password"

    def act(self, path: str, form: dict[str, str]) -> str:
        """Do what a form asks for, and say what was done. Raises an EdgetoolError: it could not be."""
        if path == "/mute":
            self.state.mute()
            self.refresh()
            return "the microphone is closed"
        if path == "/unmute":
            self.state.unmute()
            self.refresh()
            return "the microphone is open"
        number = form.get("number", "")
        replay = self.meter.replay(int(number)) if number.isdigit() and len(number) < 10 else None
        if replay is None:
            raise BadInput("that trigger is not in memory any more")
        self.meter.was_false(replay.number)
        if self.cases is None:
            return "counted as false; the settings keep no sound"
        event = {"word": replay.wake.word, "score": round(replay.wake.score, 4), "at": replay.at}
        self.cases.add(event, replay.samples, replay.at)
        return "counted as false, and kept for a person to label"

    def shown(self) -> dict[str, Any]:
        """What the page shows beside the events."""
        rows = [{"number": one.number, "word": one.wake.word, "score": f"{one.wake.score:.2f}", "at": one.at}
                for one in reversed(self.meter.replays())]  # fmt: skip
        cases = None if self.cases is None else len(self.cases.names())
        return {"triggers": rows, "meter": self.meter.reading.as_plain(), "muted": self.state.muted, "cases": cases}


def page_app(room: Room) -> "FastAPI":  # noqa: C901  # a list of routes, each a few lines
    """The page of an assistant."""
    from fastapi import Depends, FastAPI, HTTPException, Request
    from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response, StreamingResponse
    from jinja2 import Environment, FileSystemLoader

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    pages = Environment(loader=FileSystemLoader(FILES), autoescape=True)

    def rendered(name: str, status: int = 200, **values: Any) -> Response:
        return HTMLResponse(pages.get_template(name).render(**values), status, SAFE)

    def signed_in(request: Request) -> None:
        if not room.sessions.holds(request.cookies.get(COOKIE)):
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
        if name not in {"style.css", "voice_assistant.js"}:
            raise HTTPException(404)
        return FileResponse(FILES / name, headers=SAFE)

    @app.get("/login")
    def login_page() -> Response:
        return rendered("login.html")

    @app.post("/login")
    def login(given: dict[str, str] = Depends(form)) -> Response:  # noqa: B008  # FastAPI's way
        wrong = room.admits(given.get("password"))
        if wrong is not None:
            return rendered("login.html", 403, wrong=wrong)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(COOKIE, room.sessions.begin(), httponly=True, samesite="strict")
        return answer

    @app.post("/logout")
    def logout(request: Request) -> Response:
        room.sessions.end(request.cookies.get(COOKIE))
        return RedirectResponse("/login", 303)

    @app.get("/", dependencies=inside)
    def index(said: str = "") -> Response:
        return rendered("voice_assistant.html", said=said[:300], **room.shown())

    @app.get("/events", dependencies=inside)
    def events() -> Response:
        return StreamingResponse(room.live.lines(), media_type="text/event-stream", headers=SAFE)

    @app.get("/trigger/{number}.wav", dependencies=inside)
    def trigger(number: int) -> Response:
        replay = room.meter.replay(number)
        if replay is None:
            raise HTTPException(404)
        return Response(wav(replay.samples), media_type="audio/wav", headers=SAFE)

    @app.get("/metrics")
    def metrics(request: Request) -> Response:
        given = basic_password(request.headers.get("authorization"))
        if given is None or room.admits(given) is not None:
            return Response("the password, by HTTP Basic", 401, {"WWW-Authenticate": "Basic"})
        return Response(room.metrics.text(), media_type=CONTENT_TYPE, headers=SAFE)

    def act(request: Request, given: dict[str, str] = Depends(form)) -> Response:  # noqa: B008  # FastAPI's way
        try:
            said = room.act(request.url.path, given)
        except EdgetoolError as error:
            said = error.message
        return RedirectResponse(f"/?said={quote(said)}", 303)

    for path in ("/mute", "/unmute", "/false"):
        app.post(path, dependencies=inside)(act)
    return app
