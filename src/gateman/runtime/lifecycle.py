"""Calls ``on_worker_start`` and ``on_worker_stop``, of all kinds of workers."""

import asyncio
import inspect
import sysconfig
from collections.abc import Mapping
from typing import Any

from ..config.callbacks import Function
from ..log import RateLimitedLogger, logger

# The least share of timeouts.shutdown for on_worker_stop. It runs last, and must be able to close
# its resources even if clients and handlers have used all the rest.
_LAST_SHARE = 0.2

# Python's own folders, and those of installed packages.
_NOT_THE_USERS = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib"))

_start: Any = None


async def started(functions: Mapping[str, Function], worker: object) -> None:
    """Call ``on_worker_start``, and let its exceptions pass."""
    function = functions.get("on_worker_start")
    result = None if function is None else function(worker)
    if inspect.isawaitable(result):
        global _start  # noqa: PLW0603 - a process starts once
        _start = result
        try:
            await result
        finally:
            _start = None


def place_of_start() -> str:
    """Return the application's line at which ``on_worker_start`` waits; empty if it does not."""
    place, awaited = "", _start
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is not None and not frame.f_code.co_filename.startswith(_NOT_THE_USERS):
            place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return place


def last_share(functions: Mapping[str, Function], seconds: float) -> float:
    """Return how many of the seconds to stop are reserved for ``on_worker_stop``."""
    return seconds * _LAST_SHARE if "on_worker_stop" in functions else 0


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
