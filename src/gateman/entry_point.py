"""
Checks that a program runs its service in its main thread, and not while it is imported.

Elsewhere the service would hang, as under a test runner that imports the program, or fail with an
error of signals, event loops or processes that does not say what to change.
"""

import atexit
import sys
import threading
from collections.abc import Callable
from types import FrameType

from .errors import ConfigError
from .log import write_to_user

_GUARD = "write `if __name__ == '__main__':` above it, so that only the program itself runs it"

# The ``__name__`` of a program that multiprocessing runs again, in a process that it spawns.
_RUN_AGAIN = "__mp_main__"


def check_call(name: str) -> None:
    """Refuse a call of the function ``name`` that would not work."""
    module = _imported(sys._getframe())  # noqa: SLF001 - importing `inspect` for it takes 20 ms
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


def remind_at_exit(forgotten: Callable[[], str]) -> None:
    """At the end of the program, say if a worker is ``forgotten``; once, however often called."""
    atexit.unregister(_remind)
    atexit.register(_remind, forgotten)


def _remind(forgotten: Callable[[], str]) -> None:
    name = forgotten()
    # Python sets this for an uncaught error, which says already why nothing was run.
    has_failed = hasattr(sys, "last_value")
    # At a prompt, everything may be declared and nothing run.
    is_prompt = bool(sys.flags.interactive) or hasattr(sys, "ps1")
    # As --help, for which a program that reads its own options ends before it runs something.
    has_option = sys.argv[1:2] != [] and sys.argv[1].startswith("-")
    # A child may have run it.
    has_children = "multiprocessing.process" in sys.modules
    if name and not (has_failed or is_prompt or has_option or has_children):
        write_to_user(
            f"the worker {name!r} is declared, and nothing runs it: call Worker.run_all() at the"
            " end of the program."
        )


def _is_child_of_multiprocessing() -> bool:
    loaded = sys.modules.get("multiprocessing.process")
    return loaded is not None and loaded.parent_process() is not None


def _has_event_loop() -> bool:
    # Not imported here, as a master does not need asyncio.
    loaded = sys.modules.get("asyncio.events")
    if loaded is None:
        return False
    try:
        loaded.get_running_loop()
    except RuntimeError:
        return False
    return True


def _imported(frame: FrameType | None) -> str:
    """Return the module that is being imported; empty if the program itself runs."""
    while frame is not None:
        name = frame.f_globals.get("__name__", "__main__")
        if frame.f_code.co_name == "<module>" and name != "__main__":
            return str(name)
        frame = frame.f_back
    return ""
