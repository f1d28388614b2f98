"""
How processes end, and for how long, in words. PURE.

Exit codes carry policy: three of them say that another attempt would end the same way.
"""

from collections.abc import Iterable
from signal import Signals

from ..errors import ExitCode

_ENDINGS = {
    ExitCode.STOPPED: "ended by itself",
    ExitCode.CRASHED: "ended with exit code 1",
    ExitCode.LOAD_FAILED: "could not load the script",
    ExitCode.CONFIG: "refused its configuration",
}

_POLICY = {ExitCode.CRASHED, ExitCode.LOAD_FAILED, ExitCode.CONFIG}


def ending(status: int) -> str:
    """
    Say how a process ended.

    Args:
        status: Its exit code, or minus the signal that killed it.

    Returns:
        A verb and what belongs to it: ``"was killed by SIGKILL"``.
    """
    if status >= 0:
        return _ENDINGS.get(status, f"ended with exit code {status}")  # type: ignore[call-overload, no-any-return]
    try:
        name = Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"was killed by {name}"


def is_policy(status: int) -> bool:
    """
    Tell whether a process that never served said by its exit code that it never will.

    Args:
        status: Its exit code, or minus the signal that killed it.

    Returns:
        Whether the script, its configuration or ``on_worker_start`` failed.
    """
    return status in _POLICY


def duration(seconds: float) -> str:
    """
    Write a time span with two digits or so.

    Args:
        seconds: How long.

    Returns:
        ``"0.3 s"``, ``"12 s"``, ``"3 min"``, ``"5 h"`` or ``"8 days"``.
    """
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
    """
    Put lines below a sentence.

    Args:
        lines: Without their ends.

    Returns:
        What to add to the sentence: each begins with the end of the line before it.
    """
    return "".join(f"\n    {line}" for line in lines)


def size(count: int) -> str:
    """
    Write an amount of memory.

    Args:
        count: Bytes.

    Returns:
        ``"12.3 MiB"``.
    """
    return f"{count / (1 << 20):.1f} MiB"
