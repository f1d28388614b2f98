"""
Tests that are coroutines: each on a loop of its own, with a deadline, leaving nothing behind.

The loop is that of gateman's processes.
"""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

from gateman.runtime.process import new_event_loop

from .deadlines import TEST_TIMEOUT, TIMEOUT

MS = 0.001  # seconds

P = ParamSpec("P")


def on_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """
    Make a test of a coroutine function.

    Args:
        test: The coroutine function; it may take fixtures.

    Returns:
        A plain function that runs it, and fails when tasks or timers outlive it.
    """

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_run(test(*args, **kwargs)))

    return run


async def _run(test: Coroutine[Any, Any, None]) -> None:
    async with asyncio.timeout(TEST_TIMEOUT):
        await test
    await eventually(lambda: not leftovers())
    assert leftovers() == []


def leftovers() -> list[str]:
    """
    Tell what would keep the loop busy.

    Returns:
        The tasks but for the one that asks, and the timers.
    """
    loop = asyncio.get_running_loop()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    timers = [timer for timer in vars(loop)["_scheduled"] if not timer.cancelled()]
    return [repr(one) for one in (*tasks, *timers)]


async def eventually(condition: Callable[[], bool], *, within: float = TIMEOUT) -> None:
    """
    Give the loop turns until something is so; for what nobody announces.

    Args:
        condition: What is to become true.
        within: Seconds after which the test fails.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while not condition():
        assert loop.time() < deadline, "it did not happen"
        await asyncio.sleep(MS)


async def turns(count: int = 3) -> None:
    """
    Let what is ready on the loop happen: a server in this process reads what was sent to it.

    Args:
        count: How many turns of the loop.
    """
    for _ in range(count):
        await asyncio.sleep(0)
