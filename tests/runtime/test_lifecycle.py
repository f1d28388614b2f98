"""on_worker_start and on_worker_stop: plain or async, in time or not, and what they raise."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from gateman.runtime.lifecycle import place_of_start, started, stopped
from tests.support.loop import on_loop


def _made(seen: list[object], kind: str) -> Callable[[object], Any]:
    async def later(worker: object) -> None:
        await asyncio.sleep(0)
        seen.append(worker)

    made: dict[str, Callable[[object], Any]] = {
        "plain": seen.append,
        "async": later,
        "gives one": partial(later),
    }
    return made[kind]


@pytest.mark.parametrize("kind", ["plain", "async", "gives one"])
def test_both_are_called_with_the_worker(kind: str) -> None:
    """Also a plain function that gives something to await; without one, nothing happens."""
    seen: list[object] = []

    @on_loop
    async def call() -> None:
        deadline = asyncio.get_running_loop().time() + 60
        functions = {name: _made(seen, kind) for name in ("on_worker_start", "on_worker_stop")}
        await started(functions, "first")
        await stopped(functions, "last", "chat", deadline)
        await started({}, "nobody")
        await stopped({}, "nobody", "chat", deadline)

    call()
    assert seen == ["first", "last"]


@on_loop
async def test_what_on_worker_start_raises_is_the_callers() -> None:
    """A process that has not begun must not serve."""

    def fail(_worker: object) -> None:
        raise LookupError("no database")

    with pytest.raises(LookupError):
        await started({"on_worker_start": fail}, "chat")


@on_loop
async def test_where_on_worker_start_waits_is_known() -> None:
    """The innermost line of the user's; none before, behind, and where nothing is awaited."""
    goes_on = asyncio.Event()
    seen: list[str] = []

    async def connect() -> None:
        await asyncio.wait_for(goes_on.wait(), 60)

    async def start(_worker: object) -> None:
        await connect()

    task = asyncio.create_task(started({"on_worker_start": start}, "chat"))
    seen.append(place_of_start())
    await asyncio.sleep(0)
    seen.append(place_of_start())
    goes_on.set()
    await task
    seen.append(place_of_start())
    await started({"on_worker_start": lambda _: seen.append(place_of_start())}, "chat")

    place = f"on_worker_start, at {__file__}:{connect.__code__.co_firstlineno + 1}"
    assert seen == ["", place, "", ""]


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (LookupError("no database"), "chat: on_worker_stop failed"),
        (TimeoutError("the database's own"), "chat: on_worker_stop failed"),
        (None, "chat: on_worker_stop took longer than timeouts.shutdown"),
    ],
    ids=["raises", "raises a timeout of its own", "has no end"],
)
def test_nothing_keeps_a_process_from_stopping(
    fault: Exception | None, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and that is all."""

    async def stop(_worker: object) -> None:
        if fault is not None:
            raise fault
        await asyncio.Event().wait()

    @on_loop
    async def call() -> None:
        until = asyncio.get_running_loop().time() + (60 if fault else 0.01)
        await stopped({"on_worker_stop": stop}, "worker", "chat", until)

    call()
    assert [record.getMessage() for record in caplog.records] == [line]
