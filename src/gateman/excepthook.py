"""
Shows an uncaught error of gateman as one sentence, and ends the program with its exit code.

Only programs that run a service call :func:`install`. Programs that import gateman for other
purposes keep their hook.
"""

import contextlib
import os
import sys
import threading
from pathlib import Path
from types import TracebackType

from .errors import CommandError, ConfigError
from .log import is_json, write_to_user

# A user's mistake is in none of these modules.
_NOT_THE_USERS = {__package__, "click", *sys.stdlib_module_names}
_FOLDER = str(Path(__file__).parent) + os.sep


def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show an uncaught exception; installed as ``sys.excepthook``."""
    if isinstance(error, KeyboardInterrupt) and _has_our_frame(trace):
        # Ctrl-C before the service runs; Python ends the program with SIGINT.
        return
    if not isinstance(error, (ConfigError, CommandError)):
        if is_json() and isinstance(error, Exception):
            write_to_user(f"{kind.__name__}: {error}", error=error)
        else:
            _previous(kind, error, trace)
        return
    place = ""
    # A CommandError is not about a line of the script.
    while trace is not None and isinstance(error, ConfigError):
        # By the module: the __init__ of a dataclass is in the file "<string>". By the file: the
        # program of a process is ours, and called __main__.
        module = str(trace.tb_frame.f_globals.get("__name__"))
        file = trace.tb_frame.f_code.co_filename
        if module.partition(".")[0] not in _NOT_THE_USERS and not file.startswith(_FOLDER):
            place = f"{file}:{trace.tb_lineno}: "
        trace = trace.tb_next
    write_to_user(f"{place}{error}")
    # At a prompt the session continues.
    if not (sys.flags.interactive or hasattr(sys, "ps1")):
        # CPython uses this exit code; with a return it would be 1.
        raise SystemExit(int(error.exit_code))


def _has_our_frame(trace: TracebackType | None) -> bool:
    while trace is not None:
        if str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0] == __package__:
            return True
        trace = trace.tb_next
    return False


_previous = sys.excepthook


def _in_thread(arguments: threading.ExceptHookArgs) -> None:
    # It ends the thread and not the program, whose exit code the main thread decides.
    with contextlib.suppress(SystemExit):
        if isinstance(arguments.exc_value, (ConfigError, CommandError)):
            show(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)
            return
        threading.__excepthook__(arguments)


def install() -> None:
    """Show uncaught errors of gateman; the previous hook shows others."""
    global _previous  # noqa: PLW0603 - there is one hook
    if sys.excepthook is not show:
        _previous = sys.excepthook
        sys.excepthook = show
        threading.excepthook = _in_thread
