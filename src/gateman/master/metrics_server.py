"""
Serves metrics over HTTP, from the master's loop.

    GET /metrics HTTP/1.1

Each connection has one request, one answer and a deadline; there are few of them at a time, so that
a scraper can neither hold the master nor its memory.
"""

import contextlib
import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from email.utils import formatdate
from http import HTTPStatus

from ..errors import HandshakeError
from ..http.response import Response
from ..request import Request, head_end, parse_request

PATH = "/metrics"

_MAX_CONNECTIONS = 16
_MAX_HEAD_SIZE = 8 << 10  # bytes
_MAX_HEADER_COUNT = 64

# From accept to the end of the answer. Prometheus waits for 10 s by default.
_TIMEOUT = 10.0  # seconds

# What waits unread at the end would become a reset, which may overtake the answer.
_MAX_UNREAD_SIZE = 64 << 10  # bytes

_INDEX = Response(200, b"The metrics of this service are at /metrics.\n")
_NOT_FOUND = Response(404, b"There is nothing here: the metrics are at /metrics.\n")
_NOT_ALLOWED = Response(
    405, b"This server answers GET and HEAD only.\n", headers={"Allow": "GET, HEAD"}
)
_BAD_REQUEST = Response(400, b"This is not an HTTP request.\n")
_TOO_LARGE = Response(431, b"The request head is too large.\n")

Answer = Callable[[Response], None]
Scrape = Callable[[Request, Answer], None]
"""Takes a request for the metrics, and a function to be called with the answer, now or later."""


class MetricsServer:
    def __init__(self, sockets: Sequence[socket.socket], selector: selectors.BaseSelector) -> None:
        self.scrape: Scrape = lambda _request, answer: answer(_NOT_FOUND)
        # By cause, how many connections did not get to an answer.
        self.refused: Counter[str] = Counter()
        self._sockets = sockets
        self._selector = selector
        self.connections: set[_Connection] = set()
        for sock in sockets:
            selector.register(sock, selectors.EVENT_READ, lambda sock=sock: self._accept(sock))

    @property
    def deadlines(self) -> list[float]:
        return [one.due_at for one in self.connections]

    def end_overdue(self) -> None:
        now = time.monotonic()
        for connection in [one for one in self.connections if now >= one.due_at]:
            self.refused["timeout"] += 1
            connection.close()

    def close(self) -> None:
        for sock in self._sockets:
            self._selector.unregister(sock)
        for connection in list(self.connections):
            connection.close()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            sock, _ = listener.accept()
            if len(self.connections) >= _MAX_CONNECTIONS:
                self.refused["limit"] += 1
                sock.close()
                return
            sock.setblocking(False)
            self.connections.add(_Connection(sock, self._selector, self))

    def handle(self, request: Request, answer: Answer) -> None:
        if request.method not in {"GET", "HEAD"}:
            answer(_NOT_ALLOWED)
        elif request.path == PATH:
            self.scrape(request, answer)
        else:
            answer(_INDEX if request.path == "/" else _NOT_FOUND)

    def forget(self, connection: "_Connection") -> None:
        self.connections.discard(connection)


class _Connection:
    """One scraper."""

    def __init__(
        self, sock: socket.socket, selector: selectors.BaseSelector, server: MetricsServer
    ) -> None:
        self.due_at = time.monotonic() + _TIMEOUT
        self._sock = sock
        self._selector = selector
        self._server = server
        self._received = bytearray()
        self._unsent = memoryview(b"")
        self._unread_size = 0
        self._is_head = False
        self._is_closed = False
        selector.register(sock, selectors.EVENT_READ, self._read)

    def _read(self) -> None:
        try:
            data = self._sock.recv(_MAX_HEAD_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._received += data
        end = head_end(self._received, 0)
        if not end and len(self._received) <= _MAX_HEAD_SIZE:
            return
        # Nothing more is read before the answer: it would wake the loop again and again.
        self._selector.unregister(self._sock)
        if not end or end > _MAX_HEAD_SIZE:
            self._refuse(_TOO_LARGE)
            return
        try:
            request = parse_request(bytes(self._received[:end]), max_header_count=_MAX_HEADER_COUNT)
        except HandshakeError as error:
            is_method = error.status == HTTPStatus.METHOD_NOT_ALLOWED
            self._refuse(_NOT_ALLOWED if is_method else _BAD_REQUEST)
            return
        self._received.clear()
        self._is_head = request.method == "HEAD"
        self._server.handle(request, self._answer)

    def _refuse(self, response: Response) -> None:
        self._server.refused["invalid"] += 1
        self._answer(response)

    def _answer(self, response: Response) -> None:
        if self._is_closed:
            return
        encoded = response.encode(date=formatdate(usegmt=True), head_only=self._is_head)
        self._unsent = memoryview(encoded)
        self._selector.register(self._sock, selectors.EVENT_WRITE, self._write)
        self._write()

    def _write(self) -> None:
        try:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if not self._unsent:
            # Until the client has read it and ends the connection.
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)
            self._selector.modify(self._sock, selectors.EVENT_READ, self._read_rest)

    def _read_rest(self) -> None:
        try:
            data = self._sock.recv(_MAX_UNREAD_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._unread_size += len(data)
        if not data or self._unread_size > _MAX_UNREAD_SIZE:
            self.close()

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        # While it waits for the answer, it is not registered.
        with contextlib.suppress(KeyError):
            self._selector.unregister(self._sock)
        self._sock.close()
        self._server.forget(self)
