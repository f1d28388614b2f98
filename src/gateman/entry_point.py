"""
Where a program may run its service: once, in its main thread, and not while it is imported.

Elsewhere it would hang without a word, as under a test runner that imports it, or fail with an
error of signals, event loops or processes that does not say what to write.
"""

import sys
import threading
from types import FrameType

from .errors import ConfigError

_GUARD = "write `if __name__ == '__main__':` above it, so that only the program itself runs it"

# What ``__name__`` is in a program that multiprocessing runs again, in a process that it spawns.
_RUN_AGAIN = "__mp_main__"


def check_call(name: str) -> None:
    """
    Check that a service may be run by the code that asks for it.

    Raises:
        ConfigError: It may not, and what to do.
    """
    module = _imported(sys._getframe())  # noqa: SLF001 - `inspect` has the same, and costs 20 ms
    if module == _RUN_AGAIN or _is_child_of_multiprocessing():
        raise ConfigError(
            f"{name} was called in a process that multiprocessing has started, which runs the"
            " program again",
            _GUARD,
        )
    if threading.current_thread() is not threading.main_thread():
        raise ConfigError(
            f"{name} was called in a thread", "call it in the main thread, which gets the signals"
        )
    if _has_event_loop():
        raise ConfigError(
            f"{name} was called while an event loop runs",
            "call it outside of async functions, as each process runs an event loop of its own; on"
            " this loop, `async with gateman.serve(worker):` serves",
        )
    if module:
        raise ConfigError(f"{name} was called while {module!r} was imported", _GUARD)


def _is_child_of_multiprocessing() -> bool:
    loaded = sys.modules.get("multiprocessing.process")
    return loaded is not None and loaded.parent_process() is not None


def _has_event_loop() -> bool:
    # Not imported here: a master needs none of it.
    loaded = sys.modules.get("asyncio.events")
    return loaded is not None and loaded._get_running_loop() is not None  # noqa: SLF001 - no error


def _imported(frame: FrameType | None) -> str:
    """Name the module that is being imported; empty if the program itself runs."""
    while frame is not None:
        name = frame.f_globals.get("__name__", "__main__")
        if frame.f_code.co_name == "<module>" and name != "__main__":
            return str(name)
        frame = frame.f_back
    return ""
