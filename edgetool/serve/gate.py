"""What every request passes before a route sees it: the token, and the name under which the server was called."""

import json
from collections.abc import Callable
from typing import Any

from edgetool.serve.metrics import NO_MODEL, Metrics
from edgetool.serve.refusal import Refusal
from edgetool.serve.settings import is_loopback
from edgetool.serve.token import is_right

# What asks for these has no secrets, and they tell none
OPEN = frozenset({"/health", "/ready"})


class Gate:
    """ASGI middleware. Without a token only loopback names are answered: a page of the web that rebinds its name to
    this machine would else read what it likes.
    """

    def __init__(self, app: Callable[..., Any], token: str | None, metrics: Metrics) -> None:
        self._app, self._token, self._metrics = app, token, metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN:
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if self._token is None:
            host = headers.get(b"host", b"").decode("latin-1")
            if is_loopback(host.rpartition(":")[0] if _has_port(host) else host):
                await self._app(scope, receive, send)
                return
            refusal = Refusal("foreign_host", f"without a token {host[:80]!r} is not answered", "use 127.0.0.1")
        elif is_right(headers.get(b"authorization"), self._token):
            await self._app(scope, receive, send)
            return
        else:
            said = "a wrong token" if b"authorization" in headers else "no token"
            refusal = Refusal("no_token", f"the request carries {said}", "send Authorization: Bearer TOKEN")
        self._metrics.refused(NO_MODEL, refusal.kind)
        await refuse(refusal, send)


async def refuse(refusal: Refusal, send: Any) -> None:
    """Send a refusal outside of any route. The body is not read, so the connection ends."""
    body = json.dumps(refusal.plain()).encode()
    headers = {
        **refusal.headers,
        "connection": "close",
        "content-type": "application/json",
        "content-length": str(len(body)),
    }
    pairs = [(key.encode(), value.encode()) for key, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


def _has_port(host: str) -> bool:
    return host.rpartition(":")[2].isdigit() and (host.count(":") == 1 or "]:" in host)
