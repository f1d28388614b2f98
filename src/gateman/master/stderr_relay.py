"""
Copies the standard error of processes to the master's, in whole lines.

A process blocks while the reader of the master's standard error is slow; the master never does. In
a JSON log, each line that is not JSON becomes the message of an object.
"""

import contextlib
import os
import select
import selectors
import time
from functools import partial

from ..log import json_line
from .spawn import PIECE_SIZE, ChildProcess

_STDERR = 2

# Read from the pipe of a process that has ended; more than a pipe holds.
_MAX_LAST_PIECES = 64

# A longer line is split.
_MAX_LINE_SIZE = 64 << 10  # bytes

# The master's end is delayed at most this long by a slow reader.
_CLOSE_TIMEOUT = 1.0  # seconds


class StderrRelay:
    def __init__(self, selector: selectors.BaseSelector, *, is_json: bool = False) -> None:
        self._selector = selector
        self._is_json = is_json
        self._relayed: dict[ChildProcess, PlainLines | JsonLines] = {}
        self._unsent = b""
        self._is_paused = False

    def add(self, child: ChildProcess, name: str) -> None:
        self._relayed[child] = JsonLines(child.pid, name) if self._is_json else PlainLines()
        if not self._is_paused:
            self._watch(child)

    def remove(self, child: ChildProcess) -> None:
        """Copy the rest of a process that has ended."""
        self._unwatch(child)
        if child not in self._relayed:
            return
        for _ in range(_MAX_LAST_PIECES):
            if not self._copy(child):
                break
        self._end(child)

    def close(self) -> None:
        """Write the rest, if the reader takes it in time."""
        self._flush(_CLOSE_TIMEOUT)

    def _ready(self, child: ChildProcess) -> None:
        fd = child.stderr_fd
        self._copy(child)
        if child.stderr_fd < 0:
            with contextlib.suppress(KeyError):
                self._selector.unregister(fd)
            self._end(child)

    def _end(self, child: ChildProcess) -> None:
        self._send(self._relayed.pop(child).end(time.time()))

    def _copy(self, child: ChildProcess) -> bool:
        """Copy one piece; return whether there was one."""
        data = child.read_stderr()
        self._send(self._relayed[child].feed(data, time.time()))
        return bool(data)

    def _send(self, data: bytes) -> None:
        self._unsent += data
        self._flush()
        if self._unsent and not self._is_paused:
            self._is_paused = True
            for child in self._relayed:
                self._unwatch(child)
            self._selector.register(_STDERR, selectors.EVENT_WRITE, self._resume)

    def _flush(self, timeout: float = 0.0) -> None:
        try:
            while self._unsent and _is_writable(timeout):
                self._unsent = self._unsent[os.write(_STDERR, self._unsent[:PIECE_SIZE]) :]
        except OSError:
            # The reader is gone; the service continues without it.
            self._unsent = b""

    def _resume(self) -> None:
        self._flush()
        if not self._unsent:
            self._selector.unregister(_STDERR)
            self._is_paused = False
            for child in self._relayed:
                self._watch(child)

    def _watch(self, child: ChildProcess) -> None:
        self._selector.register(child.stderr_fd, selectors.EVENT_READ, partial(self._ready, child))

    def _unwatch(self, child: ChildProcess) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(child.stderr_fd)


class PlainLines:
    """
    Holds an unfinished line of a process, so that no output of another process is inside it.

    With PYTHONUNBUFFERED, which services and containers set, ``print`` writes the end of its line
    by itself.
    """

    def __init__(self) -> None:
        self._unfinished = b""

    def feed(self, data: bytes, _now: float) -> bytes:
        """Take a piece, which may end within a line."""
        data = self._unfinished + data
        # A progress bar ends its lines with a carriage return.
        end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        if len(data) - end > _MAX_LINE_SIZE:
            end = len(data)
        self._unfinished = data[end:]
        return data[:end]

    def end(self, now: float) -> bytes:
        return self.feed(b"\n", now) if self._unfinished else b""


class JsonLines:
    """Converts the output of one process to lines of JSON."""

    def __init__(self, pid: int, name: str) -> None:
        self._pid = pid
        self._name = name
        self._unfinished = b""

    def feed(self, data: bytes, now: float) -> bytes:
        """Take a piece, which may end within a line."""
        *lines, self._unfinished = (self._unfinished + data).split(b"\n")
        if len(self._unfinished) > _MAX_LINE_SIZE:
            lines.append(self._unfinished)
            self._unfinished = b""
        return b"".join(self._object(line, now) for line in lines if line)

    def end(self, now: float) -> bytes:
        return self.feed(b"\n", now)

    def _object(self, line: bytes, now: float) -> bytes:
        text = line.decode(errors="replace")
        return json_line(text, pid=self._pid, worker=self._name, now=now).encode() + b"\n"


def _is_writable(timeout: float) -> bool:
    """Return whether a write of :data:`gateman.master.spawn.PIECE_SIZE` would not block."""
    poll = select.poll()
    poll.register(_STDERR, select.POLLOUT)
    return bool(poll.poll(timeout * 1000))
