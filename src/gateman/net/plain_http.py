"""
One connection of a port that speaks plain HTTP only: one request, one answer, the end.

Its limits and its deadline are those of a handshake.
"""

import asyncio
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

from ..errors import HandshakeError
from ..http.response import Response, refused
from ..options import Limits
from ..request import Request, head_end, parse_request
from .accepted_socket import PeerInfo
from .aiofastnet_adapter import abort
from .deadlines import Deadlines
from .lingering_close import close_lingering


class PlainHttp(asyncio.BufferedProtocol):
    # Shared by all connections: each read is copied before the next one.
    _scratch = memoryview(bytearray(16 << 10))

    __slots__ = (
        "_answer",
        "_close_timeout",
        "_connections",
        "_deadlines",
        "_limits",
        "_loop",
        "_peer_info",
        "_received",
        "_searched",
        "_transport",
    )

    def __init__(
        self,
        answer: Callable[[Request], Response],
        peer_info: PeerInfo,
        *,
        limits: Limits,
        deadlines: Deadlines,
        close_timeout: float,
        connections: "set[PlainHttp]",
    ) -> None:
        self._answer = answer
        self._peer_info = peer_info
        self._limits = limits
        self._deadlines = deadlines
        self._close_timeout = close_timeout
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._searched = 0
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._connections.add(self)
        self._deadlines.add(self, self._peer_info.deadline_at)

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._scratch

    def buffer_updated(self, nbytes: int) -> None:
        self._received += self._scratch[:nbytes]
        end = head_end(self._received, self._searched)
        self._searched = len(self._received)
        if (end or len(self._received)) > self._limits.max_head_size:
            self._end(refused(431, "", {}, ""))
        elif end:
            self._end(*self._read(bytes(self._received[:end])))

    def _read(self, head: bytes) -> tuple[Response, bool]:
        if self._peer_info.refusal is not None:
            return self._peer_info.refusal, False
        try:
            request = parse_request(
                head, max_header_count=self._limits.max_header_count, is_plain=True
            )
        except HandshakeError as error:
            return refused(error.status, error.text, error.headers, error.code), False
        return self._answer(request), request.method == "HEAD"

    def _end(self, answer: Response, head_only: bool = False) -> None:  # noqa: FBT001, FBT002
        self._received.clear()
        self._transport.write(answer.encode(date=formatdate(usegmt=True), head_only=head_only))
        self._deadlines.add(self, self._loop.time() + self._close_timeout)
        close_lingering(self._transport, self._lost)

    def eof_received(self) -> bool:
        """End it: a client that closes before the answer does not want one."""
        return False

    def pause_writing(self) -> None:
        """Answers are small: they wait in the transport."""

    def resume_writing(self) -> None:
        """Nothing was paused."""

    def expired(self) -> None:
        abort(self._transport)

    def connection_lost(self, _exc: BaseException | None) -> None:
        self._lost()

    def _lost(self) -> None:
        self._deadlines.discard(self)
        self._connections.discard(self)
        self._peer_info.permit.release()
