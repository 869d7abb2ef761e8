"""Reading a body that may be too large, too slow, or cut off."""

import asyncio
import contextlib
from typing import TYPE_CHECKING

from edgetool.serve.refusal import Refusal
from edgetool.units import format_bytes

if TYPE_CHECKING:
    from starlette.requests import Request

# A client that is refused while it still sends may lose the answer when the connection closes: give it this long
LINGER_S = 1.0


async def read_body(request: "Request", max_bytes: int, timeout_s: float) -> bytes:
    """The whole body. No more than `max_bytes` of it are ever kept, whatever its headers announce.

    Raises:
        Refusal: it is larger, takes longer than `timeout_s`, or its connection ends.

    """
    from starlette.requests import ClientDisconnect

    announced = request.headers.get("content-length", "")
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            if announced.isascii() and announced.isdigit() and int(announced[:20]) > max_bytes:
                if "expect" not in request.headers:  # else the body is not sent before it is asked for
                    await _linger(request)
                raise _too_large(max_bytes)
            async for piece in request.stream():
                body += piece
                if len(body) > max_bytes:
                    await _linger(request)
                    raise _too_large(max_bytes)
    except TimeoutError:
        raise Refusal("slow_body", f"the body did not come within {timeout_s:g} s") from None
    except ClientDisconnect:
        raise Refusal("disconnected", "the connection ended before the body did") from None
    return bytes(body)


async def _linger(request: "Request") -> None:
    """Read on for a moment, keeping nothing."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while (await request.receive()).get("more_body", False):
                pass


def _too_large(max_bytes: int) -> Refusal:
    return Refusal("too_large", f"the body has more than {format_bytes(max_bytes)}", "--max-body of the server sets it")
