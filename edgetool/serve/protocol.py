"""uvicorn's HTTP protocol, with what it lacks: a time and a size for the head of a request, a number of connections."""

import asyncio
import json
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from edgetool.serve.refusal import Refusal
from edgetool.serve.settings import Settings

MAX_HEAD_BYTES = 65_536


class BoundedProtocol(HttpToolsProtocol):
    """A connection whose head is cut off where it is too slow or too long."""

    def __init__(self, *, settings: Settings, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._settings = settings
        self._timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        if len(self.connections) > self._settings.max_connections:
            refusal = Refusal("unavailable", f"{self._settings.max_connections} connections are open", None, 1)
            self._end(b"503 Service Unavailable", refusal)
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_there()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._expect_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_is_there()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        self._head_bytes += len(data)
        super().data_received(data)
        if self._timer is not None and self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            refusal = Refusal("too_large", f"the head of the request has more than {MAX_HEAD_BYTES} bytes")
            self._end(b"431 Request Header Fields Too Large", refusal)

    def _expect_head(self) -> None:
        if self._timer is None:
            self._head_bytes = 0
            self._timer = self.loop.call_later(self._settings.timeout_s, self._late)

    def _head_is_there(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self._expect_head()  # it waits for the answer to the request before
            return
        refusal = Refusal("slow_body", f"the head of the request did not come within {self._settings.timeout_s:g} s")
        self._end(b"408 Request Timeout", refusal)

    def _end(self, status: bytes, refusal: Refusal) -> None:
        self._head_is_there()
        body = json.dumps(refusal.plain()).encode()
        headers: dict[str, Any] = {
            **refusal.headers,
            "content-type": "application/json",
            "content-length": len(body),
            "connection": "close",
        }
        head = "".join(f"{key}: {value}\r\n" for key, value in headers.items()).encode()
        self.transport.write(b"HTTP/1.1 " + status + b"\r\n" + head + b"\r\n" + body)
        self.transport.close()
