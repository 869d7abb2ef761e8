"""The line that fails does so where it is told to, and otherwise carries every byte."""

import asyncio

import pytest

from benchmarks.bad_link import BadLink, Fault
from benchmarks.power_cuts import Outcome, summed_up

SENT = bytes(range(256)) * 400


async def arrived(fault: Fault, after: int, *, limit_s: float = 0.5) -> bytes:
    """What a server behind the line receives of SENT."""
    got = bytearray()
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1 << 14):
            got.extend(piece)
        writer.close()
        ended.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, BadLink(server.sockets[0].getsockname()[1], fault, after) as link:
        _, writer = await asyncio.open_connection("127.0.0.1", link.port)
        writer.write(SENT)
        writer.write_eof()
        try:
            await asyncio.wait_for(ended.wait(), limit_s if fault == "stall" else 30)
        except TimeoutError:
            assert fault == "stall"
        writer.transport.abort()
    return bytes(got)


@pytest.mark.parametrize("after", [0, 1, 70_001])
def test_a_line_fails_where_it_is_told_to(after: int) -> None:
    assert asyncio.run(arrived("none", after)) == SENT
    assert asyncio.run(arrived("die", after)) == SENT[:after]
    assert SENT.startswith(asyncio.run(arrived("stall", after))[:after])
    changed = asyncio.run(arrived("corrupt", after))
    assert [at for at, (one, other) in enumerate(zip(SENT, changed, strict=True)) if one != other] == [after]


def test_one_broken_device_is_a_figure_that_is_not_met() -> None:
    good, bad = Outcome(0, "at 1 s", "old"), Outcome(1, "at 2 s", None, "brick")
    assert all(figure.met for figure in summed_up("cut", [good, good], 2))
    figures = {figure.name: figure for figure in summed_up("cut", [good, bad], 2)}
    assert not figures["cut.broken_share"].met
    low, high = figures["cut.broken_share"].ci95 or (0.0, 0.0)
    assert low < 0.5 < high
    assert not {figure.name: figure for figure in summed_up("cut", [good], 200)}["cut.faults"].met
