"""One connection to a broker: first read an event at a time, then by the bus."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateman.bus import unix_socket
from gateman.bus.broker_connection import BrokerConnection
from gateman.bus.router_wire import HELLO, FrameKind, RouterWire, frame
from gateman.bus.wire import BrokerEvent, BrokerHello, Control

from ..support.loop import eventually, on_loop

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def linked(tmp_path: Path) -> AsyncIterator[tuple[BrokerConnection, Streams]]:
    """Connect a link with what a test writes to it and reads from it."""
    accepted: asyncio.Queue[Streams] = asyncio.Queue()
    server = await asyncio.start_unix_server(
        lambda reader, writer: accepted.put_nowait((reader, writer)), tmp_path / "broker"
    )
    connection = BrokerConnection(RouterWire())
    sock = await unix_socket.connect(tmp_path / "broker")
    await asyncio.get_running_loop().create_unix_connection(lambda: connection, sock=sock)
    reader, writer = await accepted.get()
    try:
        yield connection, (reader, writer)
    finally:
        connection.abort()
        writer.close()
        await eventually(lambda: connection.is_gone)
        server.close()


class _Bus:
    """Takes over a link, and notes what it is told."""

    def __init__(self, connection: BrokerConnection, room: int = 1000) -> None:
        self.said: list[BrokerEvent] = []
        self.lost = 0
        self.rooms = 0
        connection.hand_over(
            self.said.extend, on_lost=self._lost, on_writable=self._room, room=room
        )

    def _lost(self) -> None:
        self.lost += 1

    def _room(self) -> None:
        self.rooms += 1


@on_loop
async def test_greetings_are_read_one_by_one(tmp_path: Path) -> None:
    """The caller that connects reads what it expects; bytes that came early are for the bus."""
    async with linked(tmp_path) as (connection, (_, writer)):
        writer.write(HELLO + RouterWire.ping + frame(FrameKind.MESSAGE, b"x", b"early"))
        first = await connection.next_event()
        second = await connection.next_event()
        writer.write(frame(FrameKind.MESSAGE, b"x", b"more"))
        await eventually(lambda: connection.has_more)
        bus = _Bus(connection)
        writer.write(frame(FrameKind.MESSAGE, b"x", b"late"))
        await eventually(lambda: len(bus.said) == 3)

    assert (first, second) == (BrokerHello({"speaks": "gateman-bus 3"}), Control.PING)
    assert bus.said == [("x", b"early"), ("x", b"more"), ("x", b"late")]


@on_loop
async def test_a_broker_that_hangs_up_is_noticed(tmp_path: Path) -> None:
    """By who reads greetings, each time, and by the bus that comes after that."""
    async with linked(tmp_path) as (connection, (_, writer)):
        writer.close()
        read = [await connection.next_event(), await connection.next_event()]
        bus = _Bus(connection)

    assert read == [None, None]
    assert (bus.said, bus.lost) == ([], 1)


@on_loop
async def test_the_bus_learns_of_the_end_once(tmp_path: Path) -> None:
    """Whichever side ended it."""
    async with linked(tmp_path) as (connection, _):
        bus = _Bus(connection)
        connection.abort()
        connection.abort()
        await eventually(lambda: connection.is_gone)

    assert bus.lost == 1


@on_loop
async def test_the_bus_learns_when_there_is_room(tmp_path: Path) -> None:
    """What the system does not take waits, is counted, and when it is gone the bus is told."""
    async with linked(tmp_path) as (connection, (reader, _)):
        bus = _Bus(connection, room=100_000)
        connection.write(bytes(2_000_000))
        backlog = connection.backlog
        await reader.readexactly(2_000_000)
        await eventually(lambda: bus.rooms > 0)

        assert 100_000 < backlog < 2_000_000
        assert (connection.backlog, bus.rooms) == (0, 1)


@on_loop
async def test_closing_writes_what_waits(tmp_path: Path) -> None:
    """Nothing is lost."""
    async with linked(tmp_path) as (connection, (reader, _)):
        bus = _Bus(connection)
        connection.write(bytes(2_000_000))
        closing = asyncio.ensure_future(connection.close(5.0))
        data = await reader.read(-1)
        await closing

    assert (len(data), bus.lost) == (2_000_000, 1)


@on_loop
async def test_nothing_is_read_of_a_link_that_closes(tmp_path: Path) -> None:
    """What the broker still says is not told."""
    async with linked(tmp_path) as (connection, (_, writer)):
        bus = _Bus(connection)
        writer.write(frame(FrameKind.PONG))
        connection.abort()
        await eventually(lambda: connection.is_gone)

    assert bus.said == []


@on_loop
async def test_closing_does_not_wait_for_a_peer_that_does_not_read(tmp_path: Path) -> None:
    """What is not taken in time is thrown away."""
    async with linked(tmp_path) as (connection, _):
        connection.write(bytes(20_000_000))
        await connection.close(0.01)
        await eventually(lambda: connection.is_gone)


@on_loop
async def test_forked_children_give_up_the_connection(tmp_path: Path) -> None:
    """Its descriptor is known for as long as there is one."""
    async with linked(tmp_path) as (connection, _):
        assert stat.S_ISSOCK(os.fstat(connection.fileno()).st_mode)
        connection.abort()
        await eventually(lambda: connection.is_gone)

    assert connection.fileno() == BrokerConnection(RouterWire()).fileno() == -1


@on_loop
async def test_a_link_that_never_connected_has_nothing_to_close() -> None:
    """An attempt that failed early is cleaned up like the others."""
    connection = BrokerConnection(RouterWire())

    connection.write(b"nobody reads it")
    connection.abort()
    await connection.close(1.0)

    assert (connection.backlog, connection.is_gone) == (0, False)
