"""
Makes one TLS handshake of a probe, and keeps all that the server says in it.

Certificates are not verified unless roots are given. Python tells neither which certificates a
server showed when the handshake fails, nor whether it asked for the client's, so the messages are
taken from ``SSLContext._msg_callback``: a debugging hook of the standard library, which only this
module knows.
"""

import asyncio
import ssl
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from .connection import Pipe
from .observations import HandshakeSeen, Tls

# What browsers offer below TLS 1.3: neither DHE, nor anything without authentication.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:kRSA+AESGCM:kRSA+AES:!AESCCM:!aNULL:!PSK"
_ALL_CIPHERS = "ALL:COMPLEMENTOFALL:!eNULL:@SECLEVEL=0"

_ALERT, _HANDSHAKE = 21, 22  # RFC 8446, section 5.1
_CERTIFICATE, _CERTIFICATE_REQUEST = 11, 13  # section 4
_TLS_RECORDS = frozenset({20, 21, 22, 23})
_MAX_BANNER_SIZE = 2048  # bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """What a client offers in its hello."""

    server_name: str | None  # what SNI says; None for nothing
    oldest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    newest: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED
    alpn: tuple[str, ...] = ("http/1.1",)
    is_lenient: bool = False  # whether weak ciphers, keys and signatures are offered, too
    roots: str = ""  # PEM; with them the certificates are verified, and have to be for ``host``
    host: str = ""


class TlsPipe:
    """The inside of TLS."""

    def __init__(
        self,
        below: Pipe,
        tls: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        messages: "_Messages",
    ) -> None:
        self._below = below
        self._tls = tls
        self._incoming = incoming
        self._outgoing = outgoing
        self._messages = messages

    @property
    def alert(self) -> int | None:
        """The alert that the server sent last, other than that of a regular end."""
        return self._messages.alert

    async def read(self) -> bytes:
        """Read what the server says; raises ``OSError`` after a reset or an alert."""
        while True:
            try:
                return self._tls.read(1 << 16)
            except ssl.SSLWantReadError:
                await self._flush()
                data = await self._below.read()
                if not data:
                    return b""
                self._incoming.write(data)
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    async def write(self, data: bytes) -> None:
        self._tls.write(data)
        await self._flush()

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._below.write(self._outgoing.read())


async def shake_hands(
    pipe: Pipe,
    offer: Offer,
    *,
    timeout: float,  # noqa: ASYNC109
) -> tuple[HandshakeSeen, TlsPipe | None]:
    """Make a handshake; the inside of it is returned if it succeeded."""
    loop = asyncio.get_running_loop()
    begun_at = loop.time()
    messages = _Messages()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = _context(offer)
    context._msg_callback = messages  # type: ignore[attr-defined] # noqa: SLF001 - see above
    tls = context.wrap_bio(incoming, outgoing, server_hostname=offer.host or offer.server_name)
    received = b""
    outcome, reason = Tls.AGREED, ""
    try:
        async with asyncio.timeout(timeout):
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    await pipe.write(outgoing.read())
                    data = await pipe.read()
                    if not data:
                        outcome = Tls.CLOSED
                        break
                    received = (received + data)[:_MAX_BANNER_SIZE]
                    if received[0] not in _TLS_RECORDS:
                        outcome = Tls.NOT_TLS
                        received = await _more(pipe, received)
                        break
                    incoming.write(data)
            if outgoing.pending:
                await pipe.write(outgoing.read())
    except TimeoutError:
        outcome = Tls.TIMED_OUT
    except ssl.SSLError as error:
        outcome = Tls.FAILED if messages.alert is None else Tls.ALERT
        reason = getattr(error, "verify_message", "") or error.reason or str(error)
    except OSError:
        outcome = Tls.RESET
    if outcome in {Tls.CLOSED, Tls.RESET} and messages.alert is not None:
        outcome = Tls.ALERT
    cipher = tls.cipher()
    is_agreed = outcome is Tls.AGREED
    seen = HandshakeSeen(
        outcome=outcome,
        reason=reason,
        alert=messages.alert,
        version=(tls.version() or "") if is_agreed else "",
        cipher=cipher[0] if is_agreed and cipher else "",
        alpn=(tls.selected_alpn_protocol() or "") if is_agreed else "",
        certificates=messages.certificates,
        asks_client=messages.asks_client,
        answer=received if outcome is Tls.NOT_TLS else b"",
        received=len(received),
        duration=loop.time() - begun_at,
    )
    inside = TlsPipe(pipe, tls, incoming, outgoing, messages) if is_agreed else None
    return seen, inside


async def _more(pipe: Pipe, received: bytes) -> bytes:
    """Read the rest of an answer that is not TLS, as far as it comes at once."""
    try:
        async with asyncio.timeout(0.2):
            while len(received) < _MAX_BANNER_SIZE and (data := await pipe.read()):
                received += data
    except OSError:  # TimeoutError among them
        pass
    return received[:_MAX_BANNER_SIZE]


class _Messages:
    """What the server says in a handshake."""

    def __init__(self) -> None:
        self.alert: int | None = None
        self.certificates: tuple[bytes, ...] = ()
        self.asks_client = False

    def __call__(
        self,
        _connection: object,
        direction: str,
        version: int,
        content_type: int,
        message_type: int,
        data: bytes,
    ) -> None:
        if direction != "read":
            return
        if content_type == _ALERT and len(data) == 2 and data[1] != 0:
            self.alert = data[1]
        elif content_type == _HANDSHAKE and message_type == _CERTIFICATE_REQUEST:
            self.asks_client = True
        elif content_type == _HANDSHAKE and message_type == _CERTIFICATE:
            is_new = version >= ssl.TLSVersion.TLSv1_3
            self.certificates = tuple(_certificates(data[4:], is_new=is_new))


def _certificates(body: bytes, *, is_new: bool) -> Iterator[bytes]:
    """Read a Certificate message (RFC 5246, section 7.4.2; RFC 8446, section 4.4.2)."""
    at = 3 + (1 + body[0] if is_new else 0)
    while at + 3 <= len(body):
        size = int.from_bytes(body[at : at + 3])
        yield body[at + 3 : at + 3 + size]
        at += 3 + size
        if is_new:
            at += 2 + int.from_bytes(body[at : at + 2])


def _context(offer: Offer) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if offer.roots:
        context.load_verify_locations(cadata=offer.roots)
        # What `--ca` names is trusted, be it a root or not.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_ciphers(_ALL_CIPHERS if offer.is_lenient else _CIPHERS)
    with warnings.catch_warnings():
        # Versions below 1.2 are deprecated: that is what is asked about.
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = offer.oldest
        context.maximum_version = offer.newest
    if offer.alpn:
        context.set_alpn_protocols(list(offer.alpn))
    return context
