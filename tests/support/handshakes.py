"""Real TLS handshakes on loopback: a context of ours under aiofastnet, Python's own client."""

import asyncio
import socket
import ssl
from dataclasses import dataclass
from typing import Any

import aiofastnet

from .deadlines import TIMEOUT


@dataclass(frozen=True, kw_only=True)
class Handshake:
    """
    What both sides saw.

    Attributes:
        version: Such as ``"TLSv1.3"``.
        cipher: OpenSSL's name of the suite.
        alpn: What the server chose, ``None`` if nothing.
        is_resumed: Whether the client's session was taken up.
        session: What the client may resume; it was received in full.
        domains: The names in the server's certificate, as the client verified it.
        client_der: The client's certificate, as the server has it after the handshake.
    """

    version: str
    cipher: str
    alpn: str | None
    is_resumed: bool
    session: ssl.SSLSession | None
    domains: tuple[str, ...]
    client_der: bytes | None


def shake_hands(
    server: ssl.SSLContext | None,
    client: ssl.SSLContext,
    *,
    server_name: str = "localhost",
    session: ssl.SSLSession | None = None,
) -> Handshake:
    """
    Connect once, pass a byte each way, and end TLS as RFC 8446 wants it.

    Args:
        server: The context that the server accepts with; ``None`` fails the test.
        client: The client's context.
        server_name: What the client asks for and verifies.
        session: What the client tries to resume.

    Returns:
        What came of it.

    Raises:
        OSError: What ended the handshake, as the server saw it: aiofastnet closes without an
            alert, so a client can only tell that it ended.
    """
    assert server is not None
    return asyncio.run(_shake_hands(server, client, server_name, session))


async def _shake_hands(
    server: ssl.SSLContext,
    client: ssl.SSLContext,
    server_name: str,
    session: ssl.SSLSession | None,
) -> Handshake:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        address = listener.getsockname()
        connected = loop.run_in_executor(None, _connect, address, client, server_name, session)
        accepted, _ = await loop.sock_accept(listener)
        echo = _Echo(loop.create_future())
        try:
            await aiofastnet.connect_accepted_socket(
                loop, lambda: echo, accepted, ssl=server, ssl_handshake_timeout=TIMEOUT
            )
        except OSError:
            await asyncio.wait([connected])
            connected.exception()
            raise
        seen = await connected
        await asyncio.wait_for(echo.lost, TIMEOUT)
        return Handshake(**seen, client_der=echo.client_der)


class _Echo(asyncio.Protocol):
    client_der: bytes | None = None

    def __init__(self, lost: "asyncio.Future[None]") -> None:
        self.lost = lost

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.client_der = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.lost.set_result(None)


def _connect(
    address: tuple[str, int],
    context: ssl.SSLContext,
    server_name: str,
    session: ssl.SSLSession | None,
) -> dict[str, Any]:
    with (
        socket.create_connection(address, timeout=TIMEOUT) as plain,
        context.wrap_socket(plain, server_hostname=server_name, session=session) as secure,
    ):
        secure.sendall(b"?")
        # Under TLS 1.3 the server's verdict and its tickets come with the first answer.
        assert secure.recv(1) == b"?"
        certificate = secure.getpeercert() or {}
        names: Any = certificate.get("subjectAltName", ())
        cipher = secure.cipher()
        seen = {
            "version": secure.version(),
            "cipher": cipher[0] if cipher else "",
            "alpn": secure.selected_alpn_protocol(),
            "is_resumed": bool(secure.session_reused),
            "session": secure.session,
            "domains": tuple(name for _, name in names),
        }
        # Without a proper end, OpenSSL drops the session from its memory.
        secure.unwrap()
        return seen
