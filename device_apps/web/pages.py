"""What the pages of every app are built on: a password before everything, forms of their own only, safe headers.

A session is a cookie; /metrics takes the password by HTTP Basic, as Prometheus sends it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl, quote, urlsplit

from device_apps.metrics import CONTENT_TYPE
from device_apps.web.login import Sessions, basic_password
from edge.errors import EdgetoolError

if TYPE_CHECKING:
    from fastapi import FastAPI, Response

FILES = Path(__file__).parent
MAX_BODY = 4096


class Lines(Protocol):
    """What is streamed to who watches."""

    def lines(self) -> Iterator[str]:
        """Server-sent events."""
        ...


class Text(Protocol):
    """What /metrics gives."""

    def text(self) -> bytes:
        """Prometheus' text format."""
        ...


class Site(Protocol):
    """What the pages of an app act on."""

    @property
    def sessions(self) -> Sessions:
        """Who is signed in."""
        ...

    @property
    def live(self) -> Lines:
        """The running app's events."""
        ...

    @property
    def metrics(self) -> Text:
        """The running app's counts."""
        ...

    def admits(self, password: str | None) -> str | None:
        """Why a password is not accepted; None where it is."""
        ...

    def act(self, path: str, form: dict[str, str]) -> str:
        """Do what a form asks for, and say what was done. Raises an EdgetoolError: it could not be."""
        ...


@dataclass(frozen=True)
class Pages:
    """An app behind its password. `inside` are the dependencies of a route that needs a session."""

    app: "FastAPI"
    inside: Sequence[Any]
    headers: dict[str, str]
    rendered: Callable[..., "Response"]


def behind_password(site: Site, name: str, actions: Sequence[str], *, sound: bool = False) -> Pages:  # noqa: C901  # routes
    """The routes that every app has: its files, signing in and out, its events, its metrics, and its `actions`.

    `name` is the app's as a Python name: that of its script and of its cookie. `sound` lets the page play some.
    """
    from fastapi import Depends, FastAPI, HTTPException, Request
    from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response, StreamingResponse
    from jinja2 import Environment, FileSystemLoader

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    pages = Environment(loader=FileSystemLoader(FILES), autoescape=True)
    headers, cookie = _safe(sound=sound), f"{name}_session"

    def rendered(template: str, status: int = 200, **values: Any) -> Response:
        return HTMLResponse(pages.get_template(template).render(**values), status, headers)

    def signed_in(request: Request) -> None:
        if not site.sessions.holds(request.cookies.get(cookie)):
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

    @app.get("/static/{file}")
    def static(file: str) -> Response:
        if file not in {"style.css", f"{name}.js"}:
            raise HTTPException(404)
        return FileResponse(FILES / file, headers=headers)

    @app.get("/login")
    def login_page() -> Response:
        return rendered("login.html")

    @app.post("/login")
    def login(given: dict[str, str] = Depends(form)) -> Response:  # noqa: B008  # FastAPI's way
        wrong = site.admits(given.get("password"))
        if wrong is not None:
            return rendered("login.html", 403, wrong=wrong)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(cookie, site.sessions.begin(), httponly=True, samesite="strict")
        return answer

    @app.post("/logout")
    def logout(request: Request) -> Response:
        site.sessions.end(request.cookies.get(cookie))
        return RedirectResponse("/login", 303)

    @app.get("/events", dependencies=inside)
    def events() -> Response:
        return StreamingResponse(site.live.lines(), media_type="text/event-stream", headers=headers)

    @app.get("/metrics")
    def metrics(request: Request) -> Response:
        given = basic_password(request.headers.get("authorization"))
        if given is None or site.admits(given) is not None:
            return Response("the password, by HTTP Basic", 401, {"WWW-Authenticate": "Basic"})
        return Response(site.metrics.text(), media_type=CONTENT_TYPE, headers=headers)

    def act(request: Request, given: dict[str, str] = Depends(form)) -> Response:  # noqa: B008  # FastAPI's way
        try:
            said = site.act(request.url.path, given)
        except EdgetoolError as error:
            said = error.message
        return RedirectResponse(f"/?said={quote(said)}", 303)

    for path in actions:
        app.post(path, dependencies=inside)(act)
    return Pages(app, inside, headers, rendered)


def _safe(*, sound: bool) -> dict[str, str]:
    media = "media-src 'self'; " if sound else ""
    return {
        "Content-Security-Policy": f"default-src 'none'; img-src 'self'; {media}style-src 'self'; script-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
