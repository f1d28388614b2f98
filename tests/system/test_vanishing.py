"""Peers that vanish, at every stage, and peers that take their time."""

import asyncio

import pytest

from gateman import Connection, Request, SendResult, State
from tests.support.loop import eventually, on_loop, turns, until_idle
from tests.support.raw import EOF, TEXT, RawClient, frame, handshake
from tests.support.server import Journal, serve

both = pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])

GONE = ("on_close", 1006, "")


# Peers that vanish, or take their time.


async def vanish(client: RawClient, how: str) -> None:
    """End a connection in one of three ways."""
    match how:
        case "reset":
            client.reset()
        case "end":
            await client.close()
        case "half":
            client.end()
            assert await client.read_end() == (b"", EOF)


@both
@pytest.mark.parametrize("how", ["reset", "end"])
@pytest.mark.parametrize("sent", [0, 1, 30], ids=["nothing", "a byte", "a part"])
@on_loop
async def test_peer_vanishes_before_its_request(sent: int, how: str, *, secure: bool) -> None:
    """on_close is told 1006, once, and nothing is logged."""
    journal = Journal()
    async with serve(secure=secure, **journal.callbacks()) as server:
        client = await server.connect()
        await journal.until("on_connect")
        await client.send(handshake()[:sent])
        await turns()
        await vanish(client, how)
        await journal.until("on_close")
        await until_idle()

        assert journal.entries == [("on_connect",), GONE]
        assert journal.connections[0].state is State.CLOSED
        assert server.service.present_count == 0
        assert server.lines() == []


@both
@pytest.mark.parametrize("how", ["reset", "end"])
@on_loop
async def test_peer_vanishes_while_the_application_decides(how: str, *, secure: bool) -> None:
    """on_close comes behind on_websocket_connect, and on_open never."""
    journal = Journal()
    decided = asyncio.Event()

    async def decide(_connection: Connection, _request: Request) -> None:
        journal.note("deciding")
        await decided.wait()
        journal.note("decided")

    callbacks = journal.callbacks(on_websocket_connect=decide)
    async with serve(secure=secure, **callbacks) as server:
        client = await server.connect()
        await client.send(handshake())
        await journal.until("deciding")
        await vanish(client, how)
        while server.service.present_count:
            await turns(1)
        decided.set()
        await journal.until("on_close")
        await until_idle()

        assert journal.entries == [("on_connect",), ("deciding",), ("decided",), GONE]


@on_loop
async def test_half_closed_peer_gets_no_websocket() -> None:
    """Who ends the connection while the application decides does not want one."""
    journal = Journal()

    async def decide(_connection: Connection, _request: Request) -> None:
        journal.note("deciding")
        await asyncio.Event().wait()

    async with serve(
        **journal.callbacks(on_websocket_connect=decide), timeouts={"shutdown": 0.1}
    ) as server:
        client = await server.connect()
        await client.send(handshake())
        await journal.until("deciding")

        await vanish(client, "half")


@both
@on_loop
async def test_slow_request_is_cut_off(*, secure: bool) -> None:
    """The deadline is absolute: a byte now and then does not move it."""
    journal = Journal()
    timeouts = {"handshake": 0.2}
    async with serve(secure=secure, timeouts=timeouts, **journal.callbacks()) as server:
        client = await server.connect()
        while not journal.of("on_close"):
            client.push(b"G")
            await asyncio.sleep(0.01)

        assert journal.entries == [("on_connect",), GONE]
        assert server.service.counts["handshake_timeout"] == 1
        assert server.lines() == []


@on_loop
async def test_slow_decision_is_cut_off() -> None:
    """The application has the same deadline."""
    journal = Journal()

    async def decide(_connection: Connection, _request: Request) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            journal.note("cancelled")

    callbacks = journal.callbacks(on_websocket_connect=decide)
    timeouts = {"handshake": 0.1, "shutdown": 0.2}
    async with serve(timeouts=timeouts, **callbacks) as server:
        client = await server.connect()
        await client.send(handshake())

        assert (await client.read_end())[0] == b""
    assert journal.entries == [("on_connect",), ("cancelled",), GONE]


# Once the WebSocket is open.


@both
@pytest.mark.parametrize("how", ["reset", "end"])
@pytest.mark.parametrize("sent", [0, 1, 7, 300], ids=["nothing", "a byte", "a header", "a part"])
@on_loop
async def test_peer_vanishes_in_a_frame(sent: int, how: str, *, secure: bool) -> None:
    """What there is of the frame is forgotten, and on_close is told 1006."""
    journal = Journal()
    async with serve(secure=secure, **journal.callbacks()) as server:
        client = await server.open()
        await client.send_frame(TEXT, b"whole")
        await client.send(frame(TEXT, bytes(1000))[:sent])
        await journal.until("on_message")
        await until_idle()
        await vanish(client, how)
        await journal.until("on_close")
        await eventually(lambda: not server.service.present_count)

        assert journal.entries[3:] == [("on_message", "whole"), GONE]
        assert journal.connections[0].send("gone") is SendResult.CLOSED
        assert server.lines() == []


@on_loop
async def test_peer_ends_its_half() -> None:
    """It is over at once, and the server ends its own half."""
    journal = Journal()
    async with serve(**journal.callbacks()) as server:
        client = await server.open()

        await vanish(client, "half")
        await journal.until("on_close")
        assert journal.of("on_close") == [(1006, "")]


@on_loop
async def test_peer_ends_its_half_and_reads_nothing() -> None:
    """What is unsent to it does not keep the connection beyond ``timeouts.close``."""
    journal = Journal()
    async with serve(timeouts={"close": 0.2}, **journal.callbacks()) as server:
        client = await server.open(receive_buffer=4096)
        client.stop_reading()
        (connection,) = journal.connections
        while connection.send(bytes(16384)) is SendResult.SENT:
            pass
        client.end()
        await journal.until("on_close")

        assert journal.of("on_close") == [(1006, "")]
        assert (connection.state, connection.send("late")) == (State.CLOSED, SendResult.CLOSED)
        await eventually(lambda: not server.service.present_count)


@both
@pytest.mark.parametrize("how", ["reset", "end"])
@on_loop
async def test_peer_vanishes_while_a_callback_runs(how: str, *, secure: bool) -> None:
    """on_close waits for the async callback, and messages that came before are delivered."""
    journal = Journal()
    gate = asyncio.Event()

    async def take(connection: Connection, message: str) -> None:
        await gate.wait()
        journal.note("on_message", message, connection.state)

    async with serve(secure=secure, **journal.callbacks(on_message=take)) as server:
        client = await server.open()
        await client.send(frame(TEXT, b"one") + frame(TEXT, b"two"))
        await until_idle()
        await vanish(client, how)
        await eventually(lambda: not server.service.present_count)
        gate.set()
        await journal.until("on_close")

        assert journal.entries[3:] == [
            ("on_message", "one", State.CLOSED),
            ("on_message", "two", State.CLOSED),
            GONE,
        ]
