"""Listening sockets of every kind, and what comes in through them."""

import asyncio
import resource
import socket
import ssl
import time
from pathlib import Path

import pytest

from gateman import Connection
from tests.support.certificates import Authority
from tests.support.deadlines import TIMEOUT
from tests.support.loop import eventually, on_loop, until_idle
from tests.support.raw import EOF, TEXT, Frame, RawClient, frame, handshake, request
from tests.support.server import Journal, Server, authority, child, needs_ipv6, serve, ssl_options


def echo(connection: Connection, message: str) -> None:
    """Send everything back."""
    connection.send(message)


async def check_echo(client: RawClient) -> None:
    """See that a WebSocket works."""
    await client.send(handshake() + frame(TEXT, b"hello"))
    assert (await client.read_head()).status == 101
    assert await client.read_frame() == Frame(TEXT, b"hello")


# Addresses.


@needs_ipv6
@on_loop
async def test_ipv6_listener_takes_both_families() -> None:
    """``[::]`` means everybody, and an IPv4 client is known by its IPv4 address."""
    journal = Journal()
    async with serve("websocket://[::]:0", **journal.callbacks(on_message=echo)) as server:
        six = await server.connect()
        four = await RawClient.connect(("127.0.0.1", server.port))
        await check_echo(six)
        await check_echo(four)
        local = [one.local_address for one in journal.connections]
        remote = [one.remote_ip for one in journal.connections]
        await four.close()

        assert remote == ["::1", "127.0.0.1"]
        assert local == [f"[::1]:{server.port}", f"127.0.0.1:{server.port}"]


@needs_ipv6
@on_loop
async def test_name_listens_on_all_its_addresses() -> None:
    """``localhost`` is reached over each family that it has, on one port."""
    async with serve("websocket://localhost:0", on_message=echo) as server:
        found = socket.getaddrinfo("localhost", server.port, type=socket.SOCK_STREAM)
        for host in {str(where[0]) for *_, where in found}:
            client = await RawClient.connect((host, server.port))
            await check_echo(client)
            await client.close()


@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
@on_loop
async def test_unix_socket(tmp_path: Path, *, secure: bool) -> None:
    """WebSockets, health checks and broken frames, over a socket that has no TCP options."""
    path = tmp_path / "chat.sock"
    journal = Journal()
    callbacks = journal.callbacks(on_message=echo)
    async with serve(f"websocket+unix://{path}", secure=secure, **callbacks) as server:
        client = await server.connect()
        await check_echo(client)
        (connection,) = journal.connections
        assert (connection.peer_ip, connection.remote_port) == ("unix", 0)
        assert connection.local_address == str(path)
        await client.send(frame(3))
        assert (await client.read_close())[0] == 1002
        assert await client.read_end() == (b"", EOF)
        assert (await server.ask(request("GET /healthz HTTP/1.0"))).status == 200
    assert not path.exists()


@on_loop
async def test_client_of_a_unix_socket_is_a_trusted_proxy(tmp_path: Path) -> None:
    """Who may open the socket's file may say who the client is."""
    path = tmp_path / "chat.sock"
    journal = Journal()
    async with serve(f"websocket+unix://{path}", **journal.callbacks()) as server:
        await server.open(headers=("X-Real-IP: 203.0.113.7",))

        assert journal.connections[0].remote_ip == "203.0.113.7"


@on_loop
async def test_burst_of_connections_is_accepted_in_turns() -> None:
    """More than one turn's worth, all of them answered."""
    async with serve(on_message=echo) as server:
        clients = await asyncio.gather(*(server.connect() for _ in range(200)))
        await asyncio.gather(*(check_echo(client) for client in clients))

        assert len(server.service.connections) == 200


# TLS.


@on_loop
async def test_certificate_is_chosen_by_name(tmp_path: Path) -> None:
    """Exact names, wildcards, and ``local_cert`` for all others, in real handshakes."""
    other = Authority()
    exact = other.issue(tmp_path, "a.example", stem="exact")
    wild = other.issue(tmp_path, "*.b.example", stem="wild")
    names = {
        "a.example": {"local_cert": str(exact.certificate), "local_pk": str(exact.key)},
        "*.b.example": {"local_cert": str(wild.certificate), "local_pk": str(wild.key)},
    }
    context = {"ssl": ssl_options(SNI_server_certs=names)}
    found: dict[str, str] = {}
    async with serve(context=context, secure=True, on_message=echo) as server:
        for name in ("a.example", "x.b.example", "b.example", "unknown.example"):
            client = ssl.create_default_context()
            client.check_hostname = False
            client.verify_mode = ssl.CERT_NONE
            connected = await RawClient.connect(
                ("127.0.0.1", server.port), tls=client, server_name=name
            )
            await check_echo(connected)
            der = connected.tls.getpeercert(binary_form=True)
            found[name] = {exact.der: "exact", wild.der: "wild"}.get(der or b"", "default")
            await connected.close()

    assert found == {
        "a.example": "exact",
        "x.b.example": "wild",
        "b.example": "default",
        "unknown.example": "default",
    }


def resume(port: int, context: ssl.SSLContext) -> list[bool | None]:
    """Connect twice with one session, by hand: asyncio knows no sessions."""
    session = None
    resumed: list[bool | None] = []
    for _ in range(2):
        with (
            socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as plain,
            context.wrap_socket(plain, server_hostname="localhost", session=session) as secure,
        ):
            secure.sendall(handshake())
            assert secure.recv(1024).startswith(b"HTTP/1.1 101 ")
            resumed.append(secure.session_reused)
            session = secure.session
    return resumed


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@on_loop
async def test_tls_sessions_are_resumed(version: ssl.TLSVersion) -> None:
    """A client that comes back saves the expensive half of the handshake."""
    context = authority().trusting_client()
    context.minimum_version = context.maximum_version = version
    async with serve(secure=True) as server:
        assert await asyncio.to_thread(resume, server.port, context) == [False, True]


@on_loop
async def test_alpn_is_http_1_1() -> None:
    """Who offers HTTP/2 too gets the one in which there are WebSockets."""
    context = authority().trusting_client()
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with serve(secure=True) as server:
        client = await RawClient.connect(("127.0.0.1", server.port), tls=context)

        assert client.tls.selected_alpn_protocol() == "http/1.1"
        await client.close()


# When there is too much.


async def crowd(server: Server, count: int) -> list[socket.socket]:
    """Connect without waiting to be accepted."""
    loop = asyncio.get_running_loop()
    clients = []
    for _ in range(count):
        client = socket.socket()
        client.settimeout(0)
        await loop.sock_connect(client, ("127.0.0.1", server.port))
        clients.append(client)
    return clients


@on_loop
async def test_accepting_pauses_without_descriptors() -> None:
    """It says so once, costs no time, and goes on when there are some again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serve(limits={"max_connections": 10_000}, on_message=echo) as server:
        good = await server.open()
        clients = await crowd(server, 8)
        await eventually(lambda: server.service.present_count == 9)
        late = socket.socket()
        try:
            # The lowest free descriptor is above the limit: nothing can be opened.
            resource.setrlimit(resource.RLIMIT_NOFILE, (late.fileno() + 1, hard))
            late.settimeout(0)
            await asyncio.get_running_loop().sock_connect(late, ("127.0.0.1", server.port))
            await eventually(lambda: server.service.counts["out_of_descriptors"] > 0)
            spent = time.process_time()
            await good.send_frame(TEXT, b"others are served")
            assert await good.read_frame() == Frame(TEXT, b"others are served")
            await until_idle()
            assert time.process_time() - spent < 0.5
            assert server.service.present_count == 9
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await eventually(lambda: server.service.present_count == 10)
        for client in (*clients, late):
            client.close()

        assert server.service.counts["out_of_descriptors"] == 1
        (line,) = server.lines()
        assert line == (
            "worker: no connection can be accepted (too many open files): raise the limit on open"
            " files (ulimit -n, LimitNOFILE=)"
        )


@on_loop
async def test_server_may_stop_while_accepting_pauses() -> None:
    """It does not begin again behind the end."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serve(limits={"max_connections": 10_000}) as server:
        late = socket.socket()
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (late.fileno() + 1, hard))
            late.settimeout(0)
            await asyncio.get_running_loop().sock_connect(late, ("127.0.0.1", server.port))
            await eventually(lambda: server.service.counts["out_of_descriptors"] > 0)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        server.lines()
    late.close()


EXHAUSTED = """\
import resource

from gateman import Worker

resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
worker = Worker("websocket://127.0.0.1:0", limits={"max_connections": 1000})

@worker.on_message
def answer(connection, message):
    connection.send(message)

Worker.run_all()
"""


def test_process_survives_without_descriptors(tmp_path: Path) -> None:
    """A crowd beyond ``ulimit -n`` waits in the queue, and gets in when others leave."""
    with child(EXHAUSTED, tmp_path) as process:
        clients = [socket.create_connection(("127.0.0.1", process.port)) for _ in range(60)]
        process.wait_for("no connection can be accepted (too many open files)")
        for client in clients[:50]:
            client.close()
        last = clients[-1]
        last.settimeout(TIMEOUT)
        last.sendall(handshake())

        assert last.recv(1024).startswith(b"HTTP/1.1 101 ")
        for client in clients:
            client.close()
        assert "Traceback" not in process.stderr


@on_loop
async def test_accepted_sockets_inherit_their_options() -> None:
    """Small messages go at once; the kernel has as long for a peer as a ping and its pong."""
    timeouts = {"ping_interval": 30, "pong": 15}
    async with serve(on_message=echo, timeouts=timeouts) as server:
        await check_echo(await server.connect())
        (connection,) = server.service.connections.values()
        sock = connection.link.socket

        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 45_000
