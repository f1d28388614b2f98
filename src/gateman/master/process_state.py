"""What Linux knows about the state of a process."""

from pathlib import Path


def is_stopped(pid: int) -> bool:
    """Return whether SIGSTOP or a debugger has stopped a process; false elsewhere."""
    return _fields(pid)[0] in {"T", "t"}


def parent_of(pid: int) -> int:
    """Return the pid of a process's parent; 0 if it is gone, and elsewhere."""
    return int(_fields(pid)[1])


def _fields(pid: int) -> list[str]:
    """Return the fields of proc(5) behind the name, from the state on."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ["", "0"]
    # The name is in parentheses and may contain some.
    return stat.rpartition(") ")[2].split()
