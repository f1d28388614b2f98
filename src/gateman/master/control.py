r"""
The control socket, by which commands talk to a running master: one line of JSON in each direction.

A command connects to the control socket of its script (:mod:`gateman.master.runtime_files`),
writes one request, and reads one answer. Only the socket's owner can connect (0600). A request has
at most 4 KiB. :mod:`.control_requests` describes the messages.

Wire format:
    ::

        {"command": "status"}\n                          →
        ← {"ok": true, ...}\n                            or
        ← {"ok": false, "error": "one sentence."}\n
"""

import contextlib
import os
import select
import selectors
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ..bus import unix_socket
from ..errors import CommandError, MasterEnded, MasterSilent, NotRunning
from ..net.socket_files import peer_of
from .channel import Lines, decode, line
from .control_requests import ANSWERED_LATE, ControlAnswer, Request, requests
from .process_state import is_stopped
from .runtime_files import holder, locate
from .script import Script

T = TypeVar("T")

_MAX_REQUEST_SIZE = 4 << 10  # bytes

# Clients that have not sent their request yet, or wait for the answer.
_MAX_CLIENTS = 32

# From connecting until the request is complete.
_REQUEST_TIMEOUT = 10.0  # seconds

# A master answers within 100 ms, also on a busy machine within seconds.
_ANSWER_TIMEOUT = 10.0  # seconds
# Between two looks whether a master that does not answer was stopped.
_STATE_INTERVAL = 1.0  # seconds

# More than the connections of all processes of a large machine.
_MAX_ANSWER_SIZE = 1 << 30  # bytes

Handle = Callable[[Request, "ControlClient"], None]
"""Takes a request; answers the client once, now or later."""


class ControlServer:
    """The master's side: accepts clients, and passes their requests to a handler."""

    def __init__(
        self, sock: socket.socket, selector: selectors.BaseSelector, handle: Handle
    ) -> None:
        self._sock = sock
        self._selector = selector
        self._handle = handle
        self._clients: set[ControlClient] = set()
        selector.register(sock, selectors.EVENT_READ, self._accept)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            sock, _ = self._sock.accept()
            now = time.monotonic()
            for client in list(self._clients):
                if client.is_overdue(now):
                    client.close()
            if len(self._clients) >= _MAX_CLIENTS:
                sock.close()
                return
            self._clients.add(
                ControlClient(sock, self._selector, self._handle, self._clients.discard, now)
            )

    def replace(self, sock: socket.socket) -> None:
        """Accept on another socket; connected clients stay."""
        self._selector.unregister(self._sock)
        self._sock.close()
        self._sock = sock
        self._selector.register(sock, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        """Close all connections; a `stop` command waits for this."""
        self._selector.unregister(self._sock)
        self._sock.close()
        for client in list(self._clients):
            client.close()


class ControlClient:
    """A command that is connected to the control socket."""

    def __init__(
        self,
        sock: socket.socket,
        selector: selectors.BaseSelector,
        handle: Handle,
        forget: Callable[["ControlClient"], None],
        now: float,
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._selector = selector
        self._handle = handle
        self._forget = forget
        self._request_deadline: float | None = now + _REQUEST_TIMEOUT
        self._received = Lines(_MAX_REQUEST_SIZE)
        self._unsent = b""
        self._is_closed = False
        selector.register(sock, selectors.EVENT_READ, self._read)

    def is_overdue(self, now: float) -> bool:
        return self._request_deadline is not None and now > self._request_deadline

    def answer(self, **answer: Any) -> None:
        if self._is_closed:
            return
        self._unsent += line({"ok": "error" not in answer, **answer})
        self._write()

    def _read(self) -> None:
        try:
            data = self._sock.recv(_MAX_REQUEST_SIZE)
            lines = self._received.feed(data)
        except BlockingIOError:
            return
        except (OSError, ValueError):
            self.close()
            return
        if not data:
            self.close()
            return
        if lines and self._request_deadline is not None:
            self._request_deadline = None
            self._handle_request(lines[0])

    def _handle_request(self, data: bytes) -> None:
        try:
            request = decode(requests, data)
        except msgspec.ValidationError:
            self.answer(error="the running master does not know this command, or its arguments.")
        except ValueError:
            self.close()
        else:
            self._handle(request, self)

    def _write(self) -> None:
        try:
            sent = self._sock.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        self._unsent = self._unsent[sent:]
        # Not both: a client that sends data or closes would wake the loop again and again.
        if self._unsent:
            self._selector.modify(self._sock, selectors.EVENT_WRITE, self._write)
        else:
            self._selector.modify(self._sock, selectors.EVENT_READ, self._read)

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._selector.unregister(self._sock)
            self._sock.close()
            self._forget(self)


# The command's side.

_control_answers: msgspec.json.Decoder[ControlAnswer] = msgspec.json.Decoder(ControlAnswer)


@contextlib.contextmanager
def connect_to_master(
    script: Script, environment: Mapping[str, str] | None = None
) -> Iterator["ControlConnection"]:
    """Connect to the master of a script; raise :class:`NotRunning` if it has none."""
    sock = _connect(script, os.environ if environment is None else environment)
    with sock, sock.makefile("rwb") as file:
        yield ControlConnection(sock, file)


def ask(script: Script, request: Request, kind: type[T], *, timeout: float = _ANSWER_TIMEOUT) -> T:
    """Send one request to the master of a script, and return the answer."""
    with connect_to_master(script) as master:
        return master.request(request, kind, timeout)


class ControlConnection:
    """One request and its answer."""

    def __init__(self, sock: socket.socket, file: Any) -> None:
        self._sock = sock
        self._file = file

    def request(self, message: Request, kind: type[T], timeout: float = _ANSWER_TIMEOUT) -> T:
        """Return the answer; raise :class:`CommandError` if the master refuses, ended or hangs."""
        try:
            self._file.write(line(message))
            self._file.flush()
            self._wait_for_answer(timeout, is_late=isinstance(message, ANSWERED_LATE))
            received = self._file.readline(_MAX_ANSWER_SIZE)
        except OSError:
            received = b""
        if not received.endswith(b"\n"):
            raise MasterEnded
        try:
            outcome = decode(_control_answers, received)
            if outcome["ok"]:
                return decode(msgspec.json.Decoder(kind), received)
        except ValueError:
            raise CommandError(
                "the answer is not valid for this version of gateman: `restart` the service"
            ) from None
        raise CommandError(outcome.get("error", "the master refused").removesuffix("."))

    def _wait_for_answer(self, timeout: float, *, is_late: bool) -> None:
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        deadline = time.monotonic() + timeout
        while not poll.poll(min(timeout, _STATE_INTERVAL) * 1000):
            pid = peer_of(self._sock).pid or 0
            has_stopped = is_stopped(pid)
            if has_stopped or (not is_late and time.monotonic() >= deadline):
                raise MasterSilent(pid, is_stopped=has_stopped)

    def wait_for_end(self) -> None:
        with contextlib.suppress(OSError):
            while self._file.read(1):
                pass


def _connect(script: Script, environment: Mapping[str, str]) -> socket.socket:
    refused: Path | None = None
    foreign: unix_socket.UnexpectedOwner | None = None
    for files in locate(script.path, environment):
        try:
            return unix_socket.dial(files.control, files.users)
        except PermissionError:
            refused = files.control
        except BlockingIOError:
            # Hundreds of commands wait for a master that accepts none.
            pid = holder(files) or 0
            raise MasterSilent(pid, is_stopped=is_stopped(pid)) from None
        except unix_socket.UnexpectedOwner as error:
            foreign = error
        except OSError:
            pass  # The socket of a killed master.
    if refused is not None:
        raise CommandError(f"this user may not connect to the master's socket {refused}")
    if foreign is not None:
        note = f"{foreign.path} belongs to another user (uid {foreign.uid}), and was not used"
        raise NotRunning(str(script), note)
    raise NotRunning(str(script))
