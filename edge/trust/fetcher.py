"""How metadata and bundles reach the update client: https, http and file, by the standard library, within limits.

TUF takes what it gets for hostile whatever brought it, so http is no weaker than https but for who can watch. No proxy,
no redirect: an address is what was configured, or an error.
"""

import contextlib
import http.client
import socket
import ssl
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tuf.api.exceptions import DownloadError, DownloadHTTPError, DownloadLengthMismatchError, SlowRetrievalError
from tuf.ngclient.fetcher import FetcherInterface

BLOCK = 1 << 16


@dataclass(frozen=True)
class Pace:
    """How long a server may take: `patience_s` to connect, to answer, and for any silence after that; and once
    `patience_s` have passed, at least `least_bytes_per_s` on average since the first byte.
    """

    patience_s: float = 15.0
    least_bytes_per_s: float = 512.0


class Fetcher(FetcherInterface):
    """Reads addresses below one base; downloads stand in `scratch` until they are checked.

    Devices have their temporary folder in memory: a bundle does not go there.
    """

    def __init__(self, scratch: Path, pace: Pace = Pace()) -> None:
        self.scratch, self.pace = scratch, pace

    @contextlib.contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        """The content of an address in a file of no name.

        Raises:
            DownloadLengthMismatchError: it is longer than `max_length`; no more than that is read.
            SlowRetrievalError: it comes too slowly.
            DownloadError: it cannot be had.

        """
        received = 0
        with tempfile.TemporaryFile(dir=self.scratch) as file:
            for block in self.fetch(url):
                received += len(block)
                if received > max_length:
                    raise DownloadLengthMismatchError(f"{url} is longer than the {max_length} bytes it may have")
                file.write(block)
            file.seek(0)
            yield file

    def _fetch(self, url: str) -> Iterator[bytes]:
        parts = urllib.parse.urlsplit(url)
        try:
            if parts.scheme == "file":
                yield from _read_file(Path(urllib.parse.unquote(parts.path)))
            elif parts.scheme in ("http", "https"):
                yield from self._read_http(parts)
            else:
                raise DownloadError(f"{url} is neither https, http nor file")
        except TimeoutError as error:
            raise SlowRetrievalError(f"{url}: nothing came for {self.pace.patience_s:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise DownloadError(f"{url}: {error or type(error).__name__}") from error

    def _read_http(self, parts: urllib.parse.SplitResult) -> Iterator[bytes]:
        connection = self._connect(parts)
        try:
            with self._answer(connection, parts) as answer:
                if answer.status != http.HTTPStatus.OK:
                    raise DownloadHTTPError(f"{parts.geturl()}: {answer.status} {answer.reason}", answer.status)
                start, received = time.monotonic(), 0
                while block := answer.read1(BLOCK):
                    received += len(block)
                    took = time.monotonic() - start
                    if took > self.pace.patience_s and received < took * self.pace.least_bytes_per_s:
                        raise SlowRetrievalError(f"{parts.geturl()}: {received} bytes in {took:.0f} s")
                    yield block
                if answer.length:
                    raise DownloadError(f"{parts.geturl()}: the connection ended {answer.length} bytes early")
        finally:
            connection.close()

    def _connect(self, parts: urllib.parse.SplitResult) -> http.client.HTTPConnection:
        host, patience = parts.hostname or "", self.pace.patience_s
        if parts.scheme == "https":
            return http.client.HTTPSConnection(host, parts.port, timeout=patience, context=ssl.create_default_context())
        return http.client.HTTPConnection(host, parts.port, timeout=patience)

    def _answer(
        self, connection: http.client.HTTPConnection, parts: urllib.parse.SplitResult
    ) -> http.client.HTTPResponse:
        """The answer once its head is here; a head that comes letter by letter is cut off."""
        connection.connect()
        line, late = connection.sock, threading.Event()

        def cut_off() -> None:
            late.set()
            with contextlib.suppress(OSError):  # it has ended by itself
                line.shutdown(socket.SHUT_RDWR)

        watch = threading.Timer(self.pace.patience_s, cut_off)
        watch.daemon = True
        watch.start()
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        answer = None
        try:
            connection.request("GET", path or "/", headers={"Accept-Encoding": "identity"})
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException):
            if not late.is_set():
                raise
        finally:
            watch.cancel()
        if answer is None or late.is_set():  # a head that is cut off reads like one that has ended
            raise SlowRetrievalError(f"{parts.geturl()}: no answer in {self.pace.patience_s:g} s")
        return answer


def _read_file(path: Path) -> Iterator[bytes]:
    if not path.is_file():
        raise DownloadHTTPError(f"there is no file {path}", http.HTTPStatus.NOT_FOUND)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block
