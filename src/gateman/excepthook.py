"""How a ``ConfigError`` that nobody catches ends a program: one sentence, exit code 78."""

import sys
from pathlib import Path
from types import TracebackType

from .errors import ConfigError


def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """
    Show an uncaught exception; the value of ``sys.excepthook`` once gateman is imported.

    Args:
        kind: Its class.
        error: The exception.
        trace: Where it comes from. The innermost line that is not gateman's is where the user
            wrote what is wrong, and is named.
    """
    if not isinstance(error, ConfigError):
        _previous(kind, error, trace)
        return
    place = ""
    package = str(Path(__file__).parent)
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if not name.startswith((package, "<frozen ")):
            place = f"{name}:{trace.tb_lineno}: "
        trace = trace.tb_next
    sys.stderr.write(f"{place}{error}\n")
    # CPython honours this from within a hook; to return would mean exit code 1.
    raise SystemExit(int(error.exit_code))


_previous = sys.excepthook
sys.excepthook = show
