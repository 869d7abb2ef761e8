"""A TCP line on this machine that dies, stalls or corrupts after so many bytes: a proxy before a device's sshd."""

import asyncio
import contextlib
from types import TracebackType
from typing import Literal, Self

Fault = Literal["none", "die", "stall", "corrupt"]
PIECE = 1 << 14


class BadLink:
    """Forwards to 127.0.0.1:`port`; the `fault` comes when `after` bytes of both directions together went through."""

    def __init__(self, port: int, fault: Fault, after: int) -> None:
        self.target, self.fault, self.after = port, fault, after
        self.carried = 0
        self.port = 0
        self.happened = False

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()

    async def _forward(self, near: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # the loop ends while a line is stalled
            await self._both(near, near_out)

    async def _both(self, near: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        far, far_out = await asyncio.open_connection("127.0.0.1", self.target)
        ways = [asyncio.ensure_future(self._carry(*way)) for way in ((near, far_out), (far, near_out))]
        try:
            # a line that dies takes both directions with it; one that ends in order does so one after the other
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            if not (self.happened and self.fault == "die"):
                await asyncio.wait(ways)
        finally:
            for way in ways:
                way.cancel()
            for out in (far_out, near_out):
                out.transport.abort() if self.happened else out.close()

    async def _carry(self, source: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await source.read(PIECE):
                left = self.after - self.carried
                self.carried += len(piece)
                if self.fault != "none" and left < len(piece):
                    first = not self.happened
                    self.happened = True
                    if self.fault == "die":
                        out.write(piece[: max(0, left)])
                        return
                    if self.fault == "stall":
                        await asyncio.Event().wait()
                    if first:
                        at = max(0, left)
                        piece = piece[:at] + bytes([piece[at] ^ 1]) + piece[at + 1 :]
                out.write(piece)
                await out.drain()
            out.write_eof()
