"""What the probes of the handshake saw. PURE."""

import base64
import hashlib
import re
from dataclasses import dataclass
from enum import Enum

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_STATUS_LINE = re.compile(rb"HTTP/(\d\.\d) (\d{3})(?: ([^\r\n]*))?\r?\n")


class Kind(Enum):
    """What a request is sent for."""

    HANDSHAKE = "handshake"
    """As a browser sends it."""
    NATIVE = "handshake without Origin and compression"
    FOREIGN = "handshake of a page of another site"
    SECOND = "second handshake"
    OTHER_PATH = "handshake at another path"
    PLAIN = "plain request"
    MALFORMED = "malformed request"


class Silence(Enum):
    """What came in place of an HTTP answer."""

    CLOSED = "the end of the connection"
    RESET = "a reset"
    TIMED_OUT = "nothing in time"
    UNREACHABLE = "no connection"
    NOT_HTTP = "something that is not HTTP"


class End(Enum):
    """How a WebSocket ended while it was watched."""

    OPEN = "open"
    CLOSE = "a Close"
    EOF = "the end of the connection"
    RESET = "a reset"
    FAULT = "a fault in the frames"


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    version: str = "1.1"
    reason: str = ""
    fields: tuple[tuple[str, str], ...] = ()  # in their order
    body: str = ""  # the beginning of it

    def get(self, name: str) -> str:
        """Return the values of a field, as one; empty without it."""
        return ", ".join(value for one, value in self.fields if one.lower() == name.lower())

    def has_token(self, name: str, token: str) -> bool:
        return token in {one.strip().lower() for one in self.get(name).split(",")}


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchange:
    """What came over an open WebSocket."""

    end: End
    pong_time: float | None = None  # seconds from a ping to its pong; None if there was none
    has_wrong_pong: bool = False
    pings: tuple[float, ...] = ()  # when the server pinged: seconds after the opening
    messages: int = 0
    close: tuple[int, str] | None = None  # the code and the reason of the server's Close
    fault: str = ""  # what is wrong with a frame; empty for nothing
    # Whether a frame has the bit of permessage-deflate, which was not agreed on.
    is_compressed: bool = False
    first: bytes = b""  # the beginning of what followed the 101
    ended_at: float = 0.0  # seconds after the opening


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One request, and what became of it."""

    kind: Kind
    address: str
    port: int
    path: str = "/"
    origin: str | None = None  # the Origin that was sent; None for none
    key: str = ""  # the Sec-WebSocket-Key that was sent; empty for a plain request
    subprotocols: tuple[str, ...] = ()
    offers_compression: bool = False  # whether permessage-deflate was offered
    silence: Silence | None = None
    answer: Answer | None = None
    garbage: bytes = b""  # the beginning of what came, if that is not HTTP
    error: str = ""  # why there was no connection
    duration: float = 0.0  # seconds until the answer, or until the silence ended
    exchange: Exchange | None = None

    @property
    def is_open(self) -> bool:
        """Whether a client would have a connection, for a moment at least."""
        answer = self.answer
        return (
            answer is not None
            and answer.status == 101
            and answer.get("Sec-WebSocket-Accept") == accept_of(self.key)
        )

    @property
    def works(self) -> bool:
        """Whether the connection opened, and a ping got its pong."""
        exchange = self.exchange
        return self.is_open and (
            exchange is None or (exchange.end is End.OPEN and exchange.pong_time is not None)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class UpgradeSeen:
    """All requests, the first handshake first."""

    attempts: tuple[Attempt, ...] = ()

    @property
    def main(self) -> Attempt | None:
        return next((one for one in self.attempts if one.kind is Kind.HANDSHAKE), None)

    def of(self, kind: Kind) -> Attempt | None:
        return next((one for one in self.attempts if one.kind is kind), None)

    @property
    def is_open(self) -> bool:
        return any(one.kind is Kind.HANDSHAKE and one.works for one in self.attempts)


def accept_of(key: str) -> str:
    """Compute the answer to a key (RFC 6455, section 4.2.2)."""
    digest = hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def parse_answer(head: bytes, body: bytes = b"") -> Answer | None:
    """Read the head of an answer, as tolerantly as browsers do; ``None`` if it is not HTTP/1."""
    line = _STATUS_LINE.match(head)
    if line is None:
        return None
    fields = []
    for row in head[line.end() :].split(b"\n"):
        name, colon, value = row.decode("latin-1").partition(":")
        if colon:
            fields.append((name.strip(), value.strip()))
    return Answer(
        status=int(line[2]),
        version=line[1].decode(),
        reason=(line[3] or b"").decode("latin-1"),
        fields=tuple(fields),
        body=body.decode("utf-8", "replace"),
    )
