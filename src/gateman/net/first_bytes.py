"""
What a client of ``text://`` or ``frame://`` says first, if that is something else.

A page of any site can make a browser send an HTTP request here, whose body would be lines.
"""

import asyncio
from typing import Protocol

from ..errors import ProtocolError
from ..protocols.frame import Frame
from ..protocols.text import Text
from ..websocket.close import CloseCode
from .preamble import (
    HTTP_STARTS,
    PROXY_V1_STARTS,
    TLS_ALERT,
    TLS_START,
    looks_like_http,
    looks_like_proxy,
    looks_like_tls,
)

CHECKED = (Text, Frame)
"""Bytes, and what users' protocols read, may begin with anything."""

_STARTS = (*HTTP_STARTS, *PROXY_V1_STARTS, TLS_START)
LONGEST_START = max(map(len, _STARTS))

_TLS = ProtocolError(
    CloseCode.PROTOCOL_ERROR, "it speaks TLS on a port without TLS", cause="tls_on_plain_port"
)
_PROXY_HEADER = ProtocolError(
    CloseCode.PROTOCOL_ERROR,
    "it sent a PROXY header, and proxy_protocol is off",
    cause="unexpected_proxy_header",
)
_HTTP = ProtocolError(CloseCode.PROTOCOL_ERROR, "it sent an HTTP request", cause="http_request")


def mistake_in(first: bytes | bytearray) -> tuple[ProtocolError, bytes] | None:
    """Return why a client is closed for its first bytes, and what it is answered."""
    if looks_like_tls(first):
        return _TLS, TLS_ALERT
    if looks_like_proxy(first):
        return _PROXY_HEADER, b""
    return (_HTTP, b"") if looks_like_http(first) else None


def may_become_mistake(first: bytes | bytearray) -> bool:
    """Return whether the rest of the first line may show what a client speaks."""
    # A page can make the target of a request longer than one read.
    return b"\n" not in first and (
        first.startswith(HTTP_STARTS)
        or (len(first) < LONGEST_START and any(one.startswith(first) for one in _STARTS))
    )


class Link(Protocol):
    """What the first bytes are given to; see :class:`gateman.net.packet_link.PacketLink`."""

    def begin(self, nbytes: int) -> None: ...
    def get_buffer(self, sizehint: int, /) -> memoryview: ...
    def eof_received(self) -> bool: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def connection_lost(self, exc: BaseException | None, /) -> None: ...


class FirstBytes(asyncio.BufferedProtocol):
    """A transport's protocol until the client has said what it speaks: later bytes cost no look."""

    __slots__ = ("_link",)

    def __init__(self, link: Link) -> None:
        self._link = link

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._link.get_buffer(sizehint)

    def buffer_updated(self, nbytes: int) -> None:
        self._link.begin(nbytes)

    def eof_received(self) -> bool:
        return self._link.eof_received()

    def pause_writing(self) -> None:
        self._link.pause_writing()

    def resume_writing(self) -> None:
        self._link.resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._link.connection_lost(exc)
