"""A client that asks at a constant rate, in a process of its own, and the bundle that it asks for.

python -m benchmarks.serve_client PORT TOKEN RATE SECONDS CONNECTIONS OUT.npy     the body comes on stdin
"""

import asyncio
import os
import selectors
import socket
import sys
import time
from collections import deque
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.artifact import Artifact
from edge.bundle import Golden, write_bundle
from edge.engines import open_engine, predict
from edge.preprocess import ArrayInput

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = (
    Path(os.environ.get("EDGETOOL_DATA") or REPOSITORY.parent / "shared" / "data")
    / "models"
    / "mlperf_tiny"
    / "keyword_spotting"
)
LAST_ANSWERS_S = 10.0
# Warden, "Speech Commands", 2018: the ten words of the benchmark, silence and anything else
LABELS = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes", "silence", "unknown")


def kws_bundle(folder: Path) -> tuple[Path, npt.NDArray[np.float32]]:
    """A bundle of the int8 model, and features [49, 10, 1] over the whole range that its input stands for."""
    model = SHARED / "kws_ref_model.tflite"
    engine = open_engine(model, "tflite")
    (spec,), (output,) = engine.inputs, engine.outputs
    assert spec.quantization is not None
    scale, zero_point = spec.quantization.scale, spec.quantization.zero_point
    steps = np.random.default_rng(0).integers(-128, 128, (8, 49, 10, 1))
    features = ((steps - zero_point) * scale).astype(np.float32)
    scores = np.concatenate([predict(engine, {spec.name: row[None]})[output.name] for row in features])
    artifact = Artifact(model, "tflite", engine.inputs, engine.outputs, "")
    engine.close()
    path = folder / "kws.edge"
    write_bundle(
        path,
        artifact,
        Golden({spec.name: features}, {output.name: scores}),
        name="kws",
        target="generic-x86_64",
        task="keyword spotting",
        preprocess={spec.name: ArrayInput()},
        labels=LABELS,
    )
    return path, features[0]


def request_bytes(path: str, body: bytes, content_type: str, token: str) -> bytes:
    """A request for a kept connection."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def connection(port: int) -> socket.socket:
    """A connection that sends at once."""
    connected = socket.create_connection(("127.0.0.1", port), timeout=30)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected


def exchange(connected: socket.socket, request: bytes) -> None:
    """One request and its whole answer. Raises RuntimeError where it is not 200."""
    connected.sendall(request)
    received = b""
    while not whole(received):
        piece = connected.recv(1 << 18)
        if not piece:
            raise RuntimeError("the connection ended")
        received += piece
    if not received.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(received.decode(errors="replace"))


def whole(received: bytes) -> bool:
    """Whether a response with a Content-Length is there."""
    head, found, body = received.partition(b"\r\n\r\n")
    if not found:
        return False
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return len(body) >= int(length)


class Connection(asyncio.Protocol):
    """One kept connection with at most one request on its way."""

    def __init__(self, load: "Load") -> None:
        self._load, self._received, self._asked = load, b"", -1
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport = transport
        self._load.idle.append(self)

    def ask(self, index: int, request: bytes) -> None:
        """Send the request with this index."""
        self._asked, self._received = index, b""
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if whole(self._received):
            self._load.answered(self, self._asked, self._received.startswith(b"HTTP/1.1 200 "))

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.idle = deque(one for one in self._load.idle if one is not self)


class Load:
    """Requests that are due every 1 / rate seconds. What finds no idle connection is sent by the next idle one."""

    def __init__(self, request: bytes, rate: float, number: int) -> None:
        self.idle: deque[Connection] = deque()
        self.latencies = np.full(number, np.nan)  # NaN where no answer came, or another one than 200
        self._request, self._rate, self._start = request, rate, 0.0
        self._late: deque[int] = deque()
        self._left = number

    async def run(self, port: int, connections: int) -> None:
        """Connect, ask, and wait for the last answers."""
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            await loop.create_connection(lambda: Connection(self), "127.0.0.1", port)
        self._start = time.perf_counter() + 0.05
        for index in range(len(self.latencies)):
            wait = self._start + index / self._rate - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            if self.idle:
                self.idle.popleft().ask(index, self._request)
            else:
                self._late.append(index)
        end = time.perf_counter() + LAST_ANSWERS_S
        while self._left and time.perf_counter() < end:
            await asyncio.sleep(0.01)

    def answered(self, one: Connection, index: int, good: bool) -> None:
        """An answer is there: it counts from when its request was due."""
        self._left -= 1
        if good:
            self.latencies[index] = time.perf_counter() - self._start - index / self._rate
        if self._late:
            one.ask(self._late.popleft(), self._request)
        else:
            self.idle.append(one)


def main() -> None:
    """Ask, and keep the latencies in seconds."""
    port, token, rate, seconds, connections, kept = sys.argv[1:]
    request = request_bytes("/v1/models/kws/predict", sys.stdin.buffer.read(), "application/json", token)
    load = Load(request, float(rate), round(float(rate) * float(seconds)))
    # epoll waits whole milliseconds, select waits microseconds
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    loop.run_until_complete(load.run(int(port), int(connections)))
    np.save(kept, load.latencies)


if __name__ == "__main__":
    main()
