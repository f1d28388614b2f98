"""
How an error of a command that nobody catches ends a program: one sentence, its exit code.

Only a program that is a service's command line shows errors so: it asks for :func:`install`. One
that merely imports gateman keeps the hook that it has.
"""

import contextlib
import sys
import threading
from types import TracebackType

from .errors import CommandError, ConfigError
from .log import is_json, write_beside

# Modules in which no user's mistake is: ours, and those below us, such as asyncio.
_NOT_THE_USERS = {__package__, "click", *sys.stdlib_module_names}


def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show an uncaught exception; the value of ``sys.excepthook`` once it is installed."""
    if isinstance(error, KeyboardInterrupt) and _passes_us(trace):
        # Ctrl-C before the service has begun; Python itself ends with SIGINT.
        return
    if not isinstance(error, (ConfigError, CommandError)):
        if is_json() and isinstance(error, Exception):
            write_beside(f"{kind.__name__}: {error}", error=error)
        else:
            _previous(kind, error, trace)
        return
    place = ""
    # A command's is about no line.
    while trace is not None and isinstance(error, ConfigError):
        # Not the file's name: the __init__ of a dataclass is in the file "<string>".
        module = str(trace.tb_frame.f_globals.get("__name__"))
        if module.partition(".")[0] not in _NOT_THE_USERS:
            place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}: "
        trace = trace.tb_next
    write_beside(f"{place}{error}")
    # At a prompt one goes on typing.
    if not (sys.flags.interactive or hasattr(sys, "ps1")):
        # CPython honours this from within a hook; to return would mean exit code 1.
        raise SystemExit(int(error.exit_code))


def _passes_us(trace: TracebackType | None) -> bool:
    while trace is not None:
        if str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0] == __package__:
            return True
        trace = trace.tb_next
    return False


_previous = sys.excepthook


def _in_thread(arguments: threading.ExceptHookArgs) -> None:
    # It ends the thread, and not the program: the exit code is the main thread's.
    with contextlib.suppress(SystemExit):
        if isinstance(arguments.exc_value, (ConfigError, CommandError)):
            show(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)
            return
        threading.__excepthook__(arguments)


def install() -> None:
    """Show uncaught exceptions from now on; others are handed on to the hook that was there."""
    global _previous  # noqa: PLW0603 - there is one hook
    if sys.excepthook is not show:
        _previous = sys.excepthook
        sys.excepthook = show
        threading.excepthook = _in_thread
