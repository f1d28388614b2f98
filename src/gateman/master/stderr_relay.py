"""
What processes write to standard error goes to the master's, and its last lines are kept.

As without a master, who writes has to wait when nobody reads; the master itself never does. Where
the log is JSON, what is none becomes the message of a line that is.
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

# What a process may have left in its pipe when it ended: as much as a pipe holds, and more.
_MAX_LAST_PIECES = 64

# A line of JSON that is longer is not waited for to its end.
_MAX_LINE_SIZE = 64 << 10  # bytes

# How long the master's end waits for somebody to read.
_LAST_PATIENCE = 1.0  # seconds


class StderrRelay:
    """The pipes of all processes."""

    def __init__(self, selector: selectors.BaseSelector, *, is_json: bool = False) -> None:
        self._selector = selector
        self._is_json = is_json
        self._relayed: dict[ChildProcess, JsonLines | None] = {}
        self._unsent = b""
        self._is_paused = False

    def add(self, child: ChildProcess, name: str) -> None:
        """Relay what a process writes from now on."""
        self._relayed[child] = JsonLines(child.pid, name) if self._is_json else None
        if not self._is_paused:
            self._watch(child)

    def remove(self, child: ChildProcess) -> None:
        """Relay the last of a process that has ended."""
        self._ignore(child)
        if child not in self._relayed:
            return
        for _ in range(_MAX_LAST_PIECES):
            if not self._copy(child):
                break
        self._end(child)

    def close(self) -> None:
        """Write what has found no room so far, unless nobody reads."""
        self._flush(_LAST_PATIENCE)

    def _ready(self, child: ChildProcess) -> None:
        fd = child.stderr_fd
        self._copy(child)
        if child.stderr_fd < 0:
            with contextlib.suppress(KeyError):
                self._selector.unregister(fd)
            self._end(child)

    def _end(self, child: ChildProcess) -> None:
        objects = self._relayed.pop(child)
        if objects is not None:
            self._send(objects.end(time.time()))

    def _copy(self, child: ChildProcess) -> bool:
        """Relay a piece; tell whether there was one."""
        data = child.read_stderr()
        objects = self._relayed[child]
        self._send(data if objects is None else objects.feed(data, time.time()))
        return bool(data)

    def _send(self, data: bytes) -> None:
        self._unsent += data
        self._flush()
        if self._unsent and not self._is_paused:
            self._is_paused = True
            for one in self._relayed:
                self._ignore(one)
            self._selector.register(_STDERR, selectors.EVENT_WRITE, self._resume)

    def _flush(self, patience: float = 0.0) -> None:
        try:
            while self._unsent and _takes_more(patience):
                self._unsent = self._unsent[os.write(_STDERR, self._unsent[:PIECE_SIZE]) :]
        except OSError:
            # A reader that is gone keeps nobody from working.
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

    def _ignore(self, child: ChildProcess) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(child.stderr_fd)


class JsonLines:
    """Makes a JSON log of what one process writes."""

    def __init__(self, pid: int, name: str) -> None:
        self._pid = pid
        self._name = name
        self._unfinished = b""

    def feed(self, data: bytes, now: float) -> bytes:
        """Take a piece, cut wherever it may be."""
        *lines, self._unfinished = (self._unfinished + data).split(b"\n")
        if len(self._unfinished) > _MAX_LINE_SIZE:
            lines.append(self._unfinished)
            self._unfinished = b""
        return b"".join(self._object(line, now) for line in lines if line)

    def end(self, now: float) -> bytes:
        """Take the end."""
        return self.feed(b"\n", now)

    def _object(self, line: bytes, now: float) -> bytes:
        text = line.decode(errors="replace")
        return json_line(text, pid=self._pid, worker=self._name, now=now).encode() + b"\n"


def _takes_more(patience: float) -> bool:
    """Tell whether a write of :data:`gateman.master.spawn.PIECE_SIZE` would not block."""
    poll = select.poll()
    poll.register(_STDERR, select.POLLOUT)
    return bool(poll.poll(patience * 1000))
