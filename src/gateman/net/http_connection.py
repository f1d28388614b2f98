"""
A connection of a worker with an HTTP application: plain requests and, at last, a handshake.

    head ─► plain ─► the application's response ─► the next head
        └─► handshake ─► WebSocket

Each head is read and checked by :class:`Handshake`, whether it is the first one or not.
"""

import math
from collections.abc import Mapping, MutableMapping
from email.utils import formatdate
from typing import Any

import httptools

from ..connection import Connection
from ..errors import HandshakeError
from ..http import response
from ..http.client_address import SCHEME_FIELDS, UNIX, client_scheme
from ..http.request_body import Body, body_of
from ..request import (
    Fields,
    Request,
    check_fields,
    check_no_body,
    fields_by_name,
    has_field,
    head_end,
    is_simple,
    read_request_line,
    simple_path,
    wants_websocket,
    without_fields,
)
from ..websocket.close import NO_CLOSE
from .accepted_socket import PeerInfo
from .admission import TOO_MANY_REQUESTS, Refusal
from .aiofastnet_adapter import resume_tls_reading
from .deferred_readers import promote
from .handshake import Handshake, Stage
from .handshake_config import HandshakeConfig
from .http_application import HttpApplication
from .transfer_time import TransferTime
from .uvicorn_adapter import UvicornProtocol

# The two parsers disagree, or the one that the application has finds a mistake.
_NO_END = HandshakeError(400, "The body of the request is malformed.")

_NO_FIELDS: Fields = {}

# In front of a request line, empty lines are skipped, and TLS and PROXY headers are told apart.
_LAST_BLANK = 0x20

# Why reading is paused; a bit each.
_BODY_WAITS = 1
_NEXT_WAITS = 2


class HttpConnection(Handshake):
    """One connection until its 101; its link until then."""

    __slots__ = (
        "_answer_now",
        "_application",
        "_body",
        "_has_served",
        "_head",
        "_idle_from",
        "_is_counted",
        "_is_head_late",
        "_is_last",
        "_is_next_due",
        "_is_plain",
        "_is_proxied",
        "_is_simple",
        "_is_zoned",
        "_line",
        "_max_head_size",
        "_max_header_count",
        "_pauses",
        "_protocol",
        "_request",
        "_sent_headers",
        "_transfer",
    )

    def __init__(
        self, config: HandshakeConfig, peer_info: PeerInfo, application: HttpApplication
    ) -> None:
        super().__init__(config, peer_info)
        self._application = application
        # Made for the first request; later ones use it again.
        self._protocol: UvicornProtocol | None = None
        self._max_head_size = config.context.limits.max_head_size
        self._max_header_count = config.context.limits.max_header_count
        self._is_proxied = self._is_zoned = False
        self._has_served = False
        # Of the request that is read or handled.
        self._head = b""
        self._is_simple = False
        self._line: tuple[str, str, str] | None = None
        self._request: Any = None
        self._answer_now: response.Response | None = None
        self._body: Body | None = None  # what has not arrived
        self._sent_headers: list[tuple[bytes, bytes]] = []
        self._is_counted = False  # for its client's address, behind a proxy
        self._is_last = False
        self._is_plain = False  # whether the refused request is not a handshake
        self._is_next_due = False  # when the response has left this process
        self._is_head_late = False  # whether a part of the next head has arrived
        self._pauses = 0
        self._idle_from = 0.0
        self._transfer = TransferTime(config.context.timeouts.transfer)

    # What the transport calls.

    def buffer_updated(self, nbytes: int) -> None:
        """Called with a part of a head, or of a body and what follows it."""
        if self._stage is Stage.SERVING:
            self._received += self._scratch[:nbytes]
            self._take_body()
            return
        if self._has_served and not self._received and self._stage is Stage.READING:
            # Most heads arrive as a whole, and alone.
            head = bytes(self._scratch[:nbytes])
            if head_end(head) == nbytes <= self._max_head_size and head[0] > _LAST_BLANK:
                try:
                    self._check_head(head)
                except HandshakeError as error:
                    self._refuse(error, head)
                return
        super().buffer_updated(nbytes)
        if self._stage is Stage.READING and self._has_served and not self._is_head_late:
            # For the first head, the time began at accept.
            self._is_head_late = True
            self._set_deadline(self._config.context.timeouts.handshake)

    def pause_writing(self) -> None:
        """Let the application wait for the client to read."""
        if self._stage is Stage.SERVING and self._protocol is not None:
            self._protocol.pause_writing()
            context = self._config.context
            unsent = self._transport.get_write_buffer_size()
            context.deadlines.add(self, self._transfer.send(unsent, context.loop.time()))

    def resume_writing(self) -> None:
        self._transfer.stop_sending()
        if self._protocol is not None:
            self._protocol.resume_writing()
        if self._is_next_due:
            self._is_next_due = False
            self._go_on()

    # What the connection calls, before it is open.

    def close(self, code: int, reason: str) -> None:
        """End it with its response; a stream of events and an idle connection at once."""
        if self.is_stream and self._protocol is not None:
            self._protocol.end_stream()
            self._end_served()
        elif self._stage is Stage.SERVING or self._is_idle:
            self.finish()
        else:
            super().close(code, reason)

    def finish(self) -> None:
        """End it with the response; at once if it is idle."""
        self._is_last = True
        if self._stage is Stage.SERVING and self._protocol is not None:
            self._protocol.finish()
        elif self._is_idle:
            self._end(b"")

    @property
    def is_stream(self) -> bool:
        """Whether the response is a stream of events, which does not end by itself."""
        return self._stage is Stage.SERVING and any(
            name.lower() == b"content-type" and value.lower().startswith(b"text/event-stream")
            for name, value in self._sent_headers
        )

    @property
    def _is_idle(self) -> bool:
        """Whether it waits for its next request."""
        return self._stage is Stage.READING and self._protocol is not None and not self._received

    # Reading and checking the head.

    def _check_head(self, head: bytes) -> None:
        if self._peer_info.refusal is not None or self._connection is None:
            raise HandshakeError(400, "")
        protocol = self._protocol or self._join(self._connection)
        path = simple_path(head)
        self._is_simple = (
            path is not None and path not in self._application.own_paths and not self._is_zoned
        )
        self._head = head
        self._line = None if path is not None else read_request_line(head, any_method=True)
        protocol.begin(head)
        if self._stage is Stage.SERVING:
            self._has_served = True
            if self._is_last or self._application.is_draining:
                protocol.finish()
            if self._body is not None or self._received or not protocol.is_complete:
                self._begin_body(protocol)
        elif self._answer_now is not None:
            self._answer(self._request, self._answer_now)
        elif wants_websocket(self._request):
            check_no_body(self._request.fields)
            self._check_websocket(self._request)
        else:
            # RFC 9110, section 7.8: it is ignored. With it, httptools sees no body, and no
            # further request.
            self._leave()
            self._check_head(without_fields(self._request, ("Upgrade",)).head)

    def takes(
        self, lines: list[tuple[bytes, bytes]], scope: MutableMapping[str, Any]
    ) -> Fields | None:
        """Decide about a request, which is parsed once for gateman and for the application."""
        application = self._application
        if (
            self._is_simple
            and len(lines) <= self._max_header_count
            and len(application.uvicorn.tasks) < application.max_requests
            and is_simple(lines)
        ):
            self._stage = Stage.SERVING
            return _NO_FIELDS
        limits = self._config.context.limits
        self._answer_now = None
        method, target, version = self._line or read_request_line(self._head, any_method=True)
        fields = fields_by_name(lines)
        check_fields(fields, len(lines), version, max_header_count=limits.max_header_count)
        self._request = request = Request(self._head, method, target, version, fields)
        if wants_websocket(request) or b"upgrade" in fields:
            return None
        self._answer_now = application.answer(request)
        if self._answer_now is not None:
            return None
        self._body = body_of(
            request, max_size=limits.max_body_size, max_trailer_size=limits.max_head_size
        )
        if len(application.uvicorn.tasks) >= application.max_requests:
            self._refuse_with(TOO_MANY_REQUESTS)
            return None
        client = self._find_client(request)
        if client is not None:
            connection = self._require_connection()
            scope["client"] = None if client.ip == UNIX else (client.ip, client.port or 0)
            # As in _identify.
            if client.ip != connection.remote_ip or client.contradiction:
                refusal = self._peer_info.permit.count_address(client.ip)
                if refusal is not None:
                    self._refuse_with(refusal)
                    return None
                self._is_counted = True
        if self._is_proxied and has_field(request, SCHEME_FIELDS):
            scope["scheme"] = client_scheme(request.headers) or scope["scheme"]
        self._stage = Stage.SERVING
        return fields

    def _refuse(self, error: HandshakeError, head: bytes) -> None:
        # In a malformed head there are no fields to look at.
        if self._peer_info.refusal is None and b"sec-websocket-" not in head.lower():
            self._is_plain = True
        super()._refuse(error, head)

    def _report(self, status: int) -> None:
        if self._is_plain:
            self._application.count(status)
        else:
            super()._report(status)

    def _refuse_with(self, refusal: Refusal) -> None:
        self._noticed(refusal.cause, refusal.line)
        self._application.count(refusal.status)
        retry = {"Retry-After": str(refusal.retry_after)}
        self._answer_now = response.refused(refusal.status, refusal.text, retry, refusal.code)

    def _check_websocket(self, request: Request) -> None:
        self._leave()
        if self._has_served:
            # For the first head, the time began at accept.
            self._peer_info.deadline_at = self._set_deadline(
                self._config.context.timeouts.handshake
            )
        super()._check_websocket(request)

    # One request of the application.

    def _join(self, connection: Connection) -> UvicornProtocol:
        self._protocol = protocol = UvicornProtocol(
            self._application.uvicorn, self._transport, self
        )
        is_unix = connection.peer_ip == UNIX
        host, _, port = connection.local_address.rpartition(":")
        protocol.server = (
            (connection.local_address, None) if is_unix else (host.strip("[]"), int(port))
        )
        ip = connection.remote_ip
        protocol.client = None if ip == UNIX else (ip, connection.remote_port)
        protocol.scheme = "https" if connection.is_secure else "http"
        self._application.connections.add(self)
        promote(self._config.context.loop, self._transport)
        self._is_proxied = self._is_trusted(ip)
        self._is_zoned = "%" in ip
        return protocol

    def _leave(self) -> None:
        self._application.connections.discard(self)
        self._protocol = None

    def _begin_body(self, protocol: UvicornProtocol) -> None:
        body = self._body
        if body is None:
            if not protocol.is_complete:
                self._fail(_NO_END)
            elif self._received:
                self._pause_reading(_NEXT_WAITS)
            return
        self._await_body()
        self._take_body()

    def _await_body(self) -> None:
        context = self._config.context
        context.deadlines.add(self, self._transfer.receive(context.loop.time()))

    def _take_body(self) -> None:
        """Pass a part of the body on; what follows it waits."""
        body, protocol, received = self._body, self._protocol, self._received
        if body is not None and protocol is not None:
            try:
                size = body.take(received)
                part = bytes(received[:size])
                del received[:size]
                if part:
                    protocol.feed(part)
            except httptools.HttpParserError:
                self._fail(_NO_END)
                return
            except HandshakeError as error:
                self._fail(error)
                return
            if body.is_complete != protocol.is_complete:
                self._fail(_NO_END)
                return
            if not body.is_complete:
                self._transfer.received(size, self._config.context.loop.time())
                return
            self._body = None
            self._transfer.stop_receiving()
        if received:
            self._pause_reading(_NEXT_WAITS)

    def _fail(self, error: HandshakeError) -> None:
        """Refuse the rest of a request; the application learns that its client is gone."""
        if self._protocol is not None:
            is_answered = self._protocol.is_answered
            self._protocol.disconnect()
            if is_answered:
                self._noticed(f"refused_{error.status}", "")
                self.abort(*NO_CLOSE)
                return
        self._refuse(error, b"")

    # What uvicorn calls.

    def response_started(self, status: object, headers: list[tuple[bytes, bytes]]) -> None:
        self._sent_headers = headers
        self._application.count(status)

    def response_complete(self) -> None:
        if self._stage is not Stage.SERVING or self._protocol is None:
            return
        if self._protocol.sink.is_held:
            self._protocol.sink.flush()
        if self._transfer.send_until < math.inf:
            # More responses would wait in this process, without a bound.
            self._is_next_due = True
        else:
            self._go_on()

    def application_failed(
        self, scope: Mapping[str, Any], error: BaseException | None, *, is_answered: bool
    ) -> None:
        self._application.failed(scope, error)
        protocol = self._protocol
        if is_answered or self._stage is not Stage.SERVING or protocol is None:
            return
        is_begun = protocol.is_answered
        protocol.disconnect()
        if is_begun:
            # The client must not take it for the whole response.
            self.abort(*NO_CLOSE)
            return
        self._application.count(500)
        self._end(
            response.refused(500, "", {}, "").encode(
                date=formatdate(usegmt=True), head_only=scope["method"] == "HEAD"
            )
        )

    def close_after_response(self) -> None:
        self._is_last = True

    def pause_body(self) -> None:
        self._pause_reading(_BODY_WAITS)
        self._transfer.stop_receiving()

    def resume_body(self) -> None:
        self._resume_reading(_BODY_WAITS)
        if self._body is not None:
            self._await_body()

    # From one request to the next.

    def _go_on(self) -> None:
        """Read the next head; or end the connection, as when the body was not all wanted."""
        if self._is_counted:
            self._release_address()
        if self._is_last or self._body is not None:
            self._end_served()
            return
        self._stage = Stage.READING
        self._searched = 0
        self._is_head_late = False
        self._sent_headers = []
        if self._protocol is not None:
            self._protocol.forget()
        # The deadline of before is still set: it becomes this one when it expires.
        self._idle_from = self._config.context.loop.time()
        if self._pauses:
            self._resume_reading(_NEXT_WAITS)
        if self._received:
            # The application's task is not to run into what is read next.
            self._config.context.loop.call_soon(self._read_next)

    def _read_next(self) -> None:
        if self._stage is Stage.READING and self._received:
            self._read_head()

    def _end_served(self) -> None:
        if self._transfer.send_until < math.inf:
            # The rest of a large response has the time that its client needs.
            self._is_last = self._is_next_due = True
        else:
            self._end(b"")

    def _release_address(self) -> None:
        if self._is_counted:
            self._is_counted = False
            self._peer_info.permit.release_address()

    def _pause_reading(self, reason: int) -> None:
        if not self._pauses:
            self._transport.pause_reading()
        self._pauses |= reason

    def _resume_reading(self, reason: int) -> None:
        if not self._pauses & reason:
            return
        self._pauses &= ~reason
        if self._pauses or self._transport.is_closing():
            return
        if self._require_connection().is_secure:
            self._config.context.loop.call_soon(self._resume_tls_reading)
        else:
            self._transport.resume_reading()

    def _resume_tls_reading(self) -> None:
        if not self._pauses and self._stage in (Stage.READING, Stage.SERVING):
            resume_tls_reading(self._transport)

    # Time, and the end.

    def _set_deadline(self, seconds: float) -> float:
        context = self._config.context
        at = context.loop.time() + seconds
        context.deadlines.add(self, at)
        return at

    def expired(self) -> None:
        if self._is_idle:
            self._check_idle()
        elif self._stage is Stage.SERVING:
            self._check_transfer()
        else:
            super().expired()

    def _check_idle(self) -> None:
        context = self._config.context
        until = self._idle_from + context.timeouts.keep_alive
        if until <= context.loop.time():
            self._end(b"")
        else:
            context.deadlines.add(self, until)

    def _check_transfer(self) -> None:
        context = self._config.context
        now = context.loop.time()
        until = self._transfer.until(self._transport.get_write_buffer_size(), now)
        if until <= now:
            context.events.noticed("http_transfer_timeout", "")
            self.abort(*NO_CLOSE)
        else:
            # The application has all the time that it needs; then the connection is idle.
            context.deadlines.add(self, min(until, now + context.timeouts.keep_alive))

    def _note_early_end(self) -> None:
        if not self._has_served:
            super()._note_early_end()

    def _connection_lost(self) -> None:
        self._release_address()
        if self._protocol is not None:
            self._protocol.disconnect()
        self._leave()
        super()._connection_lost()
