"""Calls ``on_worker_start`` and ``on_worker_stop``, of all kinds of workers."""

import asyncio
import inspect
import sysconfig
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..config.callbacks import Function
from ..log import RateLimitedLogger, logger

# The least share of timeouts.shutdown for on_worker_stop. It runs last, and must be able to close
# its resources even if clients and handlers have used all the rest.
_LAST_SHARE = 0.2

# Python's own folders, and those of installed packages.
_NOT_THE_USERS = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib"))

_PACKAGE = str(Path(__file__).parents[1])

# The name of what a start waits for, and its coroutine.
_start: tuple[str, Any] | None = None


async def started(functions: Mapping[str, Function], worker: object) -> None:
    """Call ``on_worker_start``, and let its exceptions pass."""
    function = functions.get("on_worker_start")
    result = None if function is None else function(worker)
    if inspect.isawaitable(result):
        with waiting_for("on_worker_start", result):
            await result


@contextmanager
def waiting_for(what: str, awaitable: object) -> Iterator[None]:
    """Let :func:`place_of_start` look where an awaitable waits, while the body runs."""
    global _start  # noqa: PLW0603 - a process starts once
    _start = (what, awaitable)
    try:
        yield
    finally:
        _start = None


def place_of_start() -> str:
    """Return where in the application's code the start waits; empty if it does not."""
    if _start is None:
        return ""
    what, awaited = _start
    place = ""
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is not None and not frame.f_code.co_filename.startswith(_NOT_THE_USERS):
            place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return f"{what}, at {place}" if place else ""


def user_location(error: BaseException) -> str:
    """Return the innermost line of the application's own code that an error has passed."""
    lines = [
        f"{frame.f_code.co_filename}:{number}"
        for frame, number in traceback.walk_tb(error.__traceback__)
        if not frame.f_code.co_filename.startswith((*_NOT_THE_USERS, _PACKAGE, "<frozen "))
    ]
    return lines[-1] if lines else ""


def last_share(
    functions: Mapping[str, Function], seconds: float, *, has_application: bool = False
) -> float:
    """Return how many of the seconds to stop are reserved for what runs at the end."""
    return seconds * _LAST_SHARE if has_application or "on_worker_stop" in functions else 0


async def stopped(
    functions: Mapping[str, Function], worker: object, name: object, deadline: float
) -> None:
    """Call ``on_worker_stop``; an exception or a timeout is logged and stops nothing."""
    function = functions.get("on_worker_stop")
    scope = asyncio.timeout_at(deadline)
    try:
        async with scope:
            result = None if function is None else function(worker)
            if inspect.isawaitable(result):
                await result
    except Exception as error:  # noqa: BLE001 - an application's error does not prevent the stop
        if scope.expired():
            logger.error("%s: on_worker_stop took longer than timeouts.shutdown", name)
        else:
            RateLimitedLogger().error(f"{name}: on_worker_stop failed", error, 0)
