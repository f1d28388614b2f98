"""The PROXY protocol over real sockets: headers of both versions, right, wrong, cut, missing."""

import asyncio
import socket
from pathlib import Path

import pytest

from gateman.net.preamble import MAX_PROXY_SIZE
from tests.support.counted_server import serve_counted
from tests.support.deadlines import TIMEOUT
from tests.support.loop import on_loop, turns
from tests.support.preambles import (
    LOCAL,
    PROXY,
    TCP4,
    UNIX_STREAM,
    UNSPECIFIED,
    arriving,
    dial,
    tlv,
    v1,
    v2,
    v2_header,
)
from tests.support.raw import TEXT, RawClient, frame, handshake, request
from tests.support.server import Journal, Server

both = pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])

# What the client of a header is seen as; the peer is 127.0.0.1 each time.
HEADERS = {
    "v1": (v1(), ("203.0.113.7", 50312)),
    "v1, IPv6": (v1("2001:db8::7"), ("2001:db8::7", 50312)),
    "v1, unknown": (b"PROXY UNKNOWN\r\n", None),
    "v1, unknown with addresses": (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
    "v2": (v2(), ("203.0.113.7", 50312)),
    "v2, IPv6": (v2("2001:db8::7"), ("2001:db8::7", 50312)),
    "v2, IPv4 mapped into IPv6": (v2("::ffff:203.0.113.7"), ("203.0.113.7", 50312)),
    "v2, TLVs": (
        v2(tlvs=tlv(0x01, b"http/1.1") + tlv(0x02, b"example.test") + tlv(0x03, bytes(4))),
        ("203.0.113.7", 50312),
    ),
    "v2, as large as it may be": (
        v2(tlvs=tlv(0x04, bytes(MAX_PROXY_SIZE - 16 - 12 - 3))),
        ("203.0.113.7", 50312),
    ),
    "v2, LOCAL": (v2_header(LOCAL, UNSPECIFIED), None),
    "v2, LOCAL with addresses": (v2_header(LOCAL, TCP4, bytes(12)), None),
    "v2, unspecified": (v2_header(PROXY, UNSPECIFIED, bytes(5)), None),
    "v2, unix": (v2_header(PROXY, UNIX_STREAM, bytes(216)), None),
}
headers = pytest.mark.parametrize(("header", "expected"), HEADERS.values(), ids=list(HEADERS))


async def shake(client: RawClient, path: str = "/") -> None:
    """Do a handshake, and see that a message arrives."""
    await client.send(handshake(path) + frame(TEXT, b"hello"))
    assert (await client.read_head()).status == 101


def only_line(server: Server) -> str:
    """The one line that was logged."""
    (line,) = server.lines()
    return line


@both
@headers
@pytest.mark.parametrize("is_joined", [False, True], ids=["alone", "joined"])
@on_loop
async def test_header_names_the_client(
    header: bytes, expected: tuple[str, int] | None, *, is_joined: bool, secure: bool
) -> None:
    """
    It is taken off, alone in its segment or with a handshake or a ClientHello behind it.

    Where it names nobody, the peer remains.
    """
    journal = Journal()
    async with (
        serve_counted(secure=secure, proxy_protocol="required", **journal.callbacks()) as server,
        arriving(server, header, is_joined=is_joined) as client,
    ):
        await shake(client)
        await journal.until("on_message", "hello")
        (connection,) = journal.connections

        assert connection.peer_ip == "127.0.0.1"
        assert (connection.remote_ip, connection.remote_port) == (
            expected or client.socket.getsockname()
        )
        assert connection.is_secure is secure


@both
@pytest.mark.parametrize("header", [v1(), v2(), v2_header(LOCAL, UNSPECIFIED)])
@on_loop
async def test_header_may_come_byte_by_byte(header: bytes, *, secure: bool) -> None:
    """Each byte in a segment of its own; the server sees every one of them alone."""
    async with serve_counted(secure=secure, proxy_protocol="required") as server:
        sock = await dial(server.address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in header:
            sock.send(bytes([byte]))
            await turns(2)
        async with asyncio.timeout(TIMEOUT):
            client = RawClient(
                *await asyncio.open_connection(
                    sock=sock,
                    ssl=server.tls,
                    server_hostname="localhost" if secure else None,
                )
            )
        await shake(client)
        await client.close()


@pytest.mark.parametrize("header", [v1(), v2(tlvs=tlv(4, b"abc"))], ids=["v1", "v2"])
@on_loop
async def test_header_may_be_cut_anywhere(header: bytes) -> None:
    """Wherever it is cut, its rest may have the request behind it."""
    journal = Journal()
    async with serve_counted(proxy_protocol="required", **journal.callbacks()) as server:
        for cut in range(1, len(header)):
            async with arriving(server, header[:cut]) as client:
                await turns(2)
                await client.send(header[cut:] + handshake())

                assert (await client.read_head()).status == 101

        assert {one.remote_ip for one in journal.connections} == {"203.0.113.7"}
        assert server.lines() == []


WRONG = {
    "a request": (handshake(), "no_proxy_header"),
    "a ClientHello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "no_proxy_header"),
    "empty lines": (b"\r\n\r\n\r\n", "no_proxy_header"),
    "another protocol": (b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n", "bad_proxy_header"),
    "a name": (b"PROXY TCP4 localhost 5.6.7.8 1 2\r\n", "bad_proxy_header"),
    "a port above 65535": (b"PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n", "bad_proxy_header"),
    "a line above 107 bytes": (b"PROXY UNKNOWN " + b"a" * 100, "bad_proxy_header"),
    "version 3": (v2_header(0x31, TCP4, bytes(12)), "bad_proxy_header"),
    "an unknown command": (v2_header(0x22, TCP4, bytes(12)), "bad_proxy_header"),
    "addresses that are cut off": (v2_header(PROXY, TCP4, bytes(11)), "bad_proxy_header"),
    "64 KiB of TLVs": (v2_header(PROXY, TCP4, size=0xFFFF), "proxy_header_too_large"),
    "a byte too much": (
        v2_header(PROXY, TCP4, size=MAX_PROXY_SIZE - 15),
        "proxy_header_too_large",
    ),
}


@both
@pytest.mark.parametrize(("data", "cause"), WRONG.values(), ids=list(WRONG))
@on_loop
async def test_wrong_header_ends_the_connection(data: bytes, cause: str, *, secure: bool) -> None:
    """Without an answer and without the application; the operator gets one line, and counts."""
    journal = Journal()
    async with serve_counted(
        secure=secure, proxy_protocol="required", **journal.callbacks()
    ) as server:
        for _ in range(3):
            async with arriving(server, data, tls=False) as client:
                assert (await client.read_end())[0] == b""

        assert server.service.counts == {cause: 3}
        assert only_line(server) == (
            f"worker: 127.0.0.1 did not send a valid PROXY header ({cause.replace('_', ' ')}), and"
            " proxy_protocol='required': let the proxy send it (HAProxy: send-proxy-v2), or leave"
            " the option out (PROXY_HEADER_EXPECTED)"
        )
        assert journal.entries == []


@both
@on_loop
async def test_header_of_an_untrusted_peer_is_not_read(*, secure: bool) -> None:
    """The PROXY header of a peer that is not a trusted proxy is ignored."""
    journal = Journal()
    async with serve_counted(
        secure=secure,
        proxy_protocol="required",
        trusted_proxies=["192.0.2.0/24"],
        **journal.callbacks(),
    ) as server:
        for header in (v1(), v2(), b""):
            async with arriving(server, header, tls=False) as client:
                assert (await client.read_end())[0] == b""

        assert server.service.counts == {"proxy_not_trusted": 3}
        assert only_line(server) == (
            "worker: 127.0.0.1 is not a trusted proxy, and proxy_protocol='required': add it to"
            " trusted_proxies if it is yours"
        )
        assert journal.entries == []


@both
@pytest.mark.parametrize("header", [v1(), v2()], ids=["v1", "v2"])
@on_loop
async def test_an_unexpected_proxy_header_is_reported_to_the_operator(
    header: bytes, *, secure: bool
) -> None:
    """Who has set up the proxy only, learns what is missing; nobody is believed."""
    journal = Journal()
    async with serve_counted(secure=secure, **journal.callbacks()) as server:
        for _ in range(2):
            async with arriving(server, header + handshake(), tls=False) as client:
                answer, _ = await client.read_end()
                client.end()
                assert answer.startswith(b"" if secure else b"HTTP/1.1 400 ")

        assert server.service.counts["unexpected_proxy_header"] == 2
        assert only_line(server) == (
            "worker: a connection begins with a PROXY header, and proxy_protocol='off': set it to"
            " 'required', or let the proxy send none (HAProxy: no send-proxy)"
            " (PROXY_HEADER_UNEXPECTED)"
        )
        assert journal.of("on_open") == []


@both
@on_loop
async def test_health_check_of_the_proxy_is_answered(*, secure: bool) -> None:
    """LOCAL stands for the proxy itself, whose request is one as any other."""
    async with (
        serve_counted(secure=secure, proxy_protocol="required") as server,
        arriving(server, v2_header(LOCAL, UNSPECIFIED)) as client,
    ):
        await client.send(request("GET /healthz HTTP/1.0"))

        assert (await client.read_response()).status == 200


@on_loop
async def test_unix_socket_has_headers_too(tmp_path: Path) -> None:
    """A proxy on the same machine names its clients through a unix socket."""
    journal = Journal()
    async with serve_counted(
        f"websocket+unix://{tmp_path}/s", proxy_protocol="required", **journal.callbacks()
    ) as server:
        header = v2()
        async with arriving(server, header[:20]) as client:
            await turns()
            await client.send(header[20:])
            await shake(client)
            await journal.until("on_message", "hello")
            (connection,) = journal.connections

            assert (connection.peer_ip, connection.remote_ip) == ("unix", "203.0.113.7")
