"""
How processes end, and for how long, in words. PURE.

Exit codes carry policy: three of them say that another attempt would end the same way.
"""

from collections.abc import Iterable
from signal import Signals

from ..errors import ExitCode

_DESCRIPTIONS = {
    ExitCode.STOPPED: "ended by itself",
    ExitCode.CRASHED: "ended with exit code 1",
    ExitCode.LOAD_FAILED: "could not load the script",
    ExitCode.CONFIG: "refused its configuration",
}

_FINAL = {ExitCode.CRASHED, ExitCode.LOAD_FAILED, ExitCode.CONFIG}


def exit_description(status: int) -> str:
    """Say how a process ended."""
    if status >= 0:
        return _DESCRIPTIONS.get(status, f"ended with exit code {status}")  # type: ignore[call-overload, no-any-return]
    try:
        name = Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"was killed by {name}"


def is_final(status: int) -> bool:
    """Tell whether a process that never served said by its exit code that it never will."""
    return status in _FINAL


def duration(seconds: float) -> str:
    """Write a time span with two digits or so."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 2 * 86400:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} days"


def indented(lines: Iterable[str]) -> str:
    """Put lines below a sentence."""
    return "".join(f"\n    {line}" for line in lines)


def size(count: int) -> str:
    """Write an amount of memory."""
    return f"{count / (1 << 20):.1f} MiB"
