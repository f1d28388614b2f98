"""One worker at work: its beginning, its end, and what many clients leave behind."""

import asyncio
import gc
import math
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateman import ConfigError, Connection, Refuse, Request, State, Timer, Worker, testing
from tests.support.deadlines import TIMEOUT
from tests.support.loop import eventually, on_loop, turns, until_idle
from tests.support.raw import CLOSE, EOF, PING, TEXT, RawClient, frame, handshake, request
from tests.support.server import Journal, Server, serve

both = pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])

GOING_AWAY = (1001, "server is shutting down")


# The beginning.


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
@on_loop
async def test_worker_starts_before_anybody_comes_in(*, is_async: bool) -> None:
    """on_worker_start gets the worker, and is through before the first on_connect."""
    journal = Journal()

    def start(worker: Worker) -> None:
        journal.note("on_worker_start", worker.name)

    async def start_later(worker: Worker) -> None:
        await turns(5)
        start(worker)

    callbacks = journal.callbacks(on_worker_start=start_later if is_async else start)
    async with serve(name="chat", **callbacks) as server:
        await server.open()

        assert journal.entries[:2] == [("on_worker_start", "chat"), ("on_connect",)]


@both
@on_loop
async def test_open_connections_are_found_by_their_id(*, secure: bool) -> None:
    """``worker.connections`` has those that are open, no sooner and no longer."""
    journal = Journal()
    seen: list[tuple[str, list[int]]] = []

    def note(name: str) -> Callable[..., None]:
        def take_note(connection: Connection, *_args: object) -> None:
            seen.append((name, list(connection.worker.connections)))
            journal.note(name)

        return take_note

    names = ["on_connect", "on_websocket_connect", "on_open", "on_message", "on_close"]
    callbacks: dict[str, Any] = {name: note(name) for name in names}
    async with serve(secure=secure, **callbacks) as server:
        client = await server.open()
        await client.send_frame(TEXT, b"a")
        await client.send_close()
        await journal.until("on_close")

        assert seen == [
            ("on_connect", []),
            ("on_websocket_connect", []),
            ("on_open", [1]),
            ("on_message", [1]),
            ("on_close", []),
        ]
        assert server.service.counts["connections"] == 1


# The end.


@both
@on_loop
async def test_everybody_is_told_when_it_stops(*, secure: bool) -> None:
    """Open connections get 1001, handshakes are aborted, and no new client is accepted."""
    journal = Journal()
    async with serve(secure=secure, **journal.callbacks()) as server:
        well_behaved = [await server.client() for _ in range(3)]
        half = await server.connect()
        await half.send(handshake()[:30])
        await turns()
        await server.service.stop(*GOING_AWAY)

        for client in well_behaved:
            await client.wait_closed()
        ends = [(client.close_code, client.close_reason) for client in well_behaved]
        assert ends == [GOING_AWAY] * 3
        assert (await half.read_end())[0] == b""
        assert sorted(journal.of("on_close")) == [*[GOING_AWAY] * 3, (1006, "")]
        assert server.service.present_count == 0
        with pytest.raises((OSError, TimeoutError)):
            async with asyncio.timeout(0.1):
                await server.open()


@both
@on_loop
async def test_clients_that_do_not_answer_do_not_delay_the_end(*, secure: bool) -> None:
    """Nor those that do not read: ``timeouts.shutdown`` is for all of it."""
    journal = Journal()
    timeouts = {"close": 2 * TIMEOUT, "shutdown": 0.3}
    async with serve(secure=secure, timeouts=timeouts, **journal.callbacks()) as server:
        silent = await server.open()
        deaf = await server.open(receive_buffer=4096)
        deaf.stop_reading()
        while journal.connections[1].send(bytes(100_000)):
            pass
        loop = asyncio.get_running_loop()
        begun_at = loop.time()
        await server.service.stop(*GOING_AWAY)

        assert 0.2 < loop.time() - begun_at < TIMEOUT
        assert await silent.read_close() == GOING_AWAY
        assert journal.of("on_close") == [(1006, "")] * 2
        server.lines()


@on_loop
async def test_rejected_clients_are_closed_at_the_stop() -> None:
    """A client that got 400 on a TLS port and stays is not a connection, but is closed too."""
    async with serve(secure=True, timeouts={"close": 30.0}) as server:
        stranger = await server.connect(tls=False)
        await stranger.send(request("GET / HTTP/1.1", "Host: a"))
        data, end = await stranger.read_end()
        assert (data[:12], end) == (b"HTTP/1.1 400", EOF)
        slow = await server.connect(tls=False)
        await slow.send(b"GET / ")
        await turns()
        await server.service.stop(*GOING_AWAY)

        assert (await slow.read_end())[0] == b""
        server.lines()


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
@on_loop
async def test_worker_stops_behind_the_end_of_every_client(*, is_async: bool) -> None:
    """on_worker_stop may close what on_close uses, even if an on_close is slow."""
    journal = Journal()

    async def close_later(_connection: Connection, code: int, _reason: str) -> None:
        await until_idle()
        journal.note("on_close", code)

    def close(_connection: Connection, code: int, _reason: str) -> None:
        journal.note("on_close", code)

    callbacks = journal.callbacks(
        on_close=close_later if is_async else close,
        on_worker_stop=lambda worker: journal.note("stop", len(worker.connections)),
    )
    async with serve(**callbacks) as server:
        open_ones = [await server.client() for _ in range(2)]
        await server.connect()
        await journal.until("on_connect", count=3)
        await server.service.stop(*GOING_AWAY)
        await asyncio.gather(*(client.wait_closed() for client in open_ones))

        ends = [("on_close", 1001), ("on_close", 1001), ("on_close", 1006), ("stop", 0)]
        found = [entry for entry in journal.entries if entry[0] in {"on_close", "stop"}]
        assert (sorted(found[:3], key=str), found[3:]) == (ends[:3], ends[3:])


@on_loop
async def test_end_of_a_worker_has_time_left_whatever_clients_and_handlers_take() -> None:
    """Cancelled callbacks end before it, too."""
    journal = Journal()

    async def never_ends(_connection: Connection) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            journal.note("cancelled")

    async def stop(_worker: Worker) -> None:
        await turns(3)
        journal.note("stop")

    timeouts = {"shutdown": 1.0, "close": 5.0}
    async with serve(on_open=never_ends, on_worker_stop=stop, timeouts=timeouts) as server:
        client = await server.open()
        await server.service.stop(*GOING_AWAY)
        await client.close()

    assert [entry[0] for entry in journal.entries][:2] == ["cancelled", "stop"]


# What a connection waits for.


@both
@on_loop
async def test_a_function_runs_later_unless_its_connection_is_closed(*, secure: bool) -> None:
    """Once, with its arguments, plain or async; and nothing keeps a connection that is gone."""
    journal = Journal()

    async def note_later(*entry: object) -> None:
        await turns(2)
        journal.note(*entry)

    def open_(connection: Connection) -> None:
        connection.after(0.01, journal.note, connection.id, "plain")
        connection.after(0.01, note_later, connection.id, "async")
        deleted = connection.after(0.01, journal.note, connection.id, "deleted")
        assert Timer.delete(deleted)
        connection.after(60, journal.note, connection)
        gone.append(weakref.ref(connection))

    def close(connection: Connection, *_: object) -> None:
        late = connection.after(0.001, journal.note, connection.id, "late")
        journal.note("close", Timer.delete(late))

    gone: list[weakref.ref[Connection]] = []
    async with serve(secure=secure, on_open=open_, on_close=close) as server:
        clients = [await server.open() for _ in range(2)]
        for number in (1, 2):
            await journal.until(number, "plain")
            await journal.until(number, "async")
        for client in clients:
            await client.close()
        await journal.until("close", count=2)
        await asyncio.sleep(0.01)
        await eventually(lambda: gc.collect() >= 0 and not any(ref() for ref in gone))

        assert {entry for entry in journal.entries if entry[0] != "close"} == {
            (client, kind) for client in (1, 2) for kind in ("plain", "async")
        }
        assert journal.of("close") == [(False,)] * 2


@on_loop
async def test_what_a_connection_cannot_wait_for_is_a_mistake() -> None:
    """As with other timers; an exception of its function closes no connection."""
    refused: list[str] = []

    def fail() -> None:
        raise LookupError("bug")

    def open_(connection: Connection) -> None:
        for seconds, function in ((0, fail), (1, "fail")):
            try:
                connection.after(seconds, function)  # type: ignore[arg-type]
            except ConfigError as error:
                refused.append(str(error))
        connection.after(0.001, fail)

    error = "the timer of fail raised LookupError"
    async with serve(on_open=open_) as server, server.client() as client:
        await asyncio.sleep(0.01)
        await (await client.ping())

        assert refused == [
            "a timer of 0 seconds would never run: give it a positive number.",
            "a timer cannot call 'fail': give it a function, and its arguments after it.",
        ]
        assert server.lines() == [f"{error} <- LookupError('bug')"]


@on_loop
async def test_client_without_a_login_in_time_is_closed() -> None:
    """A client with a uid stays; the others are counted."""

    def log_in(connection: Connection, _message: str) -> None:
        connection.bind("ann")

    def enter(connection: Connection, request: Request) -> None:
        if "bob" in request.path:
            connection.bind("bob")

    timeouts = {"login": 0.1}
    async with (
        serve(on_websocket_connect=enter, on_message=log_in, timeouts=timeouts) as server,
        server.client() as ann,
        server.client("bob") as bob,
        server.client() as stranger,
    ):
        await ann.send("log me in")
        await stranger.wait_closed()
        for client in (ann, bob):
            await (await client.ping())

        assert (stranger.close_code, stranger.close_reason) == (1008, "no login in time")
        assert server.service.counts["login_timeout"] == 1


# Who has an end.


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({"on_close"}, []),
        ({"on_close", "on_open", "on_message"}, []),
        ({"on_close", "on_websocket_connect"}, ["on_websocket_connect", "on_close"]),
        ({"on_close", "on_connect"}, ["on_connect", "on_close"] * 4),
    ],
    ids=lambda value: "+".join(sorted(value)) if isinstance(value, set) else None,
)
@on_loop
async def test_on_close_runs_only_after_another_callback(
    declared: set[str], expected: list[str]
) -> None:
    """A health check, a bad handshake and a refused origin have no on_close."""
    journal = Journal()

    def refuse(_connection: Connection, _request: Request) -> None:
        journal.note("on_websocket_connect")
        raise Refuse(403)

    callbacks = journal.callbacks(on_websocket_connect=refuse)
    callbacks = {name: function for name, function in callbacks.items() if name in declared}
    async with serve(allowed_origins=["https://example.com"], **callbacks) as server:
        await server.ask(request("GET /healthz HTTP/1.0"))
        await server.ask(b"nonsense\r\n\r\n")
        await server.ask(handshake("/", ("Origin: https://elsewhere.example",)))
        if "on_websocket_connect" in declared or "on_connect" in declared:
            await server.ask(handshake() if "on_connect" not in declared else b"x\r\n\r\n")
        await eventually(lambda: server.service.present_count == 0)

        assert sorted(str(entry[0]) for entry in journal.entries) == sorted(expected)


@on_loop
async def test_open_connection_has_an_on_close_without_any_other_callback() -> None:
    """It is a WebSocket that is over."""
    journal = Journal()
    async with serve(on_close=lambda _, code, reason: journal.note(code, reason)) as server:
        client = await server.open()
        await client.send_close(4000)
        await journal.until(4000)


@on_loop
async def test_failing_end_of_a_worker_ends_it_all_the_same() -> None:
    """An exception of on_worker_stop is logged."""

    def stop(_worker: Worker) -> None:
        raise RuntimeError("bug")

    journal = Journal()
    error = "worker: on_worker_stop failed <- RuntimeError('bug')"
    async with serve(errors=[error], **journal.callbacks(on_worker_stop=stop)) as server:
        client = await server.client()
    await client.wait_closed()

    assert journal.of("on_close") == [GOING_AWAY]


@on_loop
async def test_endless_end_of_a_worker_is_bounded() -> None:
    """on_worker_stop has the rest of ``timeouts.shutdown``, after all clients are closed."""

    async def stop(_worker: Worker) -> None:
        await asyncio.Event().wait()

    error = "worker: on_worker_stop took longer than timeouts.shutdown"
    timeouts = {"shutdown": 0.2}
    async with serve(on_worker_stop=stop, timeouts=timeouts, errors=[error]) as server:
        client = await server.client()
    await client.wait_closed()

    assert (client.close_code, client.close_reason) == GOING_AWAY


@on_loop
async def test_drain_closes_bit_by_bit() -> None:
    """Health checks fail at once, and clients are closed over the window, until none is open."""
    journal = Journal()
    async with serve(**journal.callbacks()) as server:
        early = await server.connect()
        clients = [await server.client() for _ in range(10)]
        loop = asyncio.get_running_loop()
        before = loop.time()
        draining = asyncio.create_task(server.service.drain(1012, "restart", window=10.0))
        await turns()
        after = loop.time()
        await early.send(request("GET /healthz HTTP/1.0"))
        assert (await early.read_response()).status == 503
        for _ in range(10):
            await testing.advance(1)
            now = loop.time()
            states = [one.state for one in server.worker.connections.values()]
            closed = 10 - states.count(State.OPEN)
            # It looks every 0.05 s.
            assert min(math.ceil(now - after - 0.2), 10) <= closed <= math.ceil(now - before)
        await draining
        for client in clients:
            await client.wait_closed()

        assert {client.close_code for client in clients} == {1012}
        assert server.worker.connections == {}


@on_loop
async def test_client_that_connects_during_a_drain_does_not_delay_its_end() -> None:
    """They may ask how the service is, and are no reason to go on; handshakes get 503."""
    async with serve(timeouts={"handshake": 2 * TIMEOUT}) as server:
        client = await server.client()
        draining = asyncio.create_task(server.service.drain(1012, "restart", window=60.0))
        await turns()
        silent = await server.connect()
        assert (await server.ask(handshake())).status == 503
        assert (await server.ask(request("GET /healthz HTTP/1.0"))).status == 503
        await client.wait_closed()
        async with asyncio.timeout(TIMEOUT):
            await draining
        await silent.close()

        assert server.service.counts["draining"] == 1


# What many clients leave behind.


async def comes_and_goes(server: Server) -> None:
    """Be a good client."""
    async with server.client() as client:
        await client.send("hello")


async def is_closed(client: RawClient) -> None:
    """Read the server's Close, behind any pings."""
    while (found := await client.read_frame()).opcode != CLOSE:
        assert found.opcode == PING
    await client.close()


async def vanishes(server: Server) -> None:
    """End in the middle of a frame."""
    client = await server.open()
    await client.send(frame(TEXT, bytes(1000))[:500])
    client.reset()


async def breaks_the_protocol(server: Server) -> None:
    """Be closed with 1002."""
    client = await server.open()
    await client.send(frame(3))
    await is_closed(client)


async def goes_before_its_handshake(server: Server) -> None:
    """Connect, and send half a request."""
    client = await server.connect()
    await client.send(handshake()[:50])
    await client.close()


async def is_refused(server: Server) -> None:
    """Be told 403."""
    assert (await server.ask(handshake("/refused"))).status == 403


async def asks_for_health(server: Server) -> None:
    """Be a load balancer."""
    assert (await server.ask(request("GET /healthz HTTP/1.0"))).status == 200


async def fails(server: Server) -> None:
    """Meet a bug of the application's."""
    client = await server.open()
    await client.send_frame(TEXT, b"fail")
    await is_closed(client)


async def goes_without_tls(server: Server) -> None:
    """Break a TLS handshake off; without TLS, say nothing."""
    client = await RawClient.connect(server.address)
    await client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc" if server.tls else b"")
    await client.close()


def descriptor_count() -> int:
    """Tell how many files and sockets are open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


ALL: list[Callable[[Server], Awaitable[None]]] = [
    comes_and_goes,
    vanishes,
    breaks_the_protocol,
    goes_before_its_handshake,
    is_refused,
    asks_for_health,
    fails,
    goes_without_tls,
]


@both
@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
@on_loop
async def test_nothing_stays_of_clients_that_are_gone(*, is_async: bool, secure: bool) -> None:
    """After hundreds of all kinds: no object, no descriptor, no count, no task, no timer."""
    references: list[weakref.ref[Connection]] = []

    def connect(connection: Connection) -> None:
        references.append(weakref.ref(connection))

    def decide(_connection: Connection, asked: Request) -> None:
        if asked.path == "/refused":
            raise Refuse(403)

    def take(_connection: Connection, message: str) -> None:
        if message == "fail":
            raise RuntimeError("bug")

    async def take_later(connection: Connection, message: str) -> None:
        await turns(2)
        take(connection, message)

    # Quick enough that the wheel turns many times meanwhile.
    timeouts = {"ping_interval": 0.05, "pong": 5.0}
    # Enough for those who are there together: if one were not counted out, the last were refused.
    limits = {"max_connections": 64, "max_connections_per_ip": 64}
    async with serve(
        secure=secure,
        limits=limits,
        timeouts=timeouts,
        on_connect=connect,
        on_websocket_connect=decide,
        on_message=take_later if is_async else take,
    ) as server:
        await asyncio.gather(*(act(server) for act in ALL))
        await eventually(lambda: not server.service.present_count)
        before = descriptor_count()
        for _ in range(10):
            await asyncio.gather(*(act(server) for act in ALL * 4))
        await eventually(lambda: not server.service.present_count)

        assert len(references) >= 250
        # picows holds what it has refused for 10 ms more.
        await eventually(lambda: gc.collect() >= 0 and not any(one() for one in references))
        assert descriptor_count() == before
        assert server.worker.connections == {}
        server.lines()


@on_loop
async def test_state_of_a_connection_moves_in_one_direction() -> None:
    """From every callback it is seen where it is."""
    states: list[State] = []

    def see(connection: Connection, *_args: object) -> None:
        states.append(connection.state)

    names = ["on_connect", "on_websocket_connect", "on_open", "on_message", "on_close"]
    callbacks: dict[str, Any] = dict.fromkeys(names, see)
    async with serve(**callbacks) as server:
        async with server.client() as client:
            await client.send("hello")
        await eventually(lambda: len(states) == 5)

        assert states == [
            State.CONNECTING,
            State.CONNECTING,
            State.OPEN,
            State.OPEN,
            State.CLOSED,
        ]
