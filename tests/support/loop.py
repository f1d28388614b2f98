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
        The tasks but for the one that asks, the timers, and the calls that are due, such as
        the end of a transport that was closed.
    """
    loop = asyncio.get_running_loop()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    handles = (*vars(loop)["_scheduled"], *vars(loop)["_ready"])
    return [repr(one) for one in (*tasks, *(one for one in handles if not one.cancelled()))]


async def eventually(condition: Callable[[], bool], *, within: float = TIMEOUT) -> None:
    """
    Give the loop turns until something is so; for what nobody announces.

    What takes long is asked for less and less often: some questions read files or collect garbage.

    Args:
        condition: What is to become true.
        within: Seconds after which the test fails.
    """
    loop = asyncio.get_running_loop()
    begun_at = loop.time()
    while not condition():
        waited = loop.time() - begun_at
        assert waited < within, "it did not happen"
        await asyncio.sleep(min(max(MS, waited / 10), 20 * MS))


async def turns(count: int = 3) -> None:
    """
    Let what is ready on the loop happen: a server in this process reads what was sent to it.

    Args:
        count: How many turns of the loop.
    """
    for _ in range(count):
        await asyncio.sleep(0)


# Callbacks of `until_idle` that are ready: they are nothing that the loop has to do.
_checks: set[asyncio.Handle] = set()


async def until_idle() -> None:
    """
    Wait until the loop has nothing to do: what was sent is read, and what follows from it has run.

    Timers that are not due do not count, nor does a socket that nobody reads from.
    """
    loop = asyncio.get_running_loop()
    await _idle(loop)
    # The kernel may hand over what was just sent a moment later.
    await asyncio.sleep(MS)
    await _idle(loop)


async def _idle(loop: asyncio.AbstractEventLoop) -> None:
    idle = loop.create_future()
    inside = vars(loop)

    def schedule() -> None:
        handle: asyncio.Handle = loop.call_soon(lambda: check(handle))
        _checks.add(handle)

    def check(handle: asyncio.Handle) -> None:
        _checks.remove(handle)
        if _checks.issuperset(inside["_ready"]) and not inside["_selector"].select(0):
            if not idle.done():
                idle.set_result(None)
        elif not idle.done():
            schedule()

    schedule()
    await idle
