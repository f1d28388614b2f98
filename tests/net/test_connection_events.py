"""The interface between the network and the worker, and who is on its two sides."""

import asyncio
import inspect

from gateman.net.connection_events import ConnectionEvents
from gateman.runtime.worker_service import WorkerService
from tests.support.loop import on_loop
from tests.support.server import serve


def names() -> list[str]:
    """Tell what the interface has."""
    return [
        name
        for name, value in vars(ConnectionEvents).items()
        if inspect.isfunction(value) and name[0] != "_"
    ]


@on_loop
async def test_service_is_told_everything() -> None:
    """Its type is checked here, and that nothing of it waits: all return at once."""
    async with serve() as server:
        events: ConnectionEvents = server.service

        assert callable(events.deliver)
        waiting = [name for name in names() if inspect.iscoroutinefunction(getattr(events, name))]
        assert waiting == []


def test_every_event_is_documented() -> None:
    """Who implements it reads here when it is called."""
    assert [name for name in names() if not inspect.getdoc(getattr(ConnectionEvents, name))] == []


def test_parameters_are_those_of_the_interface() -> None:
    """Named the same on both sides."""
    for name in names():
        declared = inspect.signature(getattr(ConnectionEvents, name)).parameters
        implemented = inspect.signature(getattr(WorkerService, name)).parameters

        assert list(implemented) == list(declared)


@on_loop
async def test_causes_are_counted_and_lines_are_sampled() -> None:
    """What is noticed often is one line; what has no line is counted only."""
    async with serve(name="chat") as server:
        for _ in range(5):
            server.service.noticed("cause", "something happened")
            server.service.noticed("other", "")
        await asyncio.sleep(0)

        assert (server.service.counts["cause"], server.service.counts["other"]) == (5, 5)
        assert server.lines() == ["chat: something happened"]
