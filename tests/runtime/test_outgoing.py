"""Outgoing connections: to real servers, which come and go."""

import asyncio
import contextlib
import http
import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trustme
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from gateman import OutgoingConnection, SendResult, Worker, WrongThread, hub, testing
from gateman.runtime import outgoing
from gateman.runtime.outgoing import OutgoingConnections, delay
from gateman.runtime.outgoing_links import LinkClosed
from gateman.runtime.timer import Timers
from tests.support.loop import eventually, on_loop

LISTEN = "websocket://127.0.0.1:1"


class Log:
    """The callbacks of an outgoing connection, and what they were called with."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def on_open(self, connection: OutgoingConnection) -> None:
        self.events.append(("open", connection.is_open))

    def on_message(self, _connection: OutgoingConnection, message: object) -> None:
        self.events.append(("message", message))

    def on_close(self, connection: OutgoingConnection, code: int, reason: str) -> None:
        self.events.append(("close", code, reason, connection.is_open))

    def of(self, kind: str) -> list[tuple[Any, ...]]:
        return [event[1:] for event in self.events if event[0] == kind]


def declare(url: str, log: Log, **options: Any) -> OutgoingConnection:
    return Worker(LISTEN).connect(
        url,
        on_open=log.on_open,
        on_message=log.on_message,
        on_close=log.on_close,
        max_delay=0.01,
        proxy=False,
        **options,
    )


@asynccontextmanager
async def kept_up(connection: OutgoingConnection) -> AsyncIterator[OutgoingConnections]:
    """Keep a connection up while the block runs."""
    connections = OutgoingConnections(None)
    connections.start([("chat", connection)])
    try:
        yield connections
    finally:
        await connections.stop()


async def echo(client: ServerConnection) -> None:
    async for message in client:
        await client.send(message)


def port_of(server: Server | asyncio.Server) -> int:
    return int(next(iter(server.sockets)).getsockname()[1])


@on_loop
async def test_messages_go_both_ways_over_a_websocket() -> None:
    log = Log()
    async with serve(echo, "127.0.0.1", 0) as server:
        feed = declare(f"ws://127.0.0.1:{port_of(server)}/", log)
        async with kept_up(feed) as connections:
            await eventually(lambda: feed.is_open)
            assert feed.send("text") is feed.send(b"bytes") is SendResult.QUEUED
            await eventually(lambda: len(log.of("message")) == 2)

    assert log.events == [
        ("open", True),
        ("message", "text"),
        ("message", b"bytes"),
        ("close", 1001, "", False),
    ]
    assert connections.counts["outgoing_messages"] == 2


@on_loop
async def test_it_connects_again_when_the_server_closes_or_is_away() -> None:
    log = Log()

    async def leave(client: ServerConnection) -> None:
        await client.close(1012, "restart")

    async with serve(leave, "127.0.0.1", 0) as server:
        port = port_of(server)
        feed = declare(f"ws://127.0.0.1:{port}/", log)
        async with kept_up(feed) as connections:
            await eventually(lambda: len(log.of("close")) >= 2)
            server.close()
            await server.wait_closed()
            await eventually(lambda: connections.counts["outgoing_failed"] >= 2)
            async with serve(echo, "127.0.0.1", port):
                await eventually(lambda: feed.is_open)
                assert feed.reconnects >= 2

    assert log.of("close")[0] == (1012, "restart", False)


@on_loop
async def test_why_a_server_cannot_be_reached_is_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(client: ServerConnection, _request: object) -> Any:
        return client.respond(http.HTTPStatus.FORBIDDEN, "no")

    async with serve(echo, "127.0.0.1", 0, process_request=refuse) as server:
        port = port_of(server)
        feed = declare(f"ws://127.0.0.1:{port}/?token=secret", Log())
        async with kept_up(feed) as connections:
            await eventually(lambda: connections.counts["outgoing_failed"] >= 1)

    line = f"ws://127.0.0.1:{port}/ cannot be reached: it answers 403, and not 101"
    assert line in caplog.text
    assert "secret" not in caplog.text
    assert "Traceback" not in caplog.text


@on_loop
async def test_headers_may_be_made_anew_for_each_attempt() -> None:
    seen: list[str] = []

    async def leave(client: ServerConnection) -> None:
        assert client.request is not None
        seen.append(client.request.headers["X-Token"])
        await client.close()

    tokens = iter(range(1000))
    async with serve(leave, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{port_of(server)}/"
        feed = declare(url, Log(), headers=lambda: {"X-Token": str(next(tokens))})
        async with kept_up(feed):
            await eventually(lambda: len(seen) >= 2)

    assert seen[:2] == ["0", "1"]


@on_loop
async def test_a_proxy_that_cannot_be_used_is_one_line_without_its_password(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "ftp://me:secret@127.0.0.1:1")
    feed = Worker(LISTEN).connect("ws://feed.example/", max_delay=0.01)
    async with kept_up(feed) as connections:
        await eventually(lambda: connections.counts["outgoing_failed"] >= 1)

    assert "ws://feed.example/ cannot be reached: the proxy of the environment: " in caplog.text
    assert "secret" not in caplog.text
    assert "Traceback" not in caplog.text


@on_loop
async def test_headers_may_be_awaited() -> None:
    seen: list[str] = []

    async def note(client: ServerConnection) -> None:
        assert client.request is not None
        seen.append(client.request.headers["X-Token"])
        await client.wait_closed()

    async def headers() -> dict[str, str]:
        await asyncio.sleep(0)
        return {"X-Token": "fetched"}

    async with serve(note, "127.0.0.1", 0) as server:
        feed = declare(f"ws://127.0.0.1:{port_of(server)}/", Log(), headers=headers)
        async with kept_up(feed):
            await eventually(lambda: feed.is_open)

    assert seen == ["fetched"]


@on_loop
async def test_what_was_sent_before_a_close_arrives() -> None:
    received: list[object] = []
    ends: list[tuple[int | None, str | None]] = []

    async def note(client: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                received.append(await client.recv())
        ends.append((client.close_code, client.close_reason))

    async with serve(note, "127.0.0.1", 0) as server:
        feed = declare(f"ws://127.0.0.1:{port_of(server)}/", Log())
        async with kept_up(feed):
            await eventually(lambda: feed.is_open)
            for text in ("one", "two"):
                feed.send(text)
            feed.close(4000, "done")
            assert feed.send("late") is SendResult.CLOSED
            await eventually(lambda: bool(ends))

    assert (received[:2], ends[0]) == (["one", "two"], (4000, "done"))


@pytest.mark.parametrize("scheme", ["ws", "tcp"])
@on_loop
async def test_a_server_that_does_not_read_does_not_hold_up_a_close(scheme: str) -> None:
    end = asyncio.Event()

    async def wait(client: ServerConnection) -> None:
        await end.wait()
        client.transport.abort()

    async def block(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await end.wait()
        writer.transport.abort()

    log = Log()
    data = os.urandom(1 << 20)  # Which compression makes no smaller.
    async with (
        serve(wait, "127.0.0.1", 0, max_queue=1, max_size=None) as sockets,
        await asyncio.start_server(block, "127.0.0.1", 0, limit=1000) as streams,
    ):
        port = port_of(sockets if scheme == "ws" else streams)
        feed = declare(f"{scheme}://127.0.0.1:{port}", log, max_send_buffer_size=32 << 20)
        async with kept_up(feed) as connections:
            await eventually(lambda: feed.is_open)
            for _ in range(16):
                assert feed.send(data)
            feed.close()
            await eventually(lambda: bool(log.of("close")))
            if scheme == "ws":
                # A stream does not tell how much of what was written has left.
                await eventually(lambda: connections.counts["outgoing_dropped"] > 0)
            end.set()


@pytest.mark.parametrize("is_trusted", [True, False])
@on_loop
async def test_tls_is_verified(is_trusted: bool) -> None:  # noqa: FBT001
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    own = ssl.create_default_context()
    if is_trusted:
        authority.configure_trust(own)
    log = Log()
    async with serve(echo, "127.0.0.1", 0, ssl=context) as server:
        feed = declare(f"wss://127.0.0.1:{port_of(server)}/", log, ssl=own)
        async with kept_up(feed) as connections:
            await eventually(lambda: feed.is_open or connections.counts["outgoing_failed"] > 0)
            assert feed.is_open is is_trusted


@on_loop
async def test_lines_and_packets_go_over_a_stream() -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readline()).upper() + b"cut")
        await writer.drain()
        writer.close()

    log = Log()
    async with await asyncio.start_server(shout, "127.0.0.1", 0) as server:
        feed = declare(f"text://127.0.0.1:{port_of(server)}", log)
        async with kept_up(feed):
            await eventually(lambda: feed.is_open)
            assert feed.send("hi")
            with pytest.raises(ValueError, match="line break"):
                feed.send("two\nlines")
            await eventually(lambda: bool(log.of("close")))

    assert log.of("message")[0] == ("HI",)
    assert log.of("close")[0] == (1006, "it ended within a packet", False)


@on_loop
async def test_a_message_that_is_too_long_ends_the_connection() -> None:
    async def flood(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * 2000)
        writer.close()

    log = Log()
    async with await asyncio.start_server(flood, "127.0.0.1", 0) as server:
        feed = declare(f"text://127.0.0.1:{port_of(server)}", log, max_message_size=1000)
        async with kept_up(feed):
            await eventually(lambda: bool(log.of("close")))

    assert log.of("close")[0] == (1006, "a packet is longer than 1000 bytes", False)
    assert log.of("message") == []


@on_loop
async def test_what_a_slow_server_does_not_read_is_dropped_above_the_limit() -> None:
    end = asyncio.Event()

    async def sleep(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await end.wait()
        writer.close()

    async with await asyncio.start_server(sleep, "127.0.0.1", 0) as server:
        feed = declare(f"tcp://127.0.0.1:{port_of(server)}", Log(), max_send_buffer_size=1 << 20)
        async with kept_up(feed):
            await eventually(lambda: feed.is_open)
            results = [feed.send(b"x" * (1 << 18)) for _ in range(100)]
            end.set()

    assert results[-1] is SendResult.DROPPED
    assert SendResult.QUEUED in results


@on_loop
async def test_an_error_of_a_callback_is_logged_and_the_connection_stays(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard: list[object] = []

    async def fail(_connection: OutgoingConnection, message: object) -> None:
        heard.append(message)
        raise KeyError("oh")

    async with serve(echo, "127.0.0.1", 0) as server:
        feed = Worker(LISTEN).connect(f"ws://127.0.0.1:{port_of(server)}/", on_message=fail)
        async with kept_up(feed):
            await eventually(lambda: feed.is_open)
            feed.send("one")
            feed.send("two")
            await eventually(lambda: len(heard) == 2)
            assert feed.is_open

    assert "raised KeyError" in caplog.text


@on_loop
async def test_while_a_callback_runs_nothing_is_read() -> None:
    running, most = 0, 0
    heard: list[object] = []

    async def slow(_connection: OutgoingConnection, message: object) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        heard.append(message)

    async with serve(echo, "127.0.0.1", 0) as server:
        feed = Worker(LISTEN).connect(f"ws://127.0.0.1:{port_of(server)}/", on_message=slow)
        async with kept_up(feed):
            await eventually(lambda: feed.is_open)
            for number in range(20):
                feed.send(str(number))
            await eventually(lambda: len(heard) == 20)

    assert (heard, most) == ([str(number) for number in range(20)], 1)


class _Leases:
    """A lease that a test gives and takes."""

    def __init__(self) -> None:
        self.is_mine = False
        self.wanted: list[str] = []
        self.released: list[str] = []

    def want(self, name: str) -> None:
        self.wanted.append(name)

    def is_held(self, name: str) -> bool:  # noqa: ARG002
        return self.is_mine

    def mark(self, name: str) -> int:  # noqa: ARG002
        return 0

    def advance(self, name: str, mark: int, on_sent: Callable[[bool], object]) -> None: ...

    def release(self, names: Any) -> None:
        self.released += names


@on_loop
async def test_without_its_lease_a_process_neither_connects_nor_handles_messages() -> None:
    log, leases = Log(), _Leases()
    clients: list[ServerConnection] = []

    async def collect(client: ServerConnection) -> None:
        clients.append(client)
        await client.wait_closed()

    async with serve(collect, "127.0.0.1", 0) as server:
        feed = declare(f"ws://127.0.0.1:{port_of(server)}/", log, once=True)
        connections = OutgoingConnections(leases)
        connections.start([("chat", feed)])
        await asyncio.sleep(0)
        assert not clients
        leases.is_mine = True
        await eventually(lambda: bool(clients))
        await clients[0].send("mine")
        await eventually(lambda: bool(log.of("message")))
        leases.is_mine = False
        await clients[0].send("another's")
        await eventually(lambda: bool(log.of("close")))
        await connections.stop()

    assert log.of("message") == [("mine",)]
    assert len(leases.released) == 1


@on_loop
async def test_of_two_processes_one_has_the_connection_and_the_other_takes_over() -> None:
    clients: list[ServerConnection] = []

    async def collect(client: ServerConnection) -> None:
        clients.append(client)
        await client.wait_closed()
        clients.remove(client)

    async with serve(collect, "127.0.0.1", 0) as server:
        worker = Worker(LISTEN, drain_window=0.1)
        url = f"ws://127.0.0.1:{port_of(server)}/"
        worker.connect(
            url, once=True, proxy=False, on_message=lambda _, text: hub.send_to_all(text)
        )
        async with (
            testing.service(worker, processes=2) as service,
            testing.connect(service.processes(worker)[1]) as listener,
        ):
            await testing.advance(12)
            await eventually(lambda: len(clients) == 1)
            await clients[0].send("one")
            assert await listener.receive() == "one"
            await service.processes(worker)[0].kill()
            await testing.advance(12)
            await eventually(lambda: len(clients) == 1)
            await clients[0].send("two")
            assert await listener.receive() == "two"


def test_the_pause_grows_is_random_and_bounded() -> None:
    assert [delay(attempt, 30, 1.0) for attempt in (1, 2, 3, 6, 7, 1000)] == [1, 2, 4, 30, 30, 30]
    assert delay(5, 30, 0.0) == 0
    assert delay(5, 30, 0.5) == 8


def test_an_end_is_told_with_its_reason() -> None:
    assert (str(LinkClosed(1006, "")), str(LinkClosed(1012, "restart"))) == ("1006", "1012 restart")


@on_loop
async def test_the_counts_stay_when_the_process_ends() -> None:
    """It reports them once more at its end."""
    log, timers = Log(), Timers()
    async with serve(echo, "127.0.0.1", 0) as server:
        feed = declare(f"ws://127.0.0.1:{port_of(server)}/", log)
        timers.add_outgoing("chat", [feed])
        timers.start()
        await eventually(lambda: feed.is_open)
        await timers.stop()

    assert timers.counts == {"outgoing_opened": 1, "outgoing_closed": 1}


@on_loop
async def test_a_callback_whose_task_was_cancelled_does_not_end_the_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    received: list[object] = []

    async def handle(_connection: OutgoingConnection, message: object) -> None:
        received.append(message)
        if message == "one":
            task = asyncio.create_task(asyncio.sleep(60))
            task.cancel()
            await task

    async with serve(echo, "127.0.0.1", 0) as server:
        feed = Worker(LISTEN).connect(
            f"ws://127.0.0.1:{port_of(server)}/", on_message=handle, proxy=False
        )
        async with kept_up(feed) as connections:
            await eventually(lambda: feed.is_open)
            for text in ("one", "two"):
                feed.send(text)
            await eventually(lambda: received == ["one", "two"])

    assert connections.counts["outgoing_callback_failed"] == 1
    assert "on_message of ws://127.0.0.1" in caplog.text
    caplog.clear()


@on_loop
async def test_text_that_utf_8_cannot_carry_is_refused_and_the_next_is_sent() -> None:
    log = Log()
    async with serve(echo, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{port_of(server)}/"
        feed = declare(url, log, max_send_buffer_size=10)
        async with kept_up(feed) as connections:
            await eventually(lambda: feed.is_open)
            with pytest.raises(ValueError, match="The text has a lone surrogate at index 0, which"):
                feed.send("\ud800")
            # Four times three bytes.
            assert feed.send("中" * 4) is SendResult.DROPPED
            assert feed.send("中" * 3) is SendResult.QUEUED
            await eventually(lambda: log.of("message") == [("中" * 3,)])
            # Told while it is open.
            assert connections.counts["outgoing_dropped"] == 1

    assert connections.counts["outgoing_dropped"] == 1


@on_loop
async def test_a_redirect_is_not_followed(caplog: pytest.LogCaptureFixture) -> None:
    """Browsers follow none either, and the headers would go to another server."""
    seen: list[object] = []

    def redirect(client: ServerConnection, request: Any) -> Any:
        seen.append(request.path)
        response = client.respond(http.HTTPStatus.FOUND, "")
        response.headers["Location"] = "/elsewhere"
        return response

    async with serve(echo, "127.0.0.1", 0, process_request=redirect) as server:
        feed = declare(f"ws://127.0.0.1:{port_of(server)}/", Log(), headers={"X-Token": "secret"})
        async with kept_up(feed) as connections:
            await eventually(lambda: connections.counts["outgoing_failed"] >= 2)

    assert set(seen) == {"/"}
    assert "cannot be reached: it answers 302, and not 101" in caplog.text


@on_loop
async def test_headers_of_a_function_are_checked_without_showing_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serve(echo, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{port_of(server)}/"
        feed = declare(url, Log(), headers=lambda: {"X-Token": "secret\r\nX: 1"})
        async with kept_up(feed) as connections:
            await eventually(lambda: connections.counts["outgoing_failed"] >= 1)

    assert "cannot be reached: the headers of connect are not a mapping" in caplog.text
    assert "secret" not in caplog.text


@on_loop
async def test_why_this_side_ended_a_connection_is_told() -> None:
    log = Log()

    async def flood(client: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            await client.send("x" * 1000)
            # It does not answer the Close: this side has to give up waiting.
            client.transport.abort()

    async with serve(flood, "127.0.0.1", 0) as server:
        feed = declare(f"ws://127.0.0.1:{port_of(server)}/", log, max_message_size=100)
        async with kept_up(feed):
            await eventually(lambda: bool(log.of("close")))

    code, reason, is_open = log.of("close")[0]
    assert (code in {1006, 1009}, "exceeds limit" in str(reason), is_open) == (True, True, False)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 1)"), "Connection refused"),
        (ConnectionResetError(), "it closed the connection"),
        (OSError("Multiple exceptions: a, b"), "Multiple exceptions: a, b"),
    ],
)
def test_an_error_of_the_system_is_told_in_its_words(error: OSError, sentence: str) -> None:
    assert outgoing.sentence(error) == sentence


@on_loop
async def test_it_belongs_to_the_thread_of_the_loop() -> None:
    async with serve(echo, "127.0.0.1", 0) as server:
        feed = declare(f"ws://127.0.0.1:{port_of(server)}/", Log())
        async with kept_up(feed):
            await eventually(lambda: feed.is_open)
            for call in (lambda: feed.send("x"), feed.close):
                with pytest.raises(WrongThread):
                    await asyncio.to_thread(call)


@on_loop
async def test_the_lease_of_a_connection_does_not_depend_on_the_others() -> None:
    """A reload may add one before it, or remove one: two processes must not have it then."""

    def leases(*urls: str) -> list[str]:
        worker, found = Worker(LISTEN), _Leases()
        for url in urls:
            worker.connect(url, once=True)
        connections = OutgoingConnections(found)
        connections.start([("chat", one) for one in worker.outgoing])
        stopping.append(connections.stop())
        return found.wanted

    stopping: list[Any] = []
    first = leases("tcp://127.0.0.1:1", "tcp://127.0.0.1:2", "tcp://127.0.0.1:2")
    then = leases("tcp://127.0.0.1:2", "tcp://127.0.0.1:3", "tcp://127.0.0.1:2")
    await asyncio.gather(*stopping)

    assert first[1:] == [then[0], then[2]]
    assert len(set(first)) == 3
