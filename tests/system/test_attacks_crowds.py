"""The attack list, rows 16 to 18: too many at a time, over real sockets."""

import asyncio
import re
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from gateman import Connection
from tests.support.counted_server import admission, serve_counted
from tests.support.deadlines import TIMEOUT
from tests.support.loop import eventually, on_loop
from tests.support.preambles import arriving, dial, v2
from tests.support.raw import TEXT, Frame, RawClient, frame, handshake, request
from tests.support.server import Journal, Server, child

both = pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])


def echo(connection: Connection, message: str | bytes) -> None:
    """Answer with the same message."""
    connection.send(message)


async def check_served(server: Server) -> None:
    """See that a good client is served, as if there were no others."""
    client = await server.open()
    await client.send_frame(TEXT, b"hello")
    assert await client.read_frame() == Frame(TEXT, b"hello")
    await client.close()


async def status_of(server: Server, *lines: str, source: str | None = None) -> int:
    """Do a handshake with more lines, on a connection of its own that stays; gives the status."""
    client = RawClient(
        *await asyncio.open_connection(sock=await dial(server.address, source=source))
    )
    server.closing.push_async_callback(client.close)
    await client.send(handshake(headers=lines))
    return (await client.read_head()).status


# Row 16: too many.


@on_loop
async def test_as_many_connections_as_allowed() -> None:
    """Row 16: more get 503 and when to come back; as soon as somebody leaves there is room."""
    async with serve_counted(limits={"max_connections": 3}, on_message=echo) as server:
        clients = [await server.open() for _ in range(3)]
        for _ in range(2):
            found = await server.ask(handshake())
            assert (found.status, found.headers["retry-after"]) == (503, "30")
            assert found.body == b"This server has as many connections as it takes.\n"
        await clients[0].close()
        await eventually(lambda: server.service.present_count == 2)

        await check_served(server)
        assert server.service.counts["max_connections"] == 2
        (line,) = server.lines()
        assert "limits.max_connections allows: raise it, and the limit on open files" in line


@on_loop
async def test_refused_clients_take_no_permit() -> None:
    """Row 16: who is refused and asks nothing is told nothing, and keeps nobody out."""
    limits = {"max_connections": 2, "max_connections_per_ip": 1}
    async with serve_counted(limits=limits, trusted_proxies=[], on_message=echo) as server:
        first = await server.open()
        silent = [await dial(server.address) for _ in range(60)]
        await eventually(lambda: server.service.counts["max_connections_per_ip"] == 60)

        assert admission(server).count == 1 + 32
        assert await status_of(server, source="127.0.0.2") == 101
        await first.close()
        await eventually(lambda: admission(server).address_count == 1)
        await check_served(server)
        for sock in silent:
            sock.close()


@both
@on_loop
async def test_one_address_has_so_many_connections(*, secure: bool) -> None:
    """Row 16: the others are refused before TLS costs anything, and other addresses are not."""
    limits = {"max_connections_per_ip": 2}
    async with serve_counted(
        secure=secure, limits=limits, trusted_proxies=[], on_message=echo
    ) as server:
        clients = [await server.open() for _ in range(2)]
        if secure:
            with pytest.raises((ConnectionError, ssl.SSLError)):
                await server.connect()
        else:
            found = await server.ask(handshake())
            assert (found.status, found.headers["retry-after"]) == (429, "30")
        async with arriving(server, source="127.0.0.2") as other:
            await other.send(handshake())
            assert (await other.read_head()).status == 101
        await clients[0].close()
        await eventually(lambda: server.service.present_count == 1)

        await check_served(server)
        assert server.service.counts["max_connections_per_ip"] == 1
        assert len(server.lines()) == 1


@on_loop
async def test_ipv6_counts_by_its_64() -> None:
    """Row 16: one customer has as many addresses as he likes."""
    sources = ["2001:db8::1", "2001:db8::2", "2001:db8::3:4:5:6", "2001:db8:0:1::1"]
    async with serve_counted(
        proxy_protocol="required", limits={"max_connections_per_ip": 2}
    ) as server:
        statuses = []
        for source in sources:
            client = await server.connect()
            await client.send(v2(source) + handshake())
            statuses.append((await client.read_head()).status)

        assert statuses == [101, 101, 429, 101]


@on_loop
async def test_clients_of_a_proxy_count_by_their_address() -> None:
    """Row 16: at the handshake, where it is known; the proxy itself is never full."""
    async with serve_counted(limits={"max_connections_per_ip": 2}) as server:
        clients = ["203.0.113.7"] * 3 + ["203.0.113.8", "203.0.113.7"]
        statuses = [await status_of(server, f"X-Forwarded-For: {client}") for client in clients]

        assert statuses == [101, 101, 429, 101, 429]
        assert [await status_of(server) for _ in range(3)] == [101] * 3


@pytest.mark.parametrize(
    "forge",
    [
        lambda n: ("X-Real-IP: 203.0.113.7", f"X-Forwarded-For: 192.0.2.{n}"),
        lambda n: ("X-Forwarded-For: 203.0.113.7", f"X-Real-IP: 192.0.2.{n}"),
        lambda n: ("X-Forwarded-For: 203.0.113.7", f"Forwarded: for=192.0.2.{n}"),
        lambda n: ("X-Real-IP: 203.0.113.7", f"X-Forwarded-For: unknown{n}"),
        lambda n: ("X-Real-IP: 203.0.113.7", f"X-Forwarded-For: 192.0.2.{n}, 127.0.0.1"),
        lambda _: ("X-Real-IP: 203.0.113.7", "X-Forwarded-For: 127.0.0.1"),
        lambda n: (f"X-Forwarded-For: 192.0.2.{n}, 203.0.113.7",),
        lambda n: (f"X-Forwarded-For: 192.0.2.{n}", "X-Forwarded-For: 203.0.113.7"),
        lambda n: (f'X-Forwarded-For: "192.0.2.{n}', "X-Forwarded-For: 203.0.113.7"),
    ],
)
@on_loop
async def test_forged_addresses_evade_no_cap(forge: Callable[[int], tuple[str, ...]]) -> None:
    """Row 16: what a client writes beside the proxy's word makes it one of those who forge."""
    async with serve_counted(limits={"max_connections_per_ip": 2}) as server:
        statuses = [await status_of(server, *forge(n)) for n in range(1, 6)]

        assert statuses == [101, 101, 429, 429, 429]


@on_loop
async def test_a_second_has_so_many_handshakes() -> None:
    """Row 16: more get 503 and a second to wait, before the application is asked."""
    journal = Journal()
    async with serve_counted(
        limits={"max_handshakes_per_second": 3}, **journal.callbacks()
    ) as server:
        loop = asyncio.get_running_loop()
        begun_at = loop.time()
        statuses = await asyncio.gather(*(status_of(server) for _ in range(30)))
        seconds = int(loop.time() - begun_at) + 2

        assert 3 <= statuses.count(101) <= 3 * seconds
        assert len(journal.of("on_websocket_connect")) == statuses.count(101)
        assert statuses.count(503) == 30 - statuses.count(101)
        assert server.service.counts["max_handshakes_per_second"] == statuses.count(503)
        assert len(server.lines()) == 1
        assert (await server.ask(request("GET /healthz HTTP/1.0"))).status == 200
        found = 503
        while found != 101:
            found = await status_of(server)


@on_loop
async def test_tls_handshakes_are_bounded_too() -> None:
    """Row 16: some more than are accepted, so that they learn why; the rest is cut off before."""
    limits = {"max_handshakes_per_second": 1}

    async def attempt(server: Server) -> str:
        try:
            client = await server.connect()
        except (ConnectionError, ssl.SSLError):
            return "cut off"
        client.push(handshake())
        return str((await client.read_head()).status)

    async with serve_counted(secure=True, limits=limits, trusted_proxies=[]) as server:
        loop = asyncio.get_running_loop()
        begun_at = loop.time()
        found = Counter(await asyncio.gather(*(attempt(server) for _ in range(80))))
        seconds = int(loop.time() - begun_at) + 2

        assert found["101"] <= seconds
        assert found["101"] + found["503"] <= 33 * seconds
        assert server.service.counts["max_handshakes_per_second"] == 80 - found["101"]
        assert min(found["101"], found["503"], found["cut off"]) > 0


# Rows 17 and 18: what there is too little of.

EXHAUSTED = """\
import asyncio, resource, sys, time

from gateman import Worker

resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))
worker = Worker("websocket://127.0.0.1:0", limits={"max_connections": 1000})
tasks = set()

async def tick():
    number = 0
    while True:
        print(f"tick {number}: {time.process_time():.3f} s", file=sys.stderr, flush=True)
        number += 1
        await asyncio.sleep(0.5)

@worker.on_worker_start
def start(_worker):
    tasks.add(asyncio.get_running_loop().create_task(tick()))

@worker.on_message
def answer(connection, message):
    connection.send(message)

Worker.run_all()
"""


def test_process_without_descriptors_waits(tmp_path: Path) -> None:
    """Row 17: it serves whom it has, says so once, uses no time, and goes on when it can."""
    with child(EXHAUSTED, tmp_path) as process:
        good = socket.create_connection(("127.0.0.1", process.port), timeout=TIMEOUT)
        good.sendall(handshake())
        assert good.recv(1024).startswith(b"HTTP/1.1 101 ")
        crowd = [socket.create_connection(("127.0.0.1", process.port)) for _ in range(80)]
        process.wait_for("no connection can be accepted (too many open files)")
        first = int(re.findall(r"tick (\d+):", process.stderr)[-1]) + 1

        def cpu_at(tick: int) -> float:
            return float(process.wait_for(f"tick {tick}:").split()[-2])

        # Two seconds: a loop that spins uses all of them.
        assert cpu_at(first + 4) - cpu_at(first) < 0.5
        good.sendall(frame(TEXT, b"still there"))
        assert good.recv(1024) == b"\x81\x0bstill there"
        for sock in crowd[:70]:
            sock.close()
        last = crowd[-1]
        last.settimeout(TIMEOUT)
        last.sendall(handshake())
        assert last.recv(1024).startswith(b"HTTP/1.1 101 ")
        for sock in (good, *crowd):
            sock.close()

        assert process.stderr.count("no connection can be accepted") == 1
        assert "Traceback" not in process.stderr


ROOMY = """\
import resource

from gateman import Worker

resource.setrlimit(resource.RLIMIT_NOFILE, (96, 96))
worker = Worker("websocket://127.0.0.1:0")
worker.on_message = lambda connection, message: connection.send(message)

Worker.run_all()
"""


def test_limit_on_open_files_is_the_cap(tmp_path: Path) -> None:
    """Row 17: unless another is declared, so that who is too many is told so."""
    with child(ROOMY, tmp_path) as process:
        answers = []
        clients = []
        for _ in range(96 - 64 + 3):
            client = socket.create_connection(("127.0.0.1", process.port), timeout=TIMEOUT)
            client.sendall(handshake())
            answers.append(client.recv(12))
            clients.append(client)
        for client in clients:
            client.close()

        assert answers == [b"HTTP/1.1 101"] * 32 + [b"HTTP/1.1 503"] * 3
        assert "no connection can be accepted" not in process.stderr


@on_loop
async def test_storm_of_connections_leaves_others_their_turn() -> None:
    """Row 18: so many are accepted in one turn of the loop, and no more."""
    async with serve_counted(on_message=echo) as server:
        good = await server.open()
        # Without a turn for the server between them.
        storm = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(300)]
        await good.send_frame(TEXT, b"me too")
        counted = [admission(server).count]
        while counted[-1] < 301:
            await asyncio.sleep(0)
            counted.append(admission(server).count)

        steps = [after - before for before, after in pairwise(counted)]
        assert 1 < max(steps) <= 64
        assert await good.read_frame() == Frame(TEXT, b"me too")
        for sock in storm:
            sock.close()
