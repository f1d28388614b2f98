"""The master's HTTP server for metrics: few, short and bounded connections."""

import selectors
import socket
import time
from collections.abc import Iterator

import pytest

from gateman.http.response import Response
from gateman.master.metrics_server import Answer, MetricsServer
from gateman.master.selector_loop import run_once
from gateman.request import Request
from tests.support.deadlines import TIMEOUT

BODY = b"x 1\n"
GET = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"


class Running:
    """A server in this thread, which serves while a client waits."""

    def __init__(self, size: int) -> None:
        self.selector = selectors.DefaultSelector()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(0)
        self.waiting: list[Answer] = []
        self.body = BODY * size
        self.server = MetricsServer([self.listener], self.selector)
        self.server.scrape = self._scrape
        self.holds = False

    def _scrape(self, _request: Request, answer: Answer) -> None:
        if self.holds:
            self.waiting.append(answer)
        else:
            answer(Response(200, self.body))

    def connect(self, data: bytes = b"") -> socket.socket:
        client = socket.create_connection(self.listener.getsockname())
        client.settimeout(0)
        if data:
            client.send(data)
        return client

    def turn(self) -> None:
        """Serve what is ready."""
        run_once(self.selector, 0.01)
        self.server.end_overdue()

    def read(self, client: socket.socket) -> bytes:
        """Serve until the answer of a client is complete."""
        received = b""
        until = time.monotonic() + TIMEOUT
        while time.monotonic() < until:
            self.turn()
            try:
                data = client.recv(1 << 20)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                return received
            if not data:
                return received
            received += data
        raise AssertionError(f"no end after {received!r}")

    def ask(self, data: bytes) -> tuple[str, bytes]:
        """Send a request; give the status line and the body."""
        with self.connect(data) as client:
            head, _, body = self.read(client).partition(b"\r\n\r\n")
        return head.partition(b"\r\n")[0].decode(), body


@pytest.fixture
def running() -> Iterator[Running]:
    made = Running(1)
    yield made
    made.server.close()
    made.listener.close()
    assert not made.selector.get_map()
    made.selector.close()


def test_metrics(running: Running) -> None:
    assert running.ask(GET) == ("HTTP/1.1 200 OK", BODY)
    assert running.ask(GET.replace(b"/metrics", b"/metrics?x=1")) == ("HTTP/1.1 200 OK", BODY)
    assert running.ask(GET.replace(b"GET", b"HEAD")) == ("HTTP/1.1 200 OK", b"")


def test_requests_in_pieces(running: Running) -> None:
    with running.connect() as client:
        for byte in GET[:-1]:
            client.send(bytes([byte]))
            running.turn()
        client.send(GET[-1:])

        assert running.read(client).endswith(BODY)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (GET.replace(b"/metrics", b"/"), 200),
        (GET.replace(b"/metrics", b"/other"), 404),
        (GET.replace(b"GET", b"OPTIONS"), 405),
        (GET.replace(b"GET", b"POST"), 405),
        (b"\x16\x03\x01 this is TLS\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 9000, 431),
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 80 + b"\r\n", 400),
    ],
)
def test_other_requests_are_answered(running: Running, data: bytes, status: int) -> None:
    assert running.ask(data)[0].split()[1] == str(status)


def test_what_is_not_a_request_is_counted(running: Running) -> None:
    running.ask(b"GARBAGE\r\n\r\n")

    assert running.server.refused == {"invalid": 1}


def test_large_answers_to_slow_readers() -> None:
    """The rest waits for the client, and the loop for nobody."""
    made = Running(2_000_000)
    with made.connect(GET) as client:
        for _ in range(5):
            made.turn()
        assert made.read(client).endswith(made.body)
    made.server.close()
    made.listener.close()
    made.selector.close()


def test_connections_have_a_deadline(running: Running) -> None:
    """Those that send nothing, and those that do not read."""
    with running.connect():
        running.turn()
        [due_at] = running.server.deadlines
        assert 0 < due_at - time.monotonic() <= 10
        for connection in running.server.connections:
            connection.due_at = time.monotonic()
        running.turn()

        assert running.server.deadlines == []
        assert running.server.refused == {"timeout": 1}


def test_there_are_few_connections(running: Running) -> None:
    """Who comes later is turned away, until one has gone."""
    idle = [running.connect() for _ in range(16)]
    for _ in range(20):
        running.turn()
    with running.connect(GET) as late:
        assert running.read(late) == b""
    assert running.server.refused == {"limit": 1}
    idle.pop().close()
    running.turn()

    assert running.ask(GET) == ("HTTP/1.1 200 OK", BODY)
    for client in idle:
        client.close()


def test_a_client_may_leave_before_the_answer(running: Running) -> None:
    running.holds = True
    with running.connect(GET):
        while not running.waiting:
            running.turn()
    running.waiting[0](Response(200, b"x" * 1_000_000))
    while running.server.deadlines:
        running.turn()
    running.holds = False

    assert running.ask(GET) == ("HTTP/1.1 200 OK", BODY)


def test_an_answer_may_come_too_late(running: Running) -> None:
    running.holds = True
    with running.connect(GET):
        while not running.waiting:
            running.turn()
        for connection in running.server.connections:
            connection.due_at = time.monotonic()
        running.turn()
        running.waiting[0](Response(200, b"late"))

        assert running.server.deadlines == []
