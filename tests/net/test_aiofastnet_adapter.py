"""Alerts of failed TLS handshakes, as a client gets them; OpenSSL writes them, aiofastnet not."""

import asyncio
import contextlib
import selectors
import socket
import ssl
from typing import Any

import aiofastnet
import pytest

from gateman import Connection
from gateman.net.aiofastnet_adapter import LoopWithAlerts
from tests.support.counted_server import serve_counted
from tests.support.loop import eventually, on_loop
from tests.support.preambles import arriving
from tests.support.raw import frame, handshake
from tests.support.server import authority, certificate, serve, ssl_options

# RFC 8446, section 6.2: a fatal alert, not encrypted yet, about a ClientHello that is too short.
DECODE_ERROR = bytes((21, 3, 3, 0, 2, 2, 50))
SHORT_HELLO = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"


def refusal(port: int, context: ssl.SSLContext) -> str | None:
    """Do a handshake and read, without asyncio; gives OpenSSL's word for what came."""
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        pytest.raises(ssl.SSLError) as caught,
        # TLS 1.3 clients are done before the server has judged their certificate.
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        secure.recv(1)
    return caught.value.reason


def without_common_version(context: ssl.SSLContext) -> None:
    """Speak an old version only."""
    context.set_ciphers("ALL:@SECLEVEL=0")
    for end in ("minimum_version", "maximum_version"):
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            setattr(context, end, ssl.TLSVersion.TLSv1_1)


def without_common_cipher(context: ssl.SSLContext) -> None:
    """Ask for what the server's certificate has no key for."""
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (without_common_version, "TLSV1_ALERT_PROTOCOL_VERSION"),
        (without_common_cipher, "SSLV3_ALERT_HANDSHAKE_FAILURE"),
    ],
)
@on_loop
async def test_client_reads_why_its_hello_was_refused(spoil: Any, reason: str) -> None:
    """It can tell its user more than that the connection has ended."""
    context = authority().trusting_client()
    spoil(context)
    async with serve_counted(secure=True) as server:
        assert await asyncio.to_thread(refusal, server.port, context) == reason
        server.lines()


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        (ssl.TLSVersion.TLSv1_2, "SSLV3_ALERT_HANDSHAKE_FAILURE"),
        (ssl.TLSVersion.TLSv1_3, "TLSV13_ALERT_CERTIFICATE_REQUIRED"),
    ],
)
@on_loop
async def test_client_reads_that_a_certificate_is_asked_for(
    version: ssl.TLSVersion, reason: str
) -> None:
    """Under TLS 1.3 that alert is encrypted."""
    context = authority().trusting_client()
    context.maximum_version = version
    options = ssl_options(verify_peer=True, cafile=certificate().authority)
    async with serve_counted(context={"ssl": options}, secure=True) as server:
        assert await asyncio.to_thread(refusal, server.port, context) == reason
        server.lines()


@on_loop
async def test_malformed_hello_is_answered_with_an_alert() -> None:
    """And with the end of the connection behind it."""
    async with serve_counted(secure=True) as server:
        async with arriving(server, SHORT_HELLO, tls=False) as client:
            assert await client.read_end() == (DECODE_ERROR, "eof")
        server.lines()


@on_loop
async def test_what_the_kernel_does_not_take_is_not_waited_for() -> None:
    """A peer that reads nothing leaves no descriptor in the loop's hands."""
    async with serve(secure=True) as server:
        contexts = server.service.contexts
        assert contexts is not None
        loop = asyncio.get_running_loop()
        selector: selectors.BaseSelector = vars(loop)["_selector"]
        with socket.create_server(("127.0.0.1", 0)) as listener:
            peer = socket.create_connection(listener.getsockname())
            ours, _ = listener.accept()
        ours.settimeout(0)
        # Before we fill what goes the other way: what arrives makes room there.
        peer.sendall(SHORT_HELLO)
        for size in (1 << 16, 1):
            with contextlib.suppress(BlockingIOError):
                while ours.send(bytes(size)):
                    pass
        before = set(selector.get_map())
        with peer:
            with pytest.raises(ssl.SSLError):
                await aiofastnet.connect_accepted_socket(
                    LoopWithAlerts(loop),  # type: ignore[arg-type] # it is one to its transport
                    asyncio.Protocol,
                    ours,
                    ssl=contexts.select(None),
                )
            await eventually(lambda: ours.fileno() < 0)

            assert set(selector.get_map()) == before


@on_loop
async def test_a_connection_is_deferred_until_it_is_open() -> None:
    """A handshake waits for those that are open, from its first flight to the 101."""

    def deferred() -> int:
        made: Any = vars(asyncio.get_running_loop())["_deferred"]
        return 0 if made is None else len(vars(made)["_readers"])

    async with serve(secure=True, on_message=Connection.send) as server:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", server.port, ssl=authority().trusting_client(), server_hostname="localhost"
        )
        await eventually(lambda: deferred() == 1)
        writer.write(handshake())
        await reader.readuntil(b"\r\n\r\n")
        assert deferred() == 0
        writer.write(frame(1, b"hi"))
        assert await reader.readexactly(4) == b"\x81\x02hi"
        writer.close()
        await writer.wait_closed()
