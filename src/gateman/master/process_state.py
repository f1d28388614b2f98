"""What the system knows about the state of a process."""

from pathlib import Path


def is_stopped(pid: int) -> bool:
    """Return whether SIGSTOP or a debugger has stopped a process; known on Linux only."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    # proc(5): the state follows the name, which is in parentheses and may contain some.
    return stat.rpartition(") ")[2][:1] in {"T", "t"}
