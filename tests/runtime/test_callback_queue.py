"""The tasks in which async callbacks run: their number, their context, their end."""

import asyncio
import contextlib
import contextvars
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import anyio
import anyio.to_thread
import pytest

from gateman import Connection, SendResult
from gateman.connection_interfaces import PAUSED_BY_QUEUE
from gateman.net.send_buffer import SendState
from gateman.runtime.callback_queue import CallbackQueues
from tests.support.loop import eventually, on_loop, turns
from tests.support.members import FakeLink
from tests.support.members import connection as bare_connection
from tests.support.raw import BINARY, TEXT, RawClient, frame
from tests.support.server import Journal, serve
from tests.support.slow import send_buffer_of


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


USER: contextvars.ContextVar[str] = contextvars.ContextVar("USER", default="nobody")
PLACE: contextvars.ContextVar[str] = contextvars.ContextVar("PLACE", default="nowhere")


@on_loop
async def test_context_is_the_connections_own() -> None:
    """A context variable lasts as long as the connection, and is not set for others."""

    async def start(_worker: object) -> None:
        PLACE.set("here")

    async def take(connection: Connection, message: str) -> None:
        connection.send(f"{USER.get()} {PLACE.get()}")
        USER.set(message)

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


# Messages that are handled at once: as the idle task, until the handler has to wait.

Take = Callable[[Connection, str], Coroutine[Any, Any, None]]


@contextlib.asynccontextmanager
async def resting(take: Take, journal: Journal) -> AsyncIterator[RawClient]:
    """Serve a client whose task is idle: its first message is answered, and the others handled."""

    async def answer_or_take(connection: Connection, message: str) -> None:
        if message == "first":
            journal.note("task", asyncio.current_task())
            connection.send("")
        else:
            await take(connection, message)

    async with serve(**journal.callbacks(on_message=answer_or_take)) as server:
        client = await server.open()
        await client.send_frame(TEXT, b"first")
        await client.read_frame()
        await turns()
        yield client
        server.lines()


async def sleep(_connection: Connection) -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def time_out(_connection: Connection) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()


async def wait_for(_connection: Connection) -> None:
    assert await asyncio.wait_for(asyncio.to_thread(len, "abc"), 10) == 3
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), 0.01)


async def group(_connection: Connection) -> None:
    async with asyncio.TaskGroup() as tasks:
        made = [tasks.create_task(asyncio.sleep(0, number)) for number in range(3)]
    assert [task.result() for task in made] == [0, 1, 2]

    async def fail() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.sleep(10))
            tasks.create_task(asyncio.to_thread(int, "x"))

    with pytest.raises(ExceptionGroup):
        await fail()


async def use_anyio(_connection: Connection) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.sleep, 0)
    with anyio.move_on_after(0.01) as scope:
        await anyio.sleep(10)
    assert scope.cancelled_caught
    assert await anyio.to_thread.run_sync(len, "abc") == 3
    with pytest.raises(TimeoutError), anyio.fail_after(0.01):
        await anyio.Event().wait()


async def share_a_future(_connection: Connection) -> None:
    """Await what another task begins to await before this one has its turn."""
    loop = asyncio.get_running_loop()
    shared: asyncio.Future[str] = loop.create_future()
    other: list[asyncio.Task[str]] = []

    async def wait() -> str:
        return await shared

    other.append(asyncio.create_task(wait()))
    loop.call_later(0.01, shared.set_result, "done")
    assert await shared == "done"
    assert await other[0] == "done"


async def wait_for_nothing(_connection: Connection) -> None:
    async with asyncio.timeout(10), asyncio.Lock():
        pass
    scope = anyio.CancelScope()
    with scope:
        assert anyio.get_current_task().name


async def cancel_itself(_connection: Connection) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(0)
    task.uncancel()


async def be_cancelled_soon(_connection: Connection) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_soon(task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(10)
    await asyncio.sleep(0)
    task.uncancel()


async def close(connection: Connection) -> None:
    connection.close(4000, "enough")
    await asyncio.sleep(0)


USES = [
    sleep,
    time_out,
    wait_for,
    group,
    use_anyio,
    share_a_future,
    wait_for_nothing,
    cancel_itself,
    be_cancelled_soon,
    close,
]


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
@on_loop
async def test_handler_runs_as_its_task_from_its_first_step_on(
    use: Callable[[Connection], Coroutine[Any, Any, None]],
) -> None:
    """Whatever asks for the current task finds one, always the same, and works with it."""
    journal = Journal()

    async def take(connection: Connection, message: str) -> None:
        begun_in = asyncio.current_task()
        USER.set(message)
        await use(connection)
        assert asyncio.current_task() is begun_in
        journal.note("task", begun_in)
        journal.note(message, USER.get())

    async with resting(take, journal) as client:
        await client.send(frame(TEXT, b"a") + frame(TEXT, b"b"))
        await journal.until("a", "a")
        if use is not close:
            await journal.until("b", "b")
        first, *others = journal.of("task")
        assert set(others) == {first}
        assert journal.of("on_error") == []


@on_loop
async def test_message_is_handled_at_once_if_nothing_waits() -> None:
    """A handler that does not wait needs no turn of the loop; one that waits holds the next up."""
    journal = Journal()
    gate = asyncio.Event()

    async def take(connection: Connection, message: str) -> None:
        journal.note(message, send_buffer_of(connection).state)
        if message == "b":
            await gate.wait()
        journal.note(f"{message} ends")

    async with resting(take, journal) as client:
        await client.send(b"".join(frame(TEXT, message) for message in (b"a", b"b", b"c")))
        await journal.until("b")
        # Corked is the time in which the frames of one read are handled.
        corked = (SendState.CORKED,)
        assert [*journal.of("a"), *journal.of("b")] == [corked, corked]
        await turns(5)
        assert journal.of("c") == []
        gate.set()
        await journal.until("c ends")
        names = [entry[0] for entry in journal.entries if entry[0] not in {"task", "on_message"}]
        assert names[-6:] == ["a", "a ends", "b", "b ends", "c", "c ends"]


@pytest.mark.parametrize("how", ["raises", "cancels itself", "awaits something cancelled"])
@on_loop
async def test_first_step_that_fails_costs_what_a_later_one_does(how: str) -> None:
    """An error closes the connection; a handler that cancels itself, only what waits."""
    journal = Journal()

    async def take(_connection: Connection, message: str) -> None:
        journal.note(message)
        if message == "a":
            match how:
                case "raises":
                    raise ValueError("a bug")
                case "cancels itself":
                    task = asyncio.current_task()
                    assert task is not None
                    task.cancel()
                case _:
                    future = asyncio.get_running_loop().create_future()
                    future.cancel()
                    await future

    async with resting(take, journal) as client:
        await client.send_frame(TEXT, b"a")
        await journal.until("a")
        if how == "cancels itself":
            for _ in range(2):
                await client.send_frame(TEXT, b"b")
            await journal.until("b", count=2)
        else:
            assert await client.read_close() == (1011, "internal error")
            ((error,),) = journal.of("on_error")
            problem = "ValueError: a bug", "RuntimeError: what it awaited was cancelled"
            assert error == problem[how != "raises"]


@on_loop
async def test_no_handler_runs_inside_of_another_task() -> None:
    """One that another task's step leads to waits for a turn of its own."""
    journal = Journal()
    connection = bare_connection(1, FakeLink())

    async def handle(_connection: Connection, item: str) -> None:
        journal.note("handled", item, asyncio.current_task())

    queues: CallbackQueues[Connection, str] = CallbackQueues(
        handle,
        lambda *_: None,
        lambda *_: pytest.fail("nothing is raised"),
        context_of=lambda _connection: contextvars.copy_context(),
        staying=lambda _connection, _unbegun, waiting: waiting,
    )
    queues.put(connection, "first")
    await journal.until("handled", "first")
    await turns()
    queues.deliver(connection, "from a task")
    assert len(journal.of("handled")) == 1
    await journal.until("handled", "from a task")
    await turns()
    loop = asyncio.get_running_loop()
    loop.call_soon(queues.deliver, connection, "from the loop")
    loop.call_soon(journal.note, "behind")
    await journal.until("behind")
    assert [entry[:2] for entry in journal.entries[-2:]] == [
        ("handled", "from the loop"),
        ("behind",),
    ]
    assert len({entry[1] for entry in journal.of("handled")}) == 1
    await queues.finish(1)


@on_loop
async def test_lasting_handler_of_a_large_message_pauses_its_client() -> None:
    """One that ends at once does not; so it holds this message, and one more at most."""
    journal = Journal()
    gate = asyncio.Event()
    paused: list[int] = []

    async def take(connection: Connection, message: str) -> None:
        journal.note("length", len(message))
        if message[0] == "w":
            await gate.wait()
        link: Any = connection.link
        paused.append(link._paused)  # noqa: SLF001

    async with resting(take, journal) as client:
        await client.send_frame(TEXT, b"a" * 100_000)
        await eventually(lambda: len(paused) == 1)
        await client.send_frame(TEXT, b"w" * 100_000)
        await journal.until("length", count=2)
        await turns()
        gate.set()
        await eventually(lambda: len(paused) == 2)
        assert paused == [0, PAUSED_BY_QUEUE]
        await client.send_frame(TEXT, b"a")
        await eventually(lambda: len(paused) == 3)
        assert paused[2] == 0
