"""The tasks in which async callbacks run: their number, their context, their end."""

import asyncio
import contextlib
import contextvars
import sys

import pytest

from gateman import Connection, SendResult
from tests.support.loop import eventually, on_loop, turns
from tests.support.raw import BINARY, TEXT, frame
from tests.support.server import Journal, serve


def tasks_of_handlers() -> list[asyncio.Task[object]]:
    """Find the tasks in which callbacks run, or have run just now."""
    tasks: set[asyncio.Task[object]] = asyncio.all_tasks()
    return [task for task in tasks if "CallbackQueues" in repr(task.get_coro())]


@on_loop
async def test_busy_connection_keeps_its_task() -> None:
    """Messages that follow soon run in the same task; an idle task ends by itself."""
    journal = Journal()

    async def take(connection: Connection, message: str) -> None:
        journal.note("task", asyncio.current_task())
        await turns(2)
        connection.send(message)

    async with serve(**journal.callbacks(on_message=take)) as server:
        client = await server.open()
        for _ in range(3):
            await client.send_frame(TEXT, b"a")
            await client.read_frame()
        (first,), *others = journal.of("task")
        assert others == [(first,), (first,)]
        await eventually(lambda: tasks_of_handlers() == [])
        await client.send_frame(TEXT, b"b")
        await client.read_frame()
        assert journal.of("task")[3:] != [(first,)]


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
@on_loop
async def test_task_ends_with_its_connection(*, is_async: bool) -> None:
    """At once, and behind on_close."""
    journal = Journal()

    async def take(connection: Connection, message: str) -> None:
        connection.send(message)

    def close(_connection: Connection, _code: int, _reason: str) -> None:
        journal.note("on_close", len(tasks_of_handlers()))

    async def close_later(connection: Connection, code: int, reason: str) -> None:
        await turns(3)
        close(connection, code, reason)

    callbacks = journal.callbacks(on_message=take, on_close=close_later if is_async else close)
    async with serve(**callbacks) as server:
        client = await server.open()
        await client.send_frame(TEXT, b"a")
        await client.read_frame()
        await client.send_close(1000)
        await journal.until("on_close", 1)
        await turns()
        assert tasks_of_handlers() == []


@on_loop
async def test_idle_task_holds_no_message() -> None:
    """An idle connection does not keep its last message in memory."""
    seen: list[bytes] = []

    async def take(connection: Connection, message: bytes) -> None:
        seen.append(message)
        connection.send(b"got it")

    async with serve(on_message=take) as server:
        client = await server.open()
        await client.send_frame(BINARY, bytes(1000))
        await client.read_frame()
        await turns()
        # The list's own, and the argument's.
        assert (len(tasks_of_handlers()), sys.getrefcount(seen[0])) == (1, 2)


VISITOR: contextvars.ContextVar[str] = contextvars.ContextVar("VISITOR", default="nobody")
PLACE: contextvars.ContextVar[str] = contextvars.ContextVar("PLACE", default="nowhere")


@on_loop
async def test_context_is_the_connections_own() -> None:
    """A context variable lasts as long as the connection, and is not set for others."""

    async def start(_worker: object) -> None:
        PLACE.set("here")

    async def take(connection: Connection, message: str) -> None:
        connection.send(f"{VISITOR.get()} {PLACE.get()}")
        VISITOR.set(message)

    async with serve(on_worker_start=start, on_message=take) as server:
        clients = [await server.open() for _ in range(2)]
        for name, client in zip((b"ann", b"bob"), clients, strict=True):
            await client.send_frame(TEXT, name)
            assert (await client.read_frame()).payload == b"nobody here"
        await eventually(lambda: tasks_of_handlers() == [])
        for name, client in zip((b"ann", b"bob"), clients, strict=True):
            await client.send_frame(TEXT, b"")
            assert (await client.read_frame()).payload == name + b" here"


@on_loop
async def test_handlers_have_a_task_of_their_own_to_cancel() -> None:
    """Timeouts, which need one, work; and one that is caught is not left to the next message."""
    journal = Journal()

    async def take(_connection: Connection, message: str) -> None:
        task = asyncio.current_task()
        assert task is not None
        journal.note("cancelling", message, task.cancelling())
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError:
            journal.note("timeout", message)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        journal.note("caught", message)

    async with serve(**journal.callbacks(on_message=take)) as server:
        client = await server.open()
        for message in (b"a", b"b"):
            await client.send_frame(TEXT, message)
            await journal.until("caught", message.decode())

    assert journal.of("cancelling") == [("a", 0), ("b", 0)]
    assert journal.of("timeout") == [("a",), ("b",)]


@on_loop
async def test_task_cancelled_before_it_began_costs_no_on_close() -> None:
    """Its callback does not run, and later ones do."""
    journal = Journal()

    def take(connection: Connection, _message: str) -> None:
        before = asyncio.all_tasks()
        while connection.send(bytes(5000)) is not SendResult.DROPPED:
            pass
        for task in asyncio.all_tasks() - before:
            journal.note("cancelled")
            task.cancel()

    async def fill(_connection: Connection) -> None:
        journal.note("on_buffer_full")

    callbacks = journal.callbacks(on_message=take, on_buffer_full=fill)
    async with serve(limits={"max_send_buffer_size": 100_000}, **callbacks) as server:
        client = await server.open(receive_buffer=4096)
        await client.send_frame(TEXT, b"a")
        await journal.until("cancelled")
        client.vanish()
        await journal.until("on_close", 1006)
        assert (journal.of("cancelled"), journal.of("on_buffer_full")) == ([()], [])
        server.lines()


@pytest.mark.parametrize("is_idle", [False, True], ids=["working", "at rest"])
@on_loop
async def test_task_that_others_cancel_is_followed_by_another(*, is_idle: bool) -> None:
    """Waiting messages are lost, as at the end; later ones are read and handled."""
    journal = Journal()
    gate = asyncio.Event()

    async def take(_connection: Connection, message: str) -> None:
        journal.note("on_message", message[:1])
        await gate.wait()
        journal.note("done", message[:1])

    async with serve(**journal.callbacks(on_message=take)) as server:
        client = await server.open()
        # So large that reading pauses while they wait.
        await client.send(frame(TEXT, b"a" * 50_000) + frame(TEXT, b"b" * 50_000))
        await journal.until("on_message", "a")
        if is_idle:
            gate.set()
            await journal.until("done", "b")
            await turns()
        (task,) = tasks_of_handlers()
        task.cancel()
        await turns()
        gate.set()
        await client.send_frame(TEXT, b"c")
        await journal.until("done", "c")
        expected = ["a", "b", "c"] if is_idle else ["c"]
        assert journal.of("done") == [(message,) for message in expected]
