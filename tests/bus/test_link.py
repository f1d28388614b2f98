"""One connection to a broker: first read an event at a time, then by the bus."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateman.bus import unix
from gateman.bus.link import Link
from gateman.bus.router_wire import HELLO, Kind, RouterWire, frame
from gateman.bus.wire import Event, Hello, Sign

from ..support.loop import eventually, on_loop

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def linked(tmp_path: Path) -> AsyncIterator[tuple[Link, Streams]]:
    """Connect a link with what a test writes to it and reads from it."""
    accepted: asyncio.Queue[Streams] = asyncio.Queue()
    server = await asyncio.start_unix_server(
        lambda reader, writer: accepted.put_nowait((reader, writer)), tmp_path / "broker"
    )
    link = Link(RouterWire())
    sock = await unix.connect(tmp_path / "broker")
    await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=sock)
    reader, writer = await accepted.get()
    try:
        yield link, (reader, writer)
    finally:
        link.abort()
        writer.close()
        await eventually(lambda: link.is_gone)
        server.close()


class _Bus:
    """Takes over a link, and notes what it is told."""

    def __init__(self, link: Link, room: int = 1000) -> None:
        self.said: list[Event] = []
        self.lost = 0
        self.rooms = 0
        link.hand_over(self.said.extend, on_lost=self._lost, on_room=self._room, room=room)

    def _lost(self) -> None:
        self.lost += 1

    def _room(self) -> None:
        self.rooms += 1


@on_loop
async def test_greetings_are_read_one_by_one(tmp_path: Path) -> None:
    """Whoever connects reads what it expects; what came early is the bus's."""
    async with linked(tmp_path) as (link, (_, writer)):
        writer.write(HELLO + RouterWire.ping + frame(Kind.MESSAGE, b"x", b"early"))
        first = await link.next_event()
        second = await link.next_event()
        writer.write(frame(Kind.MESSAGE, b"x", b"more"))
        await eventually(lambda: link.has_more)
        bus = _Bus(link)
        writer.write(frame(Kind.MESSAGE, b"x", b"late"))
        await eventually(lambda: len(bus.said) == 3)

    assert (first, second) == (Hello({"speaks": "gateman-bus 2"}), Sign.PING)
    assert bus.said == [("x", b"early"), ("x", b"more"), ("x", b"late")]


@on_loop
async def test_a_broker_that_hangs_up_is_noticed(tmp_path: Path) -> None:
    """By who reads greetings, each time, and by the bus that comes after that."""
    async with linked(tmp_path) as (link, (_, writer)):
        writer.close()
        read = [await link.next_event(), await link.next_event()]
        bus = _Bus(link)

    assert read == [None, None]
    assert (bus.said, bus.lost) == ([], 1)


@on_loop
async def test_the_bus_learns_of_the_end_once(tmp_path: Path) -> None:
    """Whoever ended it."""
    async with linked(tmp_path) as (link, _):
        bus = _Bus(link)
        link.abort()
        link.abort()
        await eventually(lambda: link.is_gone)

    assert bus.lost == 1


@on_loop
async def test_the_bus_learns_when_there_is_room(tmp_path: Path) -> None:
    """What the system does not take waits, is counted, and when it is gone the bus is told."""
    async with linked(tmp_path) as (link, (reader, _)):
        bus = _Bus(link, room=100_000)
        link.write(bytes(2_000_000))
        backlog = link.backlog
        await reader.readexactly(2_000_000)
        await eventually(lambda: bus.rooms > 0)

        assert 100_000 < backlog < 2_000_000
        assert (link.backlog, bus.rooms) == (0, 1)


@on_loop
async def test_closing_writes_what_waits(tmp_path: Path) -> None:
    """Nothing is lost."""
    async with linked(tmp_path) as (link, (reader, _)):
        bus = _Bus(link)
        link.write(bytes(2_000_000))
        closing = asyncio.ensure_future(link.close(5.0))
        data = await reader.read(-1)
        await closing

    assert (len(data), bus.lost) == (2_000_000, 1)


@on_loop
async def test_nothing_is_read_of_a_link_that_closes(tmp_path: Path) -> None:
    """What the broker still says is not told."""
    async with linked(tmp_path) as (link, (_, writer)):
        bus = _Bus(link)
        writer.write(frame(Kind.PONG))
        link.abort()
        await eventually(lambda: link.is_gone)

    assert bus.said == []


@on_loop
async def test_closing_does_not_wait_for_who_does_not_read(tmp_path: Path) -> None:
    """What is not taken in time is thrown away."""
    async with linked(tmp_path) as (link, _):
        link.write(bytes(20_000_000))
        await link.close(0.01)
        await eventually(lambda: link.is_gone)


@on_loop
async def test_forked_children_give_up_the_connection(tmp_path: Path) -> None:
    """Its descriptor is known for as long as there is one."""
    async with linked(tmp_path) as (link, _):
        assert stat.S_ISSOCK(os.fstat(link.fileno()).st_mode)
        link.abort()
        await eventually(lambda: link.is_gone)

    assert link.fileno() == Link(RouterWire()).fileno() == -1


@on_loop
async def test_a_link_that_never_connected_has_nothing_to_close() -> None:
    """An attempt that failed early is cleaned up like the others."""
    link = Link(RouterWire())

    link.write(b"nobody reads it")
    link.abort()
    await link.close(1.0)

    assert (link.backlog, link.is_gone) == (0, False)
