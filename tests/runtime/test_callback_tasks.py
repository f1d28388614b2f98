"""Tasks of callbacks: how they end with the process, and who has cancelled one."""

import asyncio
import inspect

from gateman.runtime.callback_tasks import (
    CallbackTasks,
    cancellation_error,
    error_of,
    take_back_cancellation,
)
from tests.support.loop import on_loop


async def _forever() -> None:
    await asyncio.Event().wait()


@on_loop
async def test_wait_includes_tasks_that_begin_meanwhile() -> None:
    """One that was cancelled before its first step is replaced while the process waits."""
    tasks = CallbackTasks()
    ended: list[str] = []

    async def last() -> None:
        ended.append("last")

    tasks.start(_forever(), ended=lambda _task: tasks.start(last())).cancel()
    await tasks.wait(60)

    assert (ended, len(tasks)) == (["last"], 0)


@on_loop
async def test_wait_ends_with_its_timeout_and_cancel_ends_what_runs() -> None:
    tasks = CallbackTasks()
    task = tasks.start(_forever())
    await tasks.wait(0)
    is_running = not task.done()
    await tasks.cancel()

    assert (is_running, task.cancelled(), len(tasks)) == (True, True, 0)


@on_loop
async def test_coroutine_of_a_task_that_never_began_is_closed() -> None:
    """Otherwise Python warns that it was never awaited."""
    tasks = CallbackTasks()
    running = _forever()

    async def work() -> None:
        await running

    tasks.start(work(), awaits=running)
    await tasks.cancel()

    assert inspect.getcoroutinestate(running) == inspect.CORO_CLOSED


@on_loop
async def test_cancellation_of_the_task_is_told_from_that_of_what_it_awaits() -> None:
    seen: list[tuple[bool, str]] = []

    async def work(awaited: "asyncio.Future[None]") -> None:
        try:
            await awaited
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            seen.append((take_back_cancellation(task), str(cancellation_error(error))))
            assert task is not None
            assert task.cancelling() == 0

    tasks = CallbackTasks()
    for cancels_task in (True, False):
        awaited = asyncio.get_running_loop().create_future()
        task = tasks.start(work(awaited))
        await asyncio.sleep(0)
        (task if cancels_task else awaited).cancel()
        await tasks.wait(60)

    assert seen == [
        (True, "what it awaited was cancelled"),
        (False, "what it awaited was cancelled"),
    ]


@on_loop
async def test_only_the_cancellation_of_its_own_task_is_raised_again() -> None:
    seen: list[str] = []

    async def work(awaited: "asyncio.Future[None]") -> None:
        try:
            await awaited
        except (asyncio.CancelledError, Exception) as raised:  # noqa: BLE001 - what a runner of callbacks does
            seen.append(repr(error_of(raised)))

    tasks = CallbackTasks()
    for end in ("cancel", "fail", "cancel the task"):
        awaited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = tasks.start(work(awaited))
        await asyncio.sleep(0)
        if end == "fail":
            awaited.set_exception(ValueError("no"))
        else:
            (awaited if end == "cancel" else task).cancel()
        await tasks.wait(60)

    assert task.cancelled()
    assert seen == [repr(RuntimeError("what it awaited was cancelled")), repr(ValueError("no"))]
