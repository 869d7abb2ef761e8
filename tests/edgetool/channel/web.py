"""A web server on the loopback for one folder that can misbehave as an attacker or a bad line would."""

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Web(ThreadingHTTPServer):
    """Serves `folder`. `misbehave` maps a part of a path to how its answer goes wrong."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.misbehave: dict[str, str] = {}
        self.asked: list[str] = []
        self.over = threading.Event()
        self.halfway = threading.Event()  # "half" has sent its half
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Web

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        path = self.server.folder / self.path.lstrip("/")
        kinds = [kind for part, kind in self.server.misbehave.items() if part in self.path]
        with contextlib.suppress(OSError):  # the client has had enough
            if kinds:
                getattr(self, kinds[0])(path.read_bytes())
            elif path.is_file():
                self.whole(path.read_bytes())
            else:
                self.send_error(404)
        self.close_connection = True

    def head(self, length: int | None) -> None:
        self.send_response(200)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def whole(self, content: bytes) -> None:
        self.head(len(content))
        self.wfile.write(content)

    def cut(self, content: bytes) -> None:
        self.head(len(content))
        self.wfile.write(content[: len(content) // 2])

    def endless(self, content: bytes) -> None:
        self.head(None)
        while not self.server.over.is_set():
            self.wfile.write(content)

    def trickling(self, content: bytes) -> None:
        self.head(len(content))
        for byte in content:
            if self.server.over.wait(0.02):
                return
            self.wfile.write(bytes([byte]))
            self.wfile.flush()

    def half(self, content: bytes) -> None:
        self.head(len(content))
        self.wfile.write(content[: len(content) // 2])
        self.wfile.flush()
        self.server.halfway.set()
        self.server.over.wait()

    def silent(self, content: bytes) -> None:
        self.head(len(content))
        self.server.over.wait()

    def slow_head(self, _: bytes) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not self.server.over.wait(0.02):
            self.wfile.write(b"X-Slow: 1\r\n")
            self.wfile.flush()

    def moved(self, _: bytes) -> None:
        self.send_response(302)
        self.send_header("Location", "/metadata/timestamp.json")
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Web]:
    with Web(folder) as web:
        thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield web
        finally:
            web.over.set()
            web.shutdown()
            thread.join()
