"""
Exit statuses, durations and sizes as texts for people. PURE.

Exit codes carry policy: with three of them another attempt would end in the same way.
"""

from collections.abc import Iterable
from signal import Signals

from ..errors import ExitCode

_FAILED_STARTS: dict[int, str] = {
    ExitCode.LOAD_FAILED: "could not load the script",
    ExitCode.CONFIG: "refused its configuration",
}

_FINAL = {ExitCode.CRASHED, ExitCode.LOAD_FAILED, ExitCode.CONFIG}


def exit_description(status: int, *, has_served: bool) -> str:
    """Describe an exit code, or with a minus sign the signal that killed a process."""
    if status == ExitCode.STOPPED:
        return "ended by itself"
    if status > 0:
        # The application may end its process with any code.
        failure = None if has_served else _FAILED_STARTS.get(status)
        return failure or f"ended with exit code {status}"
    try:
        name = Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"was killed by {name}"


def is_final(status: int) -> bool:
    """Return whether a process that ended before it served would fail again."""
    return status in _FINAL


def scaled_duration(seconds: float) -> tuple[str, str]:
    """Return a number of about two digits, and its unit: ``s``, ``min``, ``h`` or ``days``."""
    if seconds < 9.95:
        return f"{seconds:.1f}", "s"
    for limit, unit, length in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / length:.0f}", unit
    return f"{seconds / 86400:.0f}", "days"


def duration(seconds: float) -> str:
    return " ".join(scaled_duration(seconds))


def indented(lines: Iterable[str]) -> str:
    """Return lines to append to a sentence."""
    return "".join(f"\n    {line}" for line in lines)


def size(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB"
