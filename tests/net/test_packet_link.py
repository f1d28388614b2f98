"""Workers of other protocols than WebSocket: tcp://, text://, frame://, and those of users."""

import asyncio
import gc
import socket
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest

from gateman import Connection, SendResult, State, WrongThread
from gateman.net.preamble import TLS_ALERT
from gateman.runtime.measurements import Measurements
from tests.support.hellos import hello, records
from tests.support.loop import eventually, on_loop, turns
from tests.support.packets import BYTES, FRAMES, LINES, Calls, echo, to_group
from tests.support.preambles import v2
from tests.support.raw import EOF, RawClient
from tests.support.server import serve

both = pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])


async def lines_from(client: RawClient) -> list[str]:
    data, end = await client.read_end()
    assert end == EOF
    return data.decode().splitlines()


# The life of a connection.


@both
@on_loop
async def test_lines_are_messages(*, secure: bool) -> None:
    """Several of one read are answered in order, and a part of one waits for the rest."""
    journal = Calls()
    async with serve(LINES, secure=secure, **journal.callbacks(on_message=echo)) as server:
        client = await server.connect()
        await client.send(b"eins\r\nzwei\nd")
        assert await client.read(10) == b"eins\nzwei\n"
        await client.send("rei ä\n".encode())
        assert await client.read(8) == "drei ä\n".encode()
        connection = journal.connections[0]
        assert (connection.request, connection.is_secure) == (None, secure)
        await client.close()
        await journal.until("on_close")

    assert [entry[0] for entry in journal.entries] == ["on_connect", "on_open", "on_close"]


@on_loop
async def test_frames_and_bytes_are_messages() -> None:
    for listen, sent, received in (
        (FRAMES, b"\0\0\0\x09hello\0\0\0\x04", b"\0\0\0\x09hello\0\0\0\x04"),
        (BYTES, b"hello", b"hello"),
    ):
        async with serve(listen, on_message=echo) as server:
            client = await server.connect()
            await client.send(sent)
            assert await client.read(len(received)) == received


@on_loop
async def test_a_unix_socket_has_every_protocol(tmp_path: Path) -> None:
    journal = Calls()
    callbacks = journal.callbacks(on_message=echo)
    async with serve(f"text+unix://{tmp_path}/socket", **callbacks) as server:
        client = await server.connect()
        await client.send(b"hello\n")
        assert await client.read(6) == b"hello\n"
        assert journal.connections[0].remote_ip == "unix"


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
@on_loop
async def test_a_client_that_ends_its_half_gets_all_answers(*, is_async: bool) -> None:
    """As ``printf … | nc`` does; also if the answers take time."""
    journal = Calls()

    async def answer_later(connection: Connection, message: str) -> None:
        await asyncio.sleep(0.01)
        echo(connection, message)

    callbacks = journal.callbacks(on_message=answer_later if is_async else echo)
    async with serve(LINES, **callbacks) as server:
        client = await server.connect()
        await client.send(b"one\ntwo\nthree\n")
        client.end()
        assert await lines_from(client) == ["one", "two", "three"]
        await journal.until("on_close", 1000, "")


@on_loop
async def test_the_end_of_a_stream_is_read_once() -> None:
    """Also if reading was paused for what came before, and then resumed."""
    journal = Calls()

    async def answer_later(connection: Connection, message: str) -> None:
        await asyncio.sleep(0)
        echo(connection, message)

    limits = {"max_queued_messages": 2}
    callbacks = journal.callbacks(on_message=answer_later)
    async with serve(LINES, limits=limits, **callbacks) as server:
        client = await server.connect()
        await client.send(b"".join(b"%d\n" % number for number in range(50)) + b"half")
        client.end()
        assert await lines_from(client) == [str(number) for number in range(50)]
        await journal.until("on_close", 1006)
        assert server.service.counts["ended_within_packet"] == 1


@on_loop
async def test_an_application_closes_after_what_it_has_sent() -> None:
    """Also in ``on_connect``; and ``on_close`` gets its code, which the client cannot see."""
    journal = Calls()

    def refuse(connection: Connection) -> None:
        connection.close(4000, "full", message="we are full")

    async with serve(LINES, **journal.callbacks(on_connect=refuse)) as server:
        client = await server.connect()
        assert await lines_from(client) == ["we are full"]
        await client.close()
        await journal.until("on_close", 4000, "full")

    assert [entry[0] for entry in journal.entries] == ["on_close"]


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (LookupError, "LookupError: a"),
        (asyncio.CancelledError, "RuntimeError: what it awaited was cancelled"),
    ],
)
@on_loop
async def test_an_error_of_a_callback_closes_its_connection(
    kind: type[BaseException], error: str
) -> None:
    journal = Calls()

    def fail(_connection: Connection, message: str) -> None:
        raise kind(message)

    async with serve(LINES, **journal.callbacks(on_message=fail)) as server:
        other = await server.connect()
        client = await server.connect()
        await client.send(b"a\nb\n")
        assert await lines_from(client) == []
        await client.close()
        await journal.until("on_close", 1011, "internal error")
        assert len(server.worker.connections) == 1
        assert len(server.lines()) == 1
        await other.close()

    assert journal.of("on_error") == [(error,)]


@on_loop
async def test_messages_wait_while_reading_is_paused() -> None:
    """Those of the same read are not delivered either, and keep their order."""
    journal = Calls()

    def pause(connection: Connection, message: str) -> None:
        journal.note(message)
        connection.pause_recv()

    async with serve(LINES, **journal.callbacks(on_message=pause)) as server:
        client = await server.connect()
        await client.send(b"one\ntwo\nthree\n")
        await journal.until("one")
        for name in ("two", "three"):
            assert journal.of(name) == []
            journal.connections[0].resume_recv()
            await journal.until(name)


# What a client may do wrong.


@pytest.mark.parametrize(
    ("listen", "sent", "code", "cause"),
    [
        (LINES, b"x" * 101, 1009, "too_big"),
        (LINES, b"\xff\n", 1007, "not_utf8"),
        (FRAMES, b"\0\0\1\0", 1009, "too_big"),
        (FRAMES, b"\0\0\0\3", 1002, "malformed"),
    ],
)
@on_loop
async def test_what_is_no_packet_ends_its_connection(
    listen: str, sent: bytes, code: int, cause: str
) -> None:
    """Counted, logged and told to ``on_error``; what was sent before arrives."""
    journal = Calls()
    callbacks = journal.callbacks(on_open=lambda connection: connection.send("hello"))
    async with serve(listen, limits={"max_message_size": 100}, **callbacks) as server:
        client = await server.connect()
        await client.send(sent)
        data, end = await client.read_end()
        assert (data[-6:].strip(), end) == (b"hello", EOF)
        await client.close()
        await journal.until("on_close", code)
        assert server.service.counts[cause] == 1
        assert len(server.lines()) == 1

    assert len(journal.of("on_error")) == 1


@on_loop
async def test_a_stream_that_ends_within_a_packet_is_counted() -> None:
    journal = Calls()
    async with serve(LINES, **journal.callbacks(on_message=echo)) as server:
        client = await server.connect()
        await client.send(b"one\ntw")
        client.end()
        assert await lines_from(client) == ["one"]
        await journal.until("on_close", 1006, "the stream ended within a packet")
        assert server.service.counts["ended_within_packet"] == 1


@on_loop
async def test_a_silent_client_is_closed_and_one_that_takes_messages_stays() -> None:
    """A byte now and then is no message, so that a packet cannot be sent for ever."""
    journal = Calls()
    async with serve(LINES, timeouts={"idle": 0.4}, **journal.callbacks()) as server:
        client = await server.connect()
        dripping = await server.connect()
        await journal.until("on_open", count=2)

        async def drip() -> None:
            while not journal.of("on_close"):
                dripping.push(b"x")
                await asyncio.sleep(0.02)

        listening = await server.connect()
        await journal.until("on_open", count=3)
        receiver = journal.connections[2]

        async def push() -> None:
            while len(journal.of("on_close")) < 2:
                receiver.send("news")
                await asyncio.sleep(0.02)

        await asyncio.gather(drip(), push())
        assert await lines_from(client) == []
        assert receiver.state is State.OPEN
        assert server.service.counts["idle"] == 2
        await listening.close()

    assert journal.of("on_close")[:2] == [(1008, "silent for 0.4 s")] * 2


@on_loop
async def test_a_flood_of_small_packets_is_ended() -> None:
    journal = Calls()
    limits = {"max_messages_per_second": 10}
    async with serve(LINES, limits=limits, **journal.callbacks()) as server:
        client = await server.connect()
        await client.send(b"\n" * 11)
        assert await lines_from(client) == []
        await client.close()
        await journal.until("on_close", 1008)
        assert server.service.counts["message_flood"] == 1
        server.lines()


@on_loop
async def test_connections_are_limited() -> None:
    """In all, and by address, which is that of the PROXY header."""
    journal = Calls()
    options: dict[str, Any] = {
        "proxy_protocol": "required",
        "trusted_proxies": ["127.0.0.1"],
        **journal.callbacks(),
    }
    limits = {"max_connections": 2, "max_connections_per_ip": 1}
    async with serve(LINES, limits=limits, **options) as server:
        first = await server.connect()
        await first.send(v2("198.51.100.1", 1))
        await journal.until("on_open")
        again = await server.connect()
        await again.send(v2("198.51.100.1", 2))
        assert (await again.read_end())[0] == b""
        other = await server.connect()
        await other.send(v2("198.51.100.2", 3))
        await journal.until("on_open", count=2)
        assert (await (await server.connect()).read_end())[0] == b""
        counts = server.service.counts
        assert (counts["max_connections_per_ip"], counts["max_connections"]) == (1, 1)
        server.lines()

    assert [one.remote_address for one in journal.connections] == [
        "198.51.100.1:1",
        "198.51.100.2:3",
    ]


@pytest.mark.parametrize("policy", ["drop_newest", "drop_oldest", "close"])
@on_loop
async def test_a_client_that_does_not_read_is_bounded(policy: str) -> None:
    journal = Calls()
    limits = {"max_send_buffer_size": 200_000}
    callbacks = journal.callbacks()
    async with serve(FRAMES, limits=limits, slow_consumer=policy, **callbacks) as server:
        client = await server.connect(receive_buffer=4096)
        await journal.until("on_open")
        client.stop_reading()
        connection = journal.connections[0]
        results = [connection.send(bytes(50_000)) for _ in range(200)]
        assert results[0] is SendResult.SENT
        if policy == "close":
            assert results[-1] is SendResult.CLOSED
            await journal.until("on_close", 1013)
        else:
            wanted = SendResult.DROPPED if policy == "drop_newest" else SendResult.QUEUED
            assert results[-1] is wanted
            assert connection.send_buffer_size <= 300_000
        assert connection.dropped + server.service.counts["dropped_slow_peer"] > 0
        server.lines()
        await client.close()


# Sending.


@both
@on_loop
async def test_a_message_cannot_forge_packets(*, secure: bool) -> None:
    """It is refused where it is sent; the hub drops it for these clients, and counts it."""
    journal = Calls()
    async with serve(LINES, secure=secure, **journal.callbacks()) as server:
        client, other = await server.connect(), await server.connect()
        await journal.until("on_open", count=2)
        connection = journal.connections[0]
        wrong: list[Any] = ["one\ntwo", "one\rtwo", b"one\n", b"\xff", 5]
        for message in wrong:
            with pytest.raises(ValueError, match="a line"):
                connection.send(message)
        for one in journal.connections:
            await one.join("all")
        hub = server.service._membership.local_node  # type: ignore[union-attr] # noqa: SLF001
        hub.local_clients.send(*to_group("all", "a\nb"))
        await turns(3)
        hub.local_clients.send(*to_group("all", "fine"))
        assert [await client.read(5), await other.read(5)] == [b"fine\n"] * 2
        assert server.service.counts["not_encodable"] == 1
        assert len(server.lines()) == 1


@on_loop
async def test_what_metrics_count() -> None:
    """Messages and bytes in both directions, whichever way they were sent."""
    measurements = Measurements()
    journal = Calls()
    callbacks = journal.callbacks(on_message=echo)
    async with serve(LINES, measurements=measurements, **callbacks) as server:
        client = await server.connect()
        await client.send(b"one\n")
        assert await client.read(4) == b"one\n"
        await client.send(b"three\nfour\n")
        assert await client.read(11) == b"three\nfour\n"
        other = await server.connect()
        await journal.until("on_open", count=2)
        for connection in journal.connections:
            await connection.join("all")
        local = server.service._membership.local_node.local_clients  # type: ignore[union-attr] # noqa: SLF001
        local.send(*to_group("all", "news"))
        local.send(*to_group("all", "more"))
        for one in (client, other):
            assert await one.read(10) == b"news\nmore\n"

    traffic = measurements.traffic
    assert (measurements.received_size, traffic.sent_count, traffic.sent_size) == (15, 7, 35)
    assert measurements.callbacks["on_message"].numbers[-2:] != [0.0, 0.0]


@pytest.mark.parametrize("listen", [LINES, FRAMES])
@pytest.mark.parametrize(
    ("first", "cause", "answer"),
    [
        (b"POST /x?a HTTP/1.1\r\nHost: a\r\n\r\ncommand\n", "http_request", b""),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http_request", b""),
        (v2(), "unexpected_proxy_header", b""),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "unexpected_proxy_header", b""),
        (records(hello()), "tls_on_plain_port", TLS_ALERT),
    ],
)
@on_loop
async def test_who_speaks_something_else_reaches_no_callback(
    listen: str, first: bytes, cause: str, answer: bytes
) -> None:
    """A page of any site can make a browser send a request, whose body would be lines."""
    journal = Calls()
    async with serve(listen, **journal.callbacks()) as server:
        client = await server.connect()
        await client.send(first)
        assert await client.read_end() == (answer, EOF)
        await client.close()
        await journal.until("on_close", 1002)
        assert server.service.counts[cause] == 1
        assert len(server.lines()) == 1

    assert journal.of("on_message") == []


@both
@on_loop
async def test_a_long_target_hides_no_request(*, secure: bool) -> None:
    """Its first line is more than one read; commands could follow as lines."""
    journal = Calls()
    async with serve(LINES, secure=secure, **journal.callbacks()) as server:
        client = await server.connect()
        await client.send(b"POST /" + b"a" * 200_000)
        await client.send(b" HTTP/1.1\r\nHost: a\r\n\r\ncommand\n")
        await client.read_end()
        await journal.until("on_close")
        assert journal.of("on_message") == []
        assert server.service.counts["http_request"] == 1
        server.lines()


@on_loop
async def test_a_line_may_begin_like_a_request_and_come_in_parts() -> None:
    async with serve(LINES, on_message=echo) as server:
        client = await server.connect()
        for part in (b"G", b"ET x", b"\nPOST / HTTP/1.1\n"):
            await client.send(part)
        assert await client.read(22) == b"GET x\nPOST / HTTP/1.1\n"


@on_loop
async def test_bytes_may_begin_with_anything() -> None:
    async with serve(BYTES, on_message=echo) as server:
        client = await server.connect()
        await client.send(b"GET / HTTP/1.1\r\n")
        assert await client.read(16) == b"GET / HTTP/1.1\r\n"


@on_loop
async def test_who_speaks_no_tls_on_a_port_with_tls_is_dropped() -> None:
    async with serve(LINES, secure=True, on_message=echo) as server:
        for first, cause in (
            (b"GET / HTTP/1.1\r\n", "plain_on_tls_port"),
            (b"x\n", "garbage_on_tls_port"),
        ):
            client = await server.connect(tls=False)
            await client.send(first)
            assert (await client.read_end())[0] == b""
            assert server.service.counts[cause] == 1
        server.lines()


# The end of the process.


@on_loop
async def test_a_drain_ends_connections_behind_what_has_arrived() -> None:
    """A client cannot know which of its messages were handled: all that were read are."""
    journal = Calls()
    go_on = asyncio.Event()

    async def answer(connection: Connection, message: str) -> None:
        journal.note(message)
        await go_on.wait()
        echo(connection, message)

    async with serve(LINES, **journal.callbacks(on_message=answer)) as server:
        client = await server.connect()
        await client.send(b"one\ntwo\n")
        await journal.until("one")
        # In several steps, in each of which the connection is still open.
        await server.service.drain(1012, "reload", window=0.2)
        assert journal.connections[0].state is State.OPEN
        go_on.set()
        assert await client.read_end() == (b"one\ntwo\n", EOF)
        await client.close()
        await journal.until("on_close")

    assert journal.of("on_close") == [(1012, "reload")]


@on_loop
async def test_the_system_asks_whether_a_silent_client_is_there() -> None:
    """There is no ping; a NAT forgets connections without one."""
    journal = Calls()
    async with serve(LINES, timeouts={"ping_interval": 25.0}, **journal.callbacks()) as server:
        await server.connect()
        await journal.until("on_open")
        sock = journal.connections[0].link.socket

        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        if sys.platform == "linux":
            options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_USER_TIMEOUT)
            found = [sock.getsockopt(socket.IPPROTO_TCP, one) for one in options]
            assert found == [25, 25, 45_000]


@both
@on_loop
async def test_nothing_stays_of_clients_that_are_gone(*, secure: bool) -> None:
    """However they leave: no object, no count and no timer, without the garbage collector."""
    references: list[weakref.ref[Connection]] = []
    journal = Calls()

    def take(connection: Connection, line: str) -> None:
        if line == "fail":
            raise LookupError(line)
        if line == "close":
            connection.close()
        connection.send(line)

    callbacks = journal.callbacks(on_message=take)
    callbacks["on_connect"] = lambda connection: references.append(weakref.ref(connection))
    limits = {"max_connections": 20, "max_connections_per_ip": 20}
    async with serve(LINES, secure=secure, limits=limits, **callbacks) as server:
        for last in (b"line\n", b"close\n", b"fail\n", b"\xff\n", b"half", b"GET / HTTP/1.1\n") * 6:
            client = await server.connect()
            await client.send(last)
            if last in {b"line\n", b"half"}:
                client.reset()
            else:
                await client.read_end()
            await client.close()
        await journal.until("on_close", count=36)
        await eventually(lambda: not server.service.present_count)
        gc.disable()
        try:
            await eventually(lambda: not any(one() for one in references))
        finally:
            gc.enable()
        admission = server.service._admission  # noqa: SLF001
        assert (admission.count, admission.address_count) == (0, 0)
        server.lines()
    assert len(references) == 36


@on_loop
async def test_only_the_thread_of_the_loop_sends() -> None:
    journal = Calls()
    async with serve(LINES, **journal.callbacks()) as server:
        await server.connect()
        await journal.until("on_open")
        with pytest.raises(WrongThread):
            await asyncio.to_thread(journal.connections[0].send, "hello")


@on_loop
async def test_with_tls_what_has_arrived_is_handled_at_the_end() -> None:
    """Also if reading is paused: TLS has no half-closed connections, on which it could wait."""
    journal = Calls()

    def pause(connection: Connection, line: str) -> None:
        journal.note(line)
        connection.pause_recv()

    async with serve(LINES, secure=True, **journal.callbacks(on_message=pause)) as server:
        client = await server.connect()
        await client.send(b"one\ntwo\n")
        await journal.until("one")
        link: Any = journal.connections[0].link
        link.eof_received()

        assert journal.of("two") == [()]
        assert journal.of("on_close") == [(1000, "")]
