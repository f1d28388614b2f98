"""How a connection ends so that its peer still reads what was written."""

import asyncio
import ssl
from typing import Any

import aiofastnet
import pytest

from gateman import Connection, Request
from gateman.net.lingering_close import close_lingering
from tests.support.loop import on_loop, until_idle
from tests.support.raw import EOF, TEXT, RawClient, frame, handshake
from tests.support.server import authority, certificate, serve

LARGE = bytes(3_000_000)


class Peer(asyncio.Protocol):
    """Our end of one connection, on the transport of aiofastnet that the package uses."""

    def __init__(self) -> None:
        self.made: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self.made.set_result(transport)


async def connected(*, secure: bool) -> tuple[RawClient, Any, Peer]:
    """Connect a client to a transport of the kind that services have."""
    loop = asyncio.get_running_loop()
    options: dict[str, Any] = {}
    if secure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate().certificate, certificate().key)
        options = {"ssl": context, "ssl_shutdown_timeout": 0.5}
    peer = Peer()
    server = await aiofastnet.create_server(loop, lambda: peer, "127.0.0.1", 0, **options)
    client = await RawClient.connect(
        server.sockets[0].getsockname()[:2],
        tls=authority().trusting_client() if secure else None,
    )
    transport = await peer.made
    server.close()
    return client, transport, peer


both = pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])


@both
@on_loop
async def test_peer_reads_all_and_then_the_end(*, secure: bool) -> None:
    """Also what the kernel has not taken yet; and our end comes before the peer's."""
    client, transport, peer = await connected(secure=secure)
    transport.write(LARGE)
    close_lingering(transport, peer.lost.set)

    assert await client.read_end() == (LARGE, EOF)
    await client.close()
    await peer.lost.wait()


@both
@on_loop
async def test_unread_data_does_not_reset_the_connection(*, secure: bool) -> None:
    """What the peer has sent, and goes on to send, is read into the void."""
    client, transport, peer = await connected(secure=secure)
    transport.pause_reading()
    client.push(LARGE)
    await until_idle()
    transport.write(b"why")
    close_lingering(transport, peer.lost.set)
    client.push(b"" if secure else LARGE)

    assert await client.read_end() == (b"why", EOF)
    await client.close()
    await peer.lost.wait()


@both
@on_loop
async def test_end_of_a_paused_peer_is_seen(*, secure: bool) -> None:
    """Whatever had paused reading, the peer's end is what is waited for."""
    client, transport, peer = await connected(secure=secure)
    transport.pause_reading()
    close_lingering(transport, peer.lost.set)
    assert await client.read_end() == (b"", EOF)
    await client.close()

    await peer.lost.wait()


@both
@on_loop
async def test_aborted_connection_is_lost_at_once(*, secure: bool) -> None:
    """The caller bounds how long it may take."""
    client, transport, peer = await connected(secure=secure)
    client.stop_reading()
    close_lingering(transport, peer.lost.set)
    await until_idle()
    assert not peer.lost.is_set()
    transport.abort()
    await peer.lost.wait()
    await client.close()


@both
@on_loop
async def test_connection_that_is_gone_already_is_lost(*, secure: bool) -> None:
    """To end what has been aborted does no harm."""
    client, transport, peer = await connected(secure=secure)
    transport.abort()
    close_lingering(transport, peer.lost.set)
    await peer.lost.wait()
    await client.close()


@both
@pytest.mark.parametrize("where", ["on_websocket_connect", "on_message"])
@on_loop
async def test_abort_while_the_peer_sends_is_no_error(where: str, *, secure: bool) -> None:
    """The rest of what the peer sends is not read, and nothing is logged as our fault."""

    def end(connection: Connection, _: Request | str | bytes) -> None:
        connection.destroy()

    callbacks: dict[str, Any] = {where: end}
    async with serve(secure=secure, **callbacks) as server:
        for _ in range(4):
            client = await server.connect()
            client.push(handshake() + frame(TEXT, bytes(4000)) * 40)
            await client.read_end()

        assert server.lines() == []
