"""
A worker behind real HAProxy, which sends PROXY headers of both versions.

Clients come from different loopback addresses, so that one can see whose address arrives.
"""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest

from gateman import Connection
from tests.support.counted_server import serve_counted
from tests.support.deadlines import TIMEOUT
from tests.support.haproxy import haproxy
from tests.support.loop import eventually, on_loop
from tests.support.preambles import dial
from tests.support.raw import BINARY, TEXT, RawClient, frame, handshake
from tests.support.server import Journal, authority, certificate

CLIENT = "127.0.0.2"

ALL_TLVS = (
    "send-proxy-v2 proxy-v2-options crc32c,unique-id,ssl,cert-cn,cert-key,cert-sig,ssl-cipher"
)

versions = pytest.mark.parametrize(
    "send", ["send-proxy", "send-proxy-v2", ALL_TLVS], ids=["v1", "v2", "v2 and TLVs"]
)
both = pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])

CHECK = "check check-send-proxy"


def required(**more: Any) -> dict[str, Any]:
    """Declare a worker behind HAProxy: what it names is a client, also on loopback."""
    return {"proxy_protocol": "required", "trusted_proxies": ["127.0.0.1"], **more}


async def client_of(
    address: tuple[str, int], *, source: str | None = CLIENT, tls: bool = False
) -> RawClient:
    """Connect through HAProxy."""
    sock = await dial(address, source=source)
    async with asyncio.timeout(TIMEOUT):
        return RawClient(
            *await asyncio.open_connection(
                sock=sock,
                ssl=authority().trusting_client() if tls else None,
                server_hostname="localhost" if tls else None,
            )
        )


async def status_of(address: tuple[str, int], *, source: str = CLIENT) -> tuple[int, RawClient]:
    """Do a handshake; gives the answer's status, and the client that has it."""
    client = await client_of(address, source=source)
    await client.send(handshake())
    return (await client.read_head()).status, client


def echo(connection: Connection, message: str | bytes) -> None:
    """Answer with the same message."""
    connection.send(message)


async def check_conversation(
    journal: Journal, address: tuple[str, int], *, tls: bool, source: str = CLIENT
) -> Connection:
    """Talk through HAProxy; gives the connection, once it knows its client."""
    client = await client_of(address, source=source, tls=tls)
    big = bytes(200_000)
    # The first message comes with the handshake, the second is many segments.
    await client.send(handshake("/chat?room=1") + frame(TEXT, b"hello"))
    assert (await client.read_head()).status == 101
    assert (await client.read_frame()).payload == b"hello"
    await client.send(frame(BINARY, big))
    assert (await client.read_frame()).payload == big
    connection = next(one for one in journal.connections if one.request is not None)
    expected = client.socket.getsockname()[:2]
    assert (connection.remote_ip, connection.remote_port) == expected
    assert connection.peer_ip == "127.0.0.1"
    await client.send_close(1000)
    assert await client.read_close() == (1000, "")
    await client.close()
    return connection


# Who the client is.


@versions
@pytest.mark.parametrize("behind", ["plain", "TLS passed through", "TLS ended", "TLS made anew"])
@on_loop
async def test_client_is_known_by_its_header(send: str, behind: str) -> None:
    """With both versions, and wherever TLS begins and ends; a conversation goes through."""
    journal = Journal()
    is_secure = behind in {"TLS passed through", "TLS made anew"}
    ends_tls = behind in {"TLS ended", "TLS made anew"}
    options = f"{send} ssl verify none" if behind == "TLS made anew" else send
    async with serve_counted(
        secure=is_secure, **required(**journal.callbacks(on_message=echo))
    ) as server:
        with haproxy(
            server.port, options, certificate=certificate() if ends_tls else None
        ) as proxy:
            connection = await check_conversation(journal, proxy.address, tls=behind != "plain")

            assert connection.is_secure is is_secure
            assert server.lines() == []


@versions
@on_loop
async def test_ipv6_client_is_known(send: str) -> None:
    """A client that comes to HAProxy by IPv6, while HAProxy comes by IPv4."""
    journal = Journal()
    async with serve_counted(**required(**journal.callbacks(on_message=echo))) as server:
        with haproxy(server.port, send, host="::1") as proxy:
            _, port = proxy.address

            await check_conversation(journal, ("::1", port), tls=False, source="::1")


@versions
@on_loop
async def test_client_behind_a_unix_socket_is_known(send: str, tmp_path: Path) -> None:
    """HAProxy on the same machine may come by a unix socket."""
    journal = Journal()
    async with serve_counted(
        f"websocket+unix://{tmp_path}/s",
        proxy_protocol="required",
        trusted_proxies=["unix"],
        **journal.callbacks(),
    ):
        with haproxy(tmp_path / "s", send) as proxy:
            status, client = await status_of(proxy.address)
            connection = next(one for one in journal.connections if one.request is not None)

            assert (status, connection.remote_ip, connection.peer_ip) == (101, CLIENT, "unix")
            await client.close()


@on_loop
async def test_header_of_http_mode_and_forwarded_for_agree() -> None:
    """Where HAProxy speaks HTTP, what it adds to the request names the same client."""
    journal = Journal()
    async with serve_counted(
        proxy_protocol="required",
        **journal.callbacks(),
    ) as server:
        with haproxy(
            server.port, "send-proxy-v2", mode="http", lines=["option forwardfor"]
        ) as proxy:
            status, client = await status_of(proxy.address)
            (connection,) = (one for one in journal.connections if one.request is not None)

            assert (status, connection.remote_ip) == (101, CLIENT)
            assert connection.request is not None
            assert connection.request.headers["x-forwarded-for"] == CLIENT
            assert server.lines() == []
            await client.close()


# Health checks.


@both
@versions
@pytest.mark.parametrize(
    "ask", ["option httpchk GET /healthz", "option httpchk HEAD /healthz", "option httpchk", ""]
)
@on_loop
async def test_health_check_finds_the_worker_up(send: str, ask: str, *, secure: bool) -> None:
    """Version 2 says LOCAL, version 1 UNKNOWN or HAProxy itself; the check is answered."""
    journal = Journal()
    over = "check-ssl verify none" if secure else ""
    async with serve_counted(secure=secure, **required(**journal.callbacks())) as server:
        with haproxy(server.port, f"{send} {CHECK} {over}", lines=[ask]) as proxy:
            verdict = await asyncio.to_thread(proxy.verdict)

        expected = "UP L7OK 200" if ask else ("UP L6OK" if secure else "UP L4OK")
        assert verdict == expected
        await eventually(lambda: server.service.present_count == 0)
        assert journal.of("on_open") == []
        assert server.lines() == []


@pytest.mark.parametrize("ask", ["option httpchk GET /healthz", "option httpchk"])
@on_loop
async def test_health_check_finds_a_draining_worker_down(ask: str) -> None:
    """HAProxy sends no more clients to a worker that is on its way out."""
    async with serve_counted(**required()) as server:
        await server.service.drain(1001, "", window=1.0)
        with haproxy(server.port, f"send-proxy-v2 {CHECK}", lines=[ask]) as proxy:
            assert (await asyncio.to_thread(proxy.verdict)).startswith("DOWN ")


# Half of it set up.


@both
@pytest.mark.parametrize("send", ["send-proxy", "send-proxy-v2"])
@on_loop
async def test_worker_that_expects_no_header_says_so(send: str, *, secure: bool) -> None:
    """The operator learns what to change, and HAProxy that the worker is down."""
    async with serve_counted(secure=secure) as server:
        with haproxy(
            server.port,
            f"{send} {CHECK} {'check-ssl verify none' if secure else ''}",
            lines=["option httpchk GET /healthz"],
        ) as proxy:
            verdict = await asyncio.to_thread(proxy.verdict)

        assert verdict.startswith("DOWN ")
        (line,) = server.lines()
        assert "a connection begins with a PROXY header, and proxy_protocol='off'" in line


@both
@on_loop
async def test_haproxy_that_sends_no_header_is_refused(*, secure: bool) -> None:
    """And the operator learns what to change."""
    async with serve_counted(secure=secure, **required()) as server:
        with haproxy(
            server.port,
            f"check {'check-ssl verify none' if secure else ''}",
            lines=["option httpchk GET /healthz"],
        ) as proxy:
            verdict = await asyncio.to_thread(proxy.verdict)

        assert verdict.startswith("DOWN ")
        (line,) = server.lines()
        assert "127.0.0.1 did not send a valid PROXY header (no proxy header)" in line


# Caps.


@versions
@on_loop
async def test_clients_count_by_their_own_address(send: str) -> None:
    """One client that is over its cap keeps no other from coming through the same HAProxy."""
    async with serve_counted(**required(limits={"max_connections_per_ip": 2})) as server:
        with haproxy(server.port, send) as proxy:
            found = [
                await status_of(proxy.address, source=source)
                for source in (CLIENT, CLIENT, CLIENT, "127.0.0.3", CLIENT)
            ]

            assert [status for status, _ in found] == [101, 101, 429, 101, 429]
            assert server.service.counts["max_connections_per_ip"] == 2
            for _, client in found:
                await client.close()


@versions
@on_loop
async def test_clients_are_cut_off_before_tls(send: str) -> None:
    """TLS that is passed through is not begun for who is over the cap."""
    async with serve_counted(
        secure=True, **required(limits={"max_connections_per_ip": 1})
    ) as server:
        with haproxy(server.port, send) as proxy:
            first = await client_of(proxy.address, tls=True)
            with pytest.raises((ConnectionError, ssl.SSLError)):
                await client_of(proxy.address, tls=True)
            other = await client_of(proxy.address, source="127.0.0.3", tls=True)

            assert server.service.counts["max_connections_per_ip"] == 1
            for client in (first, other):
                await client.close()


@on_loop
async def test_forged_fields_change_nothing() -> None:
    """HAProxy's header says who it is; what the client writes itself is nobody's word."""
    journal = Journal()
    forged = ("X-Forwarded-For: 192.0.2.1", "X-Real-IP: 192.0.2.2", "Forwarded: for=192.0.2.3")
    async with serve_counted(
        **required(limits={"max_connections_per_ip": 1}, **journal.callbacks())
    ) as server:
        with haproxy(server.port, "send-proxy-v2") as proxy:
            statuses = []
            clients = []
            for field in forged:
                client = await client_of(proxy.address)
                await client.send(handshake(headers=(field,)))
                statuses.append((await client.read_head()).status)
                clients.append(client)

            assert statuses == [101, 429, 429]
            connection = next(one for one in journal.connections if one.request is not None)
            assert connection.remote_ip == CLIENT
            for client in clients:
                await client.close()
