"""Runs what blocks, such as the resolver, in a thread that holds nothing up, not even the exit."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def in_background(function: Callable[[], T], timeout: float) -> T:  # noqa: ASYNC109
    """Run a function in a thread of its own, which is left alone after a ``TimeoutError``."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def take(result: T | None, error: Exception | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, raised = None, None
        try:
            result = function()
        except Exception as error:  # noqa: BLE001 - it is raised where it is awaited
            raised = error
        # The loop may be closed by now.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(take, result, raised)

    threading.Thread(target=run, daemon=True, name="gateman-doctor").start()
    return await asyncio.wait_for(answer, timeout)
