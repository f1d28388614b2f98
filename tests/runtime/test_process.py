"""Workers side by side in one process, and what its event loop is given."""

import asyncio
import logging
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from typing import Any

import pytest
from websockets.asyncio.client import connect

from gateman import Worker
from gateman.bus.memory import MemoryBroker, MemoryBus
from gateman.cluster.hub import Hub
from gateman.listen import ListenAddress
from gateman.net import sockets
from gateman.net.event_loop import EventLoop
from gateman.runtime.process import StartFailed, new_event_loop, serving
from gateman.runtime.service_maker import service_maker
from gateman.runtime.worker_service import WorkerService
from tests.support.loop import on_loop, turns
from tests.support.server import Journal, serve


def worker(**declared: Any) -> Worker:
    """Declare one."""
    made = Worker("websocket://127.0.0.1:0", timeouts={"ping_interval": None, "shutdown": 1.0})
    for name, value in declared.items():
        setattr(made, name, value)
    return made


@asynccontextmanager
async def side_by_side(*workers: Worker) -> AsyncIterator[list[tuple[WorkerService, int]]]:
    """Serve workers while the block runs; gives each service and its port."""
    bound = [sockets.bind(ListenAddress.parse(one.listen)) for one in workers]
    makers: list[Callable[[], WorkerService]] = [
        service_maker(one, now=time.time()) for one in workers
    ]
    try:
        async with serving(bound, makers) as services:
            ports = [found[0].getsockname()[1] for found in bound]
            yield list(zip(services, ports, strict=True))
    finally:
        for found in bound:
            sockets.release(found)


# Their event loop.


@pytest.mark.filterwarnings("ignore:'asyncio.*olicy' is deprecated:DeprecationWarning")
def test_the_loop_is_ours_unless_a_program_sets_another() -> None:
    """The policy that asyncio has by itself counts as none."""

    class Own(asyncio.SelectorEventLoop):
        pass

    class Policy(asyncio.DefaultEventLoopPolicy):
        _loop_factory = Own

    before = asyncio.get_event_loop_policy()
    kinds = []
    try:
        for policy in (None, Policy()):
            asyncio.set_event_loop_policy(policy)
            with closing(new_event_loop()) as loop:
                kinds.append(type(loop))
    finally:
        asyncio.set_event_loop_policy(before)

    assert kinds == [EventLoop, Own]


# Workers side by side.


@on_loop
async def test_workers_are_served_side_by_side() -> None:
    """Each on its own port with its own callbacks, and all are stopped."""
    journal = Journal()
    workers = [
        worker(
            name=name,
            on_open=lambda connection: journal.note(connection.worker.name, connection.id),
            on_worker_stop=lambda stopped: journal.note("stops", stopped.name),
        )
        for name in ("one", "other")
    ]
    async with side_by_side(*workers) as served:
        clients = [await connect(f"ws://127.0.0.1:{port}") for _, port in served]
        assert journal.entries == [("one", 1), ("other", 1)]
    for client in clients:
        await client.wait_closed()

    assert [client.close_code for client in clients] == [1001, 1001]
    assert sorted(journal.of("stops")) == [("one",), ("other",)]


@on_loop
async def test_worker_that_cannot_start_stops_the_others() -> None:
    """No service is left half started, and the error names the service that failed."""
    journal = Journal()

    def fail(_worker: Worker) -> None:
        raise LookupError("no database")

    workers = [
        worker(name="one", on_worker_stop=lambda _: journal.note("one stops")),
        worker(name="other", on_worker_start=fail),
        worker(name="third", on_worker_start=lambda _: journal.note("third starts")),
    ]
    with pytest.raises(StartFailed) as caught:
        async with side_by_side(*workers):
            raise AssertionError

    assert str(caught.value.service) == "other"
    assert repr(caught.value.__cause__) == "LookupError('no database')"
    assert journal.entries == [("one stops",)]


@on_loop
async def test_start_may_be_given_up() -> None:
    """A process that is told to end does not wait for an on_worker_start that does not end."""
    journal = Journal()
    begun = asyncio.Event()

    async def never(_worker: Worker) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def run() -> None:
        first = worker(on_worker_stop=lambda _: journal.note("stopped"))
        async with side_by_side(first, worker(on_worker_start=never)):
            raise AssertionError

    starting = asyncio.create_task(run())
    await begun.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting

    assert journal.entries == [("stopped",)]


# The loop's exception handler.


@on_loop
async def test_a_cleanup_is_not_interrupted() -> None:
    """Cancelled while it ends after a failed start, a process still leaves the bus."""
    begun, may_end = asyncio.Event(), asyncio.Event()
    left: list[str] = []

    class Slow(MemoryBus):
        async def stop(self) -> None:
            begun.set()
            await may_end.wait()
            await super().stop()
            left.append("the bus")

    async def run() -> None:
        made = service_maker(worker(on_worker_start=lambda _: 1 / 0), now=time.time())
        async with serving([[]], [made], bus=Slow(broker=MemoryBroker()), hub=Hub()):
            raise AssertionError("it serves")

    task = asyncio.ensure_future(run())
    await begun.wait()
    for _ in range(2):
        task.cancel()
        await turns()
    assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert left == ["the bus"]


@on_loop
async def test_fault_on_the_loop_is_one_line_with_its_traceback() -> None:
    """However often it happens, the log has it once in a while."""

    def fail() -> None:
        raise LookupError("bug")

    async with serve() as server:
        for _ in range(20):
            asyncio.get_running_loop().call_soon(fail)
        await turns(5)

        (line,) = server.lines(logging.ERROR)
        assert line.startswith("Exception in callback ")
        assert line.endswith("<- LookupError('bug')")


@on_loop
async def test_peers_that_vanish_are_no_faults() -> None:
    """They are reported as an exception, or as the class of one."""
    async with serve() as server:
        loop = asyncio.get_running_loop()
        for exception in (ConnectionResetError, ConnectionResetError(), BrokenPipeError()):
            loop.call_exception_handler({"message": "SSL handshake failed", "exception": exception})

        assert server.lines(logging.ERROR) == []


@on_loop
async def test_tasks_of_handlers_fail_in_one_line_for_each_place() -> None:
    """Also for a connection error that is not a client's; one bug does not hide another."""

    async def lose() -> None:
        raise ConnectionResetError("the database is gone")

    async def fail() -> None:
        raise LookupError("bug")

    def drop() -> None:
        raise BrokenPipeError("the pipe is gone")

    async with serve() as server:
        for _ in range(3):
            for coroutine in (lose(), fail()):
                task = asyncio.create_task(coroutine)
                await asyncio.wait([task])
                del task
            asyncio.get_running_loop().call_soon(drop)
            await turns()

        lost, failed, dropped = server.lines(logging.ERROR)
        never = "Task exception was never retrieved <- "
        assert lost == f"{never}ConnectionResetError('the database is gone')"
        assert failed == f"{never}LookupError('bug')"
        assert dropped.endswith("<- BrokenPipeError('the pipe is gone')")


@on_loop
async def test_fault_without_an_exception_is_a_line() -> None:
    """Some are reported with a message only, or with nothing."""
    async with serve() as server:
        loop = asyncio.get_running_loop()
        loop.call_exception_handler({"message": "something odd"})
        loop.call_exception_handler({"exception": LookupError})

        assert server.lines(logging.ERROR) == ["something odd", "an error on the event loop"]


# Open files.


def test_as_many_files_may_be_open_as_the_system_allows() -> None:
    """The soft limit is raised to the hard one; in a process of its own, for it stays."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    program = (
        "import resource\n"
        "from gateman.runtime.process import allow_open_files\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, (100, {hard}))\n"
        "allow_open_files()\n"
        "print(*resource.getrlimit(resource.RLIMIT_NOFILE))\n"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout

    assert printed.split() == [str(hard)] * 2
