"""Callbacks in their order, plain and async, and what they raise; over real sockets."""

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import Any

import pytest

from gateman import Connection, Refuse, SendResult, State, UnknownClient
from tests.support.loop import eventually, on_loop, turns, until_idle
from tests.support.raw import BINARY, CLOSE, TEXT, RawClient, frame, handshake
from tests.support.server import Journal, Server, serve

both = pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])

LIFE = ["on_connect", "on_websocket_connect", "on_open", "on_message", "on_message", "on_close"]


def asynchronous(journal: Journal, name: str) -> Callable[..., Any]:
    """Make a callback that takes a few turns of the loop, and notes both its ends."""

    async def take_turns(connection: Connection, *_args: object) -> None:
        if name == "on_connect":
            journal.connections.append(connection)
        journal.note(name, "begins")
        await turns(3)
        journal.note(name, "ends")

    return take_turns


# Order.


@both
@pytest.mark.parametrize(
    "names",
    [set(), *({name} for name in dict.fromkeys(LIFE)), {"on_open", "on_close"}, set(LIFE)],
    ids=lambda names: "+".join(sorted(names)) or "none",
)
@on_loop
async def test_callbacks_come_in_order(names: set[str], *, secure: bool) -> None:
    """For one connection, one callback ends before the next begins, whichever are async."""
    journal = Journal()
    callbacks = journal.callbacks(**{name: asynchronous(journal, name) for name in names})
    async with serve(secure=secure, **callbacks) as server:
        client = await server.open()
        await client.send(frame(TEXT, b"a") + frame(TEXT, b"b") + frame(CLOSE))
        await journal.until("on_close")
        await until_idle()

        expected: list[tuple[str, ...]] = []
        for name in LIFE:
            expected += [(name, "begins"), (name, "ends")] if name in names else [(name,)]
        found = [entry[:2] if entry[0] in names else entry[:1] for entry in journal.entries]
        assert found == expected


@on_loop
async def test_plain_handler_waits_for_an_async_open() -> None:
    """A message is not handled before on_open is through, whichever kind its handler is."""
    journal = Journal()
    gate = asyncio.Event()

    async def prepare(connection: Connection) -> None:
        await gate.wait()
        connection.session["user"] = "ann"

    def take(connection: Connection, message: str) -> None:
        journal.note("on_message", connection.session["user"], message)

    async with serve(**journal.callbacks(on_open=prepare, on_message=take)) as server:
        client = await server.open()
        await client.send_frame(TEXT, b"a")
        await until_idle()
        assert journal.of("on_message") == []
        gate.set()
        await journal.until("on_message", "ann", "a")
        await client.send_frame(TEXT, b"b")
        await journal.until("on_message", "ann", "b")


@on_loop
async def test_connections_do_not_wait_for_each_other() -> None:
    """An async handler holds up its own connection only."""
    journal = Journal()
    gate = asyncio.Event()

    async def take(connection: Connection, message: str) -> None:
        journal.note("begins", connection.id, message)
        await gate.wait()
        journal.note("ends", connection.id, message)

    async with serve(**journal.callbacks(on_message=take)) as server:
        for _ in range(2):
            client = await server.open()
            await client.send(frame(TEXT, b"a") + frame(TEXT, b"b"))
        await journal.until("begins", count=2)
        await until_idle()
        begun = journal.of("begins")
        gate.set()
        await journal.until("ends", count=4)

        assert begun == [(1, "a"), (2, "a")]
        for number in (1, 2):
            own = [entry for entry in journal.entries if entry[1:2] == (number,)]
            assert own == [(what, number, m) for m in "ab" for what in ("begins", "ends")]


async def flood(client: RawClient, size: int) -> None:
    """Send 16 MiB of messages, as far as the server lets it."""
    part = frame(BINARY, bytes(size)) * ((1 << 20) // (size + 10))
    for _ in range(16):
        await client.send(part)


@both
@pytest.mark.parametrize("size", [100, 30_000])
@on_loop
async def test_client_waits_for_an_async_handler(size: int, *, secure: bool) -> None:
    """Beyond a few messages, or their bytes, it is not read from until there are fewer."""
    journal = Journal()
    gate = asyncio.Event()
    count = 0

    async def take(_connection: Connection, _message: bytes) -> None:
        nonlocal count
        await gate.wait()
        count += 1

    limits = {"max_messages_per_second": 10_000_000}
    callbacks = journal.callbacks(on_message=take)
    async with serve(secure=secure, limits=limits, **callbacks) as server:
        client = await server.open()
        sending = asyncio.create_task(flood(client, size))
        done, _ = await asyncio.wait([sending], timeout=0.2)
        assert done == set()
        gate.set()
        await sending
        expected = 16 * ((1 << 20) // (size + 10))
        await eventually(lambda: count == expected)
        # And it is read from again.
        await client.send_close()
        await journal.until("on_close", 1000)


@on_loop
async def test_messages_wait_in_a_bound() -> None:
    """Small ones by their number: few more than ``max_queued_messages`` are read ahead."""
    journal = Journal()
    gate = asyncio.Event()

    async def take(connection: Connection, _message: bytes) -> None:
        journal.note("on_message")
        await gate.wait()
        connection.pause_recv()

    limits = {"max_queued_messages": 4}
    async with serve(limits=limits, **journal.callbacks(on_message=take)) as server:
        client = await server.open()
        for _ in range(100):
            await client.send_frame(BINARY, bytes(10))
            await turns()
        gate.set()
        await until_idle()
        # The one that runs, those that may wait, and the one that was too many.
        assert len(journal.of("on_message")) == 1 + 4 + 1
        journal.connections[0].resume_recv()
        await journal.until("on_message", count=7)


# What waits when it ends.


@both
@on_loop
async def test_messages_before_the_close_of_the_peer_are_handled(*, secure: bool) -> None:
    """It sent them, and was still there: on_close comes behind them."""
    journal = Journal()
    gate = asyncio.Event()

    async def take(_connection: Connection, message: str) -> None:
        await gate.wait()
        journal.note("on_message", message)

    async with serve(secure=secure, **journal.callbacks(on_message=take)) as server:
        client = await server.open()
        await client.send(frame(TEXT, b"a") + frame(TEXT, b"b") + frame(CLOSE))
        assert await client.read_close() == (1000, "")
        gate.set()
        await journal.until("on_close")

        assert journal.entries[3:] == [
            ("on_message", "a"),
            ("on_message", "b"),
            ("on_close", 1005, ""),
        ]


@both
@pytest.mark.parametrize("how", ["close", "destroy", "raise"])
@on_loop
async def test_messages_behind_our_end_are_not_handled(how: str, *, secure: bool) -> None:
    """After close(), destroy() or an exception, waiting messages are dropped."""
    journal = Journal()

    async def take(connection: Connection, message: str) -> None:
        journal.note("on_message", message)
        await until_idle()
        match how:
            case "close":
                connection.close(4000)
            case "destroy":
                connection.destroy()
            case _:
                raise ValueError
        await until_idle()

    async with serve(secure=secure, **journal.callbacks(on_message=take)) as server:
        client = await server.open()
        await client.send(frame(TEXT, b"a") * 5)
        if how != "destroy":
            assert (
                await client.read_close()
                == {"close": (4000, ""), "raise": (1011, "internal error")}[how]
            )
            await client.send_close(4000)
        await journal.until("on_close")

        assert journal.of("on_message") == [("a",)]
        server.lines()


# What callbacks raise.


async def use(server: Server, journal: Journal, name: str) -> tuple[int, str] | None:
    """Make a callback be called; tell with which Close the connection ends."""
    client = await server.connect(receive_buffer=4096)
    if name == "on_connect":
        await client.read_end()
        return None
    await client.send(handshake())
    if name == "on_websocket_connect":
        assert (await client.read_response()).status == 500
        return None
    assert (await client.read_head()).status == 101
    match name:
        case "on_message":
            await client.send_frame(TEXT, b"a")
        case "on_close":
            await client.send_close(1000)
        case "on_error":
            await client.send(frame(3))
        case "on_buffer_full" | "on_buffer_drain":
            client.stop_reading()
            connection = journal.connections[-1]
            while connection.send(bytes(5000)) not in {SendResult.DROPPED, SendResult.CLOSED}:
                pass
            client.go_on_reading()
            if name == "on_buffer_drain":
                while (await client.read_frame()).opcode == BINARY and connection.send_buffer_size:
                    pass
    found = await client.read_frame()
    while found.opcode != CLOSE:
        found = await client.read_frame()
    await client.close()
    return int.from_bytes(found.payload[:2]), found.payload[2:].decode()


INTERNAL = (1011, "internal error")
FAILURES: dict[str, tuple[int, str] | None] = {
    "on_connect": None,
    "on_websocket_connect": None,
    "on_open": INTERNAL,
    "on_message": INTERNAL,
    "on_close": (1000, ""),
    "on_error": (1002, "a frame has a reserved opcode"),
    "on_buffer_full": INTERNAL,
    "on_buffer_drain": INTERNAL,
}


@both
@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize(("name", "close"), FAILURES.items(), ids=list(FAILURES))
@on_loop
async def test_failing_callback_costs_its_connection(
    name: str, close: tuple[int, str] | None, *, is_async: bool, secure: bool
) -> None:
    """With its traceback in the log, on_close exactly once, and no harm to any other."""
    journal = Journal()

    def fail(connection: Connection, *args: object) -> None:
        if name == "on_connect":
            journal.connections.append(connection)
        if name == "on_close":
            journal.note("on_close", *args)
        if connection.id != 1:
            raise LookupError("lost")

    async def fail_later(connection: Connection, *args: object) -> None:
        await turns(2)
        fail(connection, *args)

    callbacks = journal.callbacks(**{name: fail_later if is_async else fail})
    limits = {"max_send_buffer_size": 100_000}
    async with serve(secure=secure, limits=limits, **callbacks) as server, server.client() as other:
        assert await use(server, journal, name) == close
        await journal.until("on_close")
        await eventually(lambda: server.service.present_count == 1)
        await eventually(lambda: server.service.counts["callback_failed"] == 1)
        await other.send("hello")
        await (await other.ping())

        assert len(journal.of("on_close")) == 1
        errors = [entry[0] for entry in journal.of("on_error")]
        assert errors[-1:] == ([] if name == "on_error" else ["LookupError: lost"])
        (line,) = server.lines(logging.ERROR)
        assert line.startswith(f"{name} raised LookupError for <Connection 2 ")
        assert line.endswith("<- LookupError('lost')")


async def later(result: object) -> object:
    """Give a result that has to be awaited."""
    await turns(2)
    return result


@pytest.mark.parametrize("kind", ["plain", "async", "hidden async", "task"])
@pytest.mark.parametrize("result", [False, 0, "no", Refuse(403)], ids=repr)
@on_loop
async def test_client_is_refused_if_the_callback_returns_anything(
    result: object, kind: str
) -> None:
    """A user of other libraries writes ``return False``; the log says what to write here."""
    journal = Journal()

    async def decide(_connection: Connection, _request: object) -> object:
        return await later(result)

    functions: dict[str, Callable[..., Any]] = {
        "plain": lambda _connection, _request: result,
        "async": decide,
        "hidden async": lambda _connection, _request: later(result),
        "task": lambda _connection, _request: asyncio.create_task(later(result)),
    }
    callbacks = journal.callbacks(on_websocket_connect=functions[kind])
    async with serve(**callbacks) as server:
        assert (await server.ask(handshake())).status == 500
        await journal.until("on_close")

        assert journal.of("on_open") == []
        (line,) = server.lines()
        returned = "False" if result is False else f"a {type(result).__name__}"
        assert line.endswith(
            f" is closed: on_websocket_connect returned {returned}: raise Refuse(403) to refuse a"
            " client, and return nothing to accept it."
        )


@pytest.mark.parametrize("result", [None, True])
@pytest.mark.parametrize("is_async", [False, True])
@on_loop
async def test_nothing_and_true_let_a_client_in(result: object, *, is_async: bool) -> None:
    """An expression that tells whether a token is right can stand there."""

    def decide(_connection: Connection, _request: object) -> object:
        return later(result) if is_async else result

    async with serve(on_websocket_connect=decide) as server, server.client() as client:
        await (await client.ping())


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("name", ["on_connect", "on_open"])
@on_loop
async def test_false_of_a_callback_that_cannot_refuse_ends_the_connection(
    name: str, *, is_async: bool
) -> None:
    """It may have been meant to."""
    journal = Journal()
    callbacks = journal.callbacks(
        **{name: lambda _connection: later(False) if is_async else False}  # noqa: FBT003
    )
    async with serve(**callbacks) as server:
        client = await server.connect()
        await client.send(handshake())
        await client.read_end()
        await journal.until("on_close")

        assert server.lines()[0].endswith(
            f" is closed: {name} returned False, which refuses no client: raise Refuse(403) in the"
            " callback that gets the request."
        )


@on_loop
async def test_coroutine_behind_a_plain_callback_is_awaited() -> None:
    """In its order, as if it were declared ``async``."""
    journal = Journal()

    async def open_later() -> None:
        await turns(3)
        journal.note("on_open", "ends")

    callbacks = journal.callbacks(on_open=lambda _connection: open_later())
    async with serve(**callbacks) as server:
        client = await server.open()
        await client.send_close(1000)
        await journal.until("on_close")

        assert journal.entries[-2:] == [("on_open", "ends"), ("on_close", 1000, "")]


@on_loop
async def test_one_bug_is_one_line() -> None:
    """However many connections it costs, the log has it once in a while."""

    def fail(_connection: Connection, _message: str) -> None:
        raise ValueError("bug")

    async with serve(on_message=fail) as server:
        for _ in range(20):
            client = await server.open()
            await client.send_frame(TEXT, b"a")
            assert await client.read_close() == INTERNAL

        assert server.service.counts["callback_failed"] == 20
        assert len(server.lines(logging.ERROR)) == 1


@on_loop
async def test_failing_on_error_is_not_told_to_itself() -> None:
    """Two bugs are two lines, and the connection ends once."""
    journal = Journal()

    def fail(_connection: Connection, _what: object) -> None:
        raise ValueError("bug")

    async with serve(**journal.callbacks(on_message=fail, on_error=fail)) as server:
        client = await server.open()
        await client.send_frame(TEXT, b"a")

        assert await client.read_close() == INTERNAL
        await client.send_close(1011)
        await journal.until("on_close", 1011)
        assert server.service.counts["callback_failed"] == 2
        server.lines()


@pytest.mark.parametrize("name", ["on_message", "on_open", "on_error"])
@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
@on_loop
async def test_callback_that_finds_something_cancelled_fails(name: str, *, is_async: bool) -> None:
    """It does not take its connection's other callbacks with it."""
    journal = Journal()
    cancelled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    cancelled.cancel()

    def read(_connection: Connection, *_args: object) -> None:
        cancelled.result()

    async def wait(_connection: Connection, *_args: object) -> None:
        await cancelled

    async with serve(**journal.callbacks(**{name: wait if is_async else read})) as server:
        client = await server.open()
        await client.send(frame(11 if name == "on_error" else TEXT, b"a") * 2)

        code = 1002 if name == "on_error" else 1011
        assert (await client.read_close())[0] == code
        await client.send_close(code)
        await journal.until("on_close", code)
        errors = [] if name == "on_error" else ["RuntimeError: what it awaited was cancelled"]
        assert [entry[0] for entry in journal.of("on_error")] == errors
        (line,) = server.lines(logging.ERROR)
        assert line.startswith(f"{name} raised RuntimeError for ")


class Chat:
    """Callbacks as methods, and one as an object."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def opened(self, connection: Connection) -> None:
        """Greet, later."""
        await turns(2)
        connection.send("welcome")

    async def __call__(self, connection: Connection, message: str) -> None:
        """Send back, later."""
        await turns(2)
        self.seen.append(message)
        connection.send(message)


def closed(seen: list[object], _connection: Connection, code: int, reason: str) -> None:
    """Note the end."""
    seen += [code, reason]


async def takes_turns(_connection: Connection) -> None:
    """Take some turns of the loop."""
    await turns(3)


@on_loop
async def test_callbacks_may_be_methods_objects_and_partials() -> None:
    """Anything that can be called; an ``async def __call__`` is awaited."""
    chat = Chat()
    end: list[object] = []
    async with serve(
        on_open=chat.opened, on_message=chat, on_close=functools.partial(closed, end)
    ) as server:
        async with server.client() as client:
            await client.send("hello")

            assert [await client.recv(), await client.recv()] == ["welcome", "hello"]
        await eventually(lambda: end == [1000, ""])


@pytest.mark.parametrize("callbacks", [{}, {"on_connect": takes_turns}], ids=["none", "one"])
@on_loop
async def test_callbacks_may_be_few(callbacks: dict[str, Any]) -> None:
    """A worker without any is a WebSocket that says nothing; an async one may stand alone."""
    async with serve(**callbacks) as server, server.client() as client:
        await client.send("hello")
        await (await client.ping())


# The end of the process.


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
@on_loop
async def test_stuck_handler_is_cancelled_at_the_end(*, is_async: bool) -> None:
    """on_close is called all the same, other waiting callbacks are not."""
    journal = Journal()

    async def stick(_connection: Connection, message: str) -> None:
        journal.note("on_message", message)
        try:
            await asyncio.Event().wait()
        finally:
            journal.note("cancelled")

    def close(connection: Connection, code: int, _reason: str) -> None:
        journal.note("on_close", code, connection.state)

    async def close_later(connection: Connection, code: int, reason: str) -> None:
        await turns(3)
        close(connection, code, reason)

    callbacks = journal.callbacks(on_message=stick, on_close=close_later if is_async else close)
    async with serve(timeouts={"shutdown": 0.3}, **callbacks) as server:
        client = await server.open()
        await client.send(frame(TEXT, b"a") + frame(TEXT, b"b"))
        await journal.until("on_message")
        answering = asyncio.create_task(client.read_close())
        await turns()
        await server.service.stop(1001, "bye")
        assert await answering == (1001, "bye")

    assert journal.entries[3:] == [
        ("on_message", "a"),
        ("cancelled",),
        ("on_close", 1006, State.CLOSED),
    ]


@on_loop
async def test_handler_that_will_not_be_cancelled_is_left_behind() -> None:
    """It delays the end by a bounded time."""
    gate = asyncio.Event()
    begun = asyncio.Event()

    async def stick(_connection: Connection, _message: str) -> None:
        begun.set()
        while not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                continue

    loop = asyncio.get_running_loop()
    async with serve(timeouts={"shutdown": 0.1}, on_message=stick) as server:
        client = await server.open()
        await client.send_frame(TEXT, b"a")
        await begun.wait()
        client.vanish()
        begun_at = loop.time()
        await server.service.stop(1001, "")
        assert loop.time() - begun_at >= 1.0
        gate.set()


@pytest.mark.parametrize("is_own", [True, False])
@on_loop
async def test_a_callback_that_finds_its_client_gone_has_not_failed(
    is_own: bool,  # noqa: FBT001
) -> None:
    journal = Journal()
    gate = asyncio.Event()

    async def take(connection: Connection, _message: str) -> None:
        journal.note("on_message")
        await gate.wait()
        raise UnknownClient(connection.client_id if is_own else "other-1")

    async with serve(**journal.callbacks(on_message=take)) as server:
        client = await server.open()
        await client.send_frame(TEXT, b"a")
        await journal.until("on_message")
        client.reset()
        await eventually(lambda: journal.connections[0].state is State.CLOSED)
        gate.set()
        await journal.until("on_close")
        assert server.service.counts["callback_failed"] == (0 if is_own else 1)
        assert bool(journal.of("on_error")) is not is_own
        assert bool(server.lines(logging.ERROR)) is not is_own
