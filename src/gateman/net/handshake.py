"""
The handshake: reads the request head, answers it, or starts the WebSocket protocol.

This is a connection's protocol from the end of TLS to the 101. Its deadline began at accept, and
received bytes do not extend it. A refused request gets an answer that says why; then the
connection ends.
"""

import asyncio
from collections.abc import Mapping
from email.utils import formatdate
from enum import Enum
from http import HTTPStatus
from typing import Any

from ..connection import Connection, State
from ..errors import ConfigError, HandshakeError, Refuse
from ..findings import Severity
from ..findings.handshakes import (
    APPLICATION_FAILED,
    APPLICATION_REFUSED,
    HEAD_TOO_LARGE,
    PROXY_HEADER_UNEXPECTED,
)
from ..http import response
from ..http.client_address import (
    FORWARDING_FIELDS,
    UNIX,
    ClientAddress,
    client_address,
    forwarding_field,
)
from ..http.cross_origin import check_page
from ..http.handshake_findings import (
    http_1_0,
    is_private,
    lost_field,
    tls_on_plain_port,
    untrusted_forwarding,
)
from ..request import (
    LostFieldError,
    Request,
    check_handshake,
    field_values,
    has_field,
    head_end,
    parse_request,
    wants_websocket,
)
from ..tls.failures import left_after_certificate
from ..websocket.close import NO_CLOSE
from ..websocket.deflate import Agreement, negotiate
from ..websocket.extensions import parse_extensions
from .accepted_socket import PeerInfo
from .admission import Refusal
from .aiofastnet_adapter import abort
from .deferred_readers import promote
from .handshake_config import PROTOBUF_SUBPROTOCOL, HandshakeConfig
from .lingering_close import close_lingering
from .preamble import TLS_ALERT, looks_like_proxy, looks_like_tls
from .websocket_protocol import WebSocketProtocol

# RFC 6455, section 4.2.2: header fields of the 101 that the handshake itself sets.
_RESERVED_HEADERS = {"upgrade", "sec-websocket-protocol"}

# What may arrive after the head while `on_websocket_connect` runs; then reading pauses.
_MAX_EARLY_SIZE = 64 << 10  # bytes

# These have a log line of their own, or need none: a page's origin, a request that is not a
# handshake, a proxy that speaks HTTP/1.0.
_NOT_LOGGED = frozenset({403, 405, 505})


class Stage(Enum):
    READING = "reading"
    """The head is not complete."""
    DECIDING = "asking"
    """The application decides."""
    SERVING = "serving"
    """The HTTP application has a request (:mod:`gateman.net.http_connection`)."""
    ENDING = "ending"
    """An answer was sent, it was aborted, or the WebSocket protocol has the connection."""


class Handshake(asyncio.BufferedProtocol):
    """One connection until its 101; its link until then."""

    # Shared by all connections: each read is copied before the next one.
    _scratch = memoryview(bytearray(16 << 10))

    __slots__ = (
        "_agreement",
        "_config",
        "_connection",
        "_end_info",
        "_key",
        "_paused",
        "_peer_info",
        "_received",
        "_searched",
        "_send_buffer",
        "_stage",
        "_transport",
    )

    def __init__(self, config: HandshakeConfig, peer_info: PeerInfo) -> None:
        self._config = config
        self._peer_info = peer_info
        self._received = bytearray()
        self._searched = 0
        self._stage = Stage.READING
        self._paused = 0
        self._key = ""
        self._agreement: Agreement | None = None
        self._end_info: tuple[int, str] = NO_CLOSE
        self._transport: Any = None
        self._connection: Connection | None = None
        self._send_buffer: Any = None

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Make the connection: TCP is up and, on a TLS port, TLS too."""
        self._transport = transport
        self._config.context.deadlines.add(self, self._peer_info.deadline_at)
        if self._peer_info.refusal is not None:
            self._config.rejected.add(self)
            return
        peer = self._peer_info.peer
        self._send_buffer = self._config.make_send_buffer(transport, self._config.context)
        self._connection = Connection(
            self._config.next_id(),
            self._config.worker,
            self,
            self._send_buffer,
            peer=peer,
            remote=self._peer_info.source or peer,
            local_address=self._peer_info.local_address,
            is_secure=transport.get_extra_info("ssl_object") is not None,
        )
        self._connection.permit = self._peer_info.permit
        self._config.context.events.connected(self._connection)

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._scratch

    def buffer_updated(self, nbytes: int) -> None:
        """Called with a part of the head, or with early frames after it."""
        self._received += self._scratch[:nbytes]
        if self._stage is Stage.READING:
            self._read_head()
        elif len(self._received) > _MAX_EARLY_SIZE:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """End it: a client that closes before the answer does not want one."""
        return False

    def pause_writing(self) -> None:
        """Answers are small: they wait in the transport."""

    def resume_writing(self) -> None:
        """Nothing was paused."""

    def connection_lost(self, _exc: BaseException | None) -> None:
        """Report the end of a connection without an answer."""
        self._connection_lost()

    # What the connection calls, before it is open.

    def close(self, _code: int, _reason: str) -> None:
        """End the TCP connection: without a WebSocket there is no Close to send."""
        self.abort(*NO_CLOSE)

    def abort(self, code: int, reason: str) -> None:
        self._end_info = (code, reason)
        self._stage = Stage.ENDING
        self._stop()
        abort(self._transport)

    def pause(self, reason: int) -> None:
        """Pause after the 101; the request is read in any case."""
        self._paused |= reason

    def resume(self, reason: int) -> None:
        self._paused &= ~reason

    message_count = 0

    @property
    def socket(self) -> Any:
        return self._transport.get_extra_info("socket")

    def _stop(self) -> None:
        """Discard messages, now and later: there will be no 101."""
        if self._connection is not None and self._connection.state is State.CONNECTING:
            self._send_buffer.close()

    # Reading and checking the head.

    def _read_head(self) -> None:
        received = self._received
        if looks_like_tls(received):
            finding = tls_on_plain_port(self._peer_info.peer[0], is_proxy=self._is_from_proxy())
            self._noticed("tls_on_plain_port", finding.line)
            self._end(TLS_ALERT)
            return
        if self._peer_info.refusal is None and looks_like_proxy(received):
            # At once: after a binary one, the end of a head may never come.
            self._noticed("unexpected_proxy_header", PROXY_HEADER_UNEXPECTED.found().line)
            # Without a second log line: this one says why.
            answer = response.refused(
                400, "This server expects no PROXY header.", {}, PROXY_HEADER_UNEXPECTED.code
            )
            self._end(answer.encode(date=formatdate(usegmt=True)))
            return
        if received[:1] in b"\r\n":
            # RFC 9112, section 2.2: an empty line before the request is ignored.
            received[:] = received.lstrip(b"\r\n")
        limit = self._config.context.limits.max_head_size
        end = head_end(received, self._searched)
        self._searched = len(received)
        if (end or len(received)) > limit:
            # RFC 9112, section 3: a target that is too long has a status of its own.
            is_line = received.find(b"\n", 0, limit) < 0
            status, what = (414, "line") if is_line else (431, "head")
            error = HandshakeError(
                status,
                f"The request {what} is larger than {limit} bytes.",
                limit="limits.max_head_size",
                code=HEAD_TOO_LARGE.code,
            )
            self._refuse(error, bytes(received[:8]))
        elif end:
            head = bytes(received[:end])
            del received[:end]
            try:
                self._check_head(head)
            except HandshakeError as error:
                self._refuse(error, head)

    def _check_head(self, head: bytes) -> None:
        config = self._config
        request = parse_request(head, max_header_count=config.context.limits.max_header_count)
        if self._peer_info.refusal is not None or self._connection is None:
            raise HandshakeError(400, "")
        if wants_websocket(request):
            self._check_websocket(request)
        else:
            self._answer(request, config.answer_plain(request))

    def _check_websocket(self, request: Request) -> None:
        config = self._config
        try:
            self._key = check_handshake(request)
            self._negotiate(request)
        except LostFieldError as error:
            finding = lost_field(error, self._require_connection().peer_ip)
            self._noticed("upgrade_not_passed_on", finding.line)
            raise
        except HandshakeError as error:
            if error.status == HTTPStatus.HTTP_VERSION_NOT_SUPPORTED:
                finding = http_1_0(self._require_connection().peer_ip)
                self._noticed("upgrade_not_passed_on", finding.line)
            raise
        if self._admitted(
            self._peer_info.permit.count_handshake(config.context.loop.time()), request
        ):
            request = self._check_page(request)
            if self._admitted(self._identify(request), request):
                self._request_decision(request)

    def _negotiate(self, request: Request) -> None:
        """Negotiate compression, if the worker has it; a malformed offer is 400 either way."""
        if not all(map(response.is_token, request.subprotocols)):
            # RFC 6455, section 4.2.1. It would also have to stand in the answer.
            raise HandshakeError(400, "Sec-WebSocket-Protocol is not a list of tokens.")
        offers = field_values(request, b"sec-websocket-extensions")
        if not offers:
            return
        compression = self._config.context.compression
        if compression is None:
            # RFC 6455, section 9.1: a header that breaks the grammar fails the handshake.
            parse_extensions(offers)
        else:
            self._agreement = negotiate(offers, compression)

    def _admitted(self, refusal: Refusal | None, request: Request) -> bool:
        if refusal is None:
            return True
        self._noticed(refusal.cause, refusal.line)
        retry = {"Retry-After": str(refusal.retry_after)}
        self._report(refusal.status)
        self._answer(request, response.refused(refusal.status, refusal.text, retry, refusal.code))
        return False

    def _identify(self, request: Request) -> Refusal | None:
        """Set the client's address, which a trusted proxy may name, and count it for that."""
        connection = self._require_connection()
        connection.request = request
        client = self._find_client(request)
        if client is None:
            # The peer has its own address, and counts for it already.
            return None
        # A trusted proxy's own connections count for no address. A client that forges a
        # contradiction, to look like the proxy, counts.
        is_proxy = client.ip == connection.remote_ip and not client.contradiction
        connection.remote_ip = client.ip
        connection.remote_port = client.port or 0
        return None if is_proxy else self._peer_info.permit.count_address(client.ip)

    def _find_client(self, request: Request) -> ClientAddress | None:
        """Return the client that a request's fields may name; ``None`` if they name none."""
        connection = self._require_connection()
        if not has_field(request, FORWARDING_FIELDS) and "%" not in connection.remote_ip:
            return None
        ip = None if connection.remote_ip == UNIX else connection.remote_ip
        peer = (ip, connection.remote_port)
        client = client_address(peer, request.headers, self._config.trusted_proxies)
        if client.contradiction:
            self._noticed(
                "contradictory_forwarding",
                f"a handshake through the proxy {connection.peer_ip} names"
                " different clients in X-Real-IP, X-Forwarded-For or Forwarded, so none is"
                " believed: let the proxy set or remove each of them",
            )
        field = forwarding_field(request.headers)
        if field and self._peer_info.source is None and ip not in self._config.trusted_proxies:
            self._hint_at_proxy(connection.peer_ip, field)
        return client

    def _hint_at_proxy(self, peer: str, field: str) -> None:
        """Log once that a proxy may be missing in ``trusted_proxies``: clients can forge fields."""
        kind = "private" if is_private(peer) else "public"
        # By kind: a public client that forges a field does not use up the hint on a proxy.
        is_first = self._config.is_first(f"untrusted_forwarding {kind}")
        line = untrusted_forwarding(peer, field).line if is_first else ""
        self._noticed("untrusted_forwarding", line)

    def _check_page(self, request: Request) -> Request:
        # RFC 6455, section 10.2. No Origin means no browser, and no user's cookies to abuse.
        if request.origin is None:
            return request
        is_proxied = self._is_trusted(self._require_connection().remote_ip)
        tls = self._transport.get_extra_info("ssl_object")
        # Behind a proxy, it is the proxy's certificate.
        return check_page(
            request,
            self._config.allowed_origins,
            is_proxied=is_proxied,
            has_certificate=lambda: (
                tls is not None and not is_proxied and tls.getpeercert(True) is not None
            ),
            noticed=self._config.context.events.noticed,
        )

    def _request_decision(self, request: Request) -> None:
        connection = self._require_connection()
        if self._config.subprotocols:
            offered = request.subprotocols
            connection.subprotocol = next(
                (name for name in self._config.subprotocols if name in offered), None
            )
        self._stage = Stage.DECIDING
        self._config.context.events.requested(connection, self._decided)

    def _decided(self, refusal: Exception | None) -> None:
        connection = self._require_connection()
        if self._stage is not Stage.DECIDING or self._transport.is_closing():
            return
        request = connection.request
        if request is None:
            raise RuntimeError("a handshake was decided before there was one")
        if isinstance(refusal, Refuse):
            self._report(refusal.status)
            self._answer(
                request,
                response.refused(
                    refusal.status, refusal.text, refusal.headers, APPLICATION_REFUSED.code
                ),
            )
            return
        if refusal is None:
            try:
                headers = self._response_headers(connection, request)
            except ConfigError as error:
                self._noticed("bad_response_header", str(error))
                refusal = error
        if refusal is not None:
            self._report(500)
            self._answer(request, response.refused(500, "", {}, APPLICATION_FAILED.code))
            return
        self._stage = Stage.ENDING
        self._config.context.deadlines.discard(self)
        promote(self._config.context.loop, self._transport)
        early = bytes(self._received)
        request.release()
        self._report(101)
        try:
            WebSocketProtocol(
                self._transport, connection, self._send_buffer, self._config.context
            ).start(
                key=self._key,
                headers=headers,
                early=early,
                agreement=self._agreement,
                paused=self._paused,
            )
        except Exception as error:  # noqa: BLE001 - a fault of ours costs this connection only
            self._upgrade_failed(error)
        # The WebSocket protocol has them; references from here would keep them alive.
        self._received.clear()

    def _upgrade_failed(self, error: Exception) -> None:
        """End a connection whose WebSocket protocol did not start."""
        self._config.context.loop.call_exception_handler(
            {"message": "a connection could not be given to picows", "exception": error}
        )
        if self._require_connection().state is State.CONNECTING:
            # A protocol that was not started would not report the end.
            self._transport.set_protocol(self)
        abort(self._transport)

    def _response_headers(self, connection: Connection, request: Request) -> list[tuple[str, str]]:
        chosen: Any = connection.response_headers
        if not isinstance(chosen, Mapping):
            raise ConfigError(
                f"connection.response_headers is of type {type(chosen).__name__}",
                "set it to a dict of names and values",
            )
        headers = list(chosen.items())
        if connection.subprotocol is not None:
            if connection.subprotocol not in request.subprotocols:
                # RFC 6455, section 4.2.2: a client must fail on one that it did not offer.
                # Escaped and cut: the client chose them, and they are logged.
                offered = repr(", ".join(request.subprotocols) or "none")[1:-1]
                raise ConfigError(
                    f"subprotocol {connection.subprotocol!r} was chosen, but the client offers"
                    f" {offered[:200]}",
                    "choose one of request.subprotocols",
                )
            headers.append(("Sec-WebSocket-Protocol", connection.subprotocol))
        elif request.subprotocols:
            # Escaped and cut: the client chose them, and they are logged.
            offered = repr(", ".join(request.subprotocols))[1:-1][:200]
            remedy = (
                'for Centrifuge\'s SDKs set client_protocol="centrifuge"'
                if PROTOBUF_SUBPROTOCOL in request.subprotocols
                else "name one in subprotocols=, or set connection.subprotocol in"
                " on_websocket_connect"
            )
            self._noticed(
                "no_common_subprotocol",
                f"{connection!r} offers the subprotocols {offered}, of which this worker speaks"
                f" none: browsers end such a connection; {remedy}",
            )
        for name, value in chosen.items():
            response.header_line(name, value)
            if name.lower() in _RESERVED_HEADERS:
                raise ConfigError(
                    f"the header field {name!r} of the 101 is the handshake's own",
                    "set connection.subprotocol for a subprotocol, and leave the others alone",
                )
        return headers

    # Answering and ending.

    def _noticed(self, cause: str, line: str = "", detail: str = "") -> None:
        self._config.context.events.noticed(cause, line, detail)

    def _answer(self, request: Request, answer: response.Response) -> None:
        head_only = request.method == "HEAD"
        try:
            encoded = answer.encode(date=formatdate(usegmt=True), head_only=head_only)
        except ConfigError as error:
            self._noticed("bad_response_header", str(error))
            encoded = response.refused(500, "", {}, APPLICATION_FAILED.code).encode(
                date=formatdate(usegmt=True)
            )
        self._end(encoded)

    def _refuse(self, error: HandshakeError, head: bytes) -> None:
        if self._peer_info.refusal is not None:
            answer = self._peer_info.refusal
        else:
            self._noticed(f"refused_{error.status}", self._log_line(error), error.text)
            answer = response.refused(error.status, error.text, error.headers, error.code)
        self._report(answer.status)
        # Also of a head that cannot be parsed, the start says whether a body may follow.
        head_only = head.startswith(b"HEAD ")
        self._end(answer.encode(date=formatdate(usegmt=True), head_only=head_only))

    def _log_line(self, error: HandshakeError) -> str:
        if error.status in _NOT_LOGGED or isinstance(error, LostFieldError):
            return ""
        limit = f" (see {error.limit})" if error.limit else ""
        return (
            f"a request from {self._peer_info.peer[0]} was refused with {error.status}{limit}:"
            f" {error.text}"
        )

    def _report(self, status: int) -> None:
        if self._config.report is not None:
            self._config.report(status, self._peer_info.deadline_at)

    def _end(self, answer: bytes) -> None:
        self._stage = Stage.ENDING
        self._received.clear()
        self._stop()
        self._transport.write(answer)
        context = self._config.context
        context.deadlines.add(self, context.loop.time() + context.timeouts.close)
        close_lingering(self._transport, self._connection_lost)

    def expired(self) -> None:
        """End a handshake, or the wait for a peer that was refused, after its time."""
        if self._stage is not Stage.ENDING:
            self._stage = Stage.ENDING
            self._noticed("handshake_timeout")
        self._transport.abort()

    def _connection_lost(self) -> None:
        self._config.context.deadlines.discard(self)
        if self._stage is Stage.READING:
            self._note_early_end()
        self._stage = Stage.ENDING
        connection = self._connection
        self._peer_info.permit.release()
        self._config.rejected.discard(self)
        if connection is not None and connection.state is State.CONNECTING:
            self._stop()
            connection.state = State.CLOSED
            self._config.context.events.closed(connection, *self._end_info)
            self._config.context.events.lost(connection)
            # They refer to each other.
            connection.detach()

    def _note_early_end(self) -> None:
        """Report a client that left without a request."""
        contexts, doubt = self._config.contexts, None
        # Health checks of proxies do the same.
        is_client = not self._received and self._peer_info.refusal is None
        if contexts is not None and is_client and not self._is_from_proxy():
            # OkHttp and Node check the certificate only after the TLS handshake.
            doubt = contexts.doubt(self._peer_info.server_name)
        cause, line = left_after_certificate(doubt)
        is_note = doubt is not None and doubt.severity is Severity.NOTE
        if is_note and not self._config.is_first(cause):
            # The client may trust the certificate's authority.
            line = ""
        self._noticed(cause, line)

    def _is_from_proxy(self) -> bool:
        return self._is_trusted(self._peer_info.peer[0])

    def _is_trusted(self, ip: str) -> bool:
        return (None if ip == UNIX else ip) in self._config.trusted_proxies

    def _require_connection(self) -> Connection:
        if self._connection is None:
            raise RuntimeError("plain HTTP on a TLS port has no connection")
        return self._connection
