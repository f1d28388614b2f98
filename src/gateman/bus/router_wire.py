"""
The bytes between a process and the router of its machine. Pure.

Wire format:
    A frame, in both directions::

        kind(1) · size of the subject(2) · size of the payload(4) · subject · payload

    Numbers are big-endian. The router forwards a message unchanged, without reading its
    payload. It begins with a hello, whose payload names the protocol and its version.

    A ``QUERY`` names a subject. If no other process subscribes to it, the router returns the
    payload of the query in a ``NO_SUBSCRIBERS``; otherwise it does not answer.

    A ``HISTORY`` names the subject of a channel. Its payload is a number and a request of
    :mod:`gateman.history.wire`; that of the ``HISTORY_REPLY`` is the number and the answer.
"""

import struct
from enum import IntEnum
from typing import NamedTuple

from .subjects import Subject
from .wire import (
    Broken,
    BrokerEvent,
    BrokerHello,
    BrokerReply,
    Control,
    Dropped,
    NoSubscribers,
)

HEAD = struct.Struct(">BHI")
HEAD_SIZE = HEAD.size

_DROPPED = struct.Struct(">Qd")
NUMBER = struct.Struct(">Q")

VERSION = 3
"""Changes with every incompatible change of this protocol."""

# bytes; a bigger frame is invalid. Above every bus's max_payload_size.
MAX_FRAME_SIZE = 2 * 1024 * 1024

# Commands of the parent: stop; serve the listening socket that comes with this byte; report.
STOP, ADD_LISTENER, REPORT = b"\n", b"+", b"?"


class HistoryReport(NamedTuple):
    """What a router's history holds: bytes, channels, and how many messages found no room."""

    size: int = 0
    channels: int = 0
    dropped: int = 0


# The answer to REPORT.
HISTORY_REPORT = struct.Struct(">QQQ")


class FrameKind(IntEnum):
    MESSAGE = 1
    SUBSCRIBE = 2
    UNSUBSCRIBE = 3
    PING = 4
    PONG = 5
    DROPPED = 6
    HELLO = 7
    QUERY = 8
    NO_SUBSCRIBERS = 9
    HISTORY = 10
    HISTORY_REPLY = 11


def frame(kind: FrameKind, subject: bytes = b"", payload: bytes = b"") -> bytes:
    return HEAD.pack(kind, len(subject), len(payload)) + subject + payload


HELLO = frame(FrameKind.HELLO, payload=b"gateman-bus %d" % VERSION)


def dropped(count: int, since: float) -> bytes:
    """Write how many messages a process lost because it was slow."""
    return frame(FrameKind.DROPPED, payload=_DROPPED.pack(count, since))


class Frames:
    """Splits received bytes into complete frames."""

    __slots__ = ("_missing", "_rest")

    def __init__(self) -> None:
        self._rest = bytearray()
        self._missing = 0

    def feed(self, data: bytes) -> bytes:
        """Return the received bytes, preceded by the kept ones."""
        if not self._rest:
            return data
        # Joined once and not for every part: a big frame may arrive in many.
        self._rest += data
        self._missing -= len(data)
        if self._missing > 0:
            return b""
        whole = bytes(self._rest)
        self._rest.clear()
        return whole

    def keep(self, data: bytes, start: int) -> None:
        """Keep the beginning of a frame until the rest arrives."""
        if start == len(data):
            return
        self._rest += memoryview(data)[start:]
        size = HEAD_SIZE
        if len(self._rest) >= HEAD_SIZE:
            _, subject_size, payload_size = HEAD.unpack_from(self._rest)
            size += subject_size + payload_size
        self._missing = size - len(self._rest)


class RouterWire:
    """A process's side of the connection; see :class:`~.wire.Wire`."""

    ping = frame(FrameKind.PING)
    pong = frame(FrameKind.PONG)
    can_confirm = True

    def __init__(self) -> None:
        self._frames = Frames()

    def publish(self, subject: Subject, payload: bytes) -> bytes:
        name = subject.encode("ascii")
        return HEAD.pack(FrameKind.MESSAGE, len(name), len(payload)) + name + payload

    def subscribe(self, subject: Subject) -> bytes:
        return frame(FrameKind.SUBSCRIBE, subject.encode("ascii"))

    def unsubscribe(self, subject: Subject) -> bytes:
        return frame(FrameKind.UNSUBSCRIBE, subject.encode("ascii"))

    def ask(self, subject: Subject, number: int) -> bytes:
        return frame(FrameKind.QUERY, subject.encode("ascii"), NUMBER.pack(number))

    def history(self, subject: Subject, number: int, request: bytes) -> bytes:
        """Write a request about the history of the channel of a subject."""
        return frame(FrameKind.HISTORY, subject.encode("ascii"), NUMBER.pack(number) + request)

    def feed(self, data: bytes) -> list[BrokerEvent]:
        data = self._frames.feed(data)
        events: list[BrokerEvent] = []
        start, end = 0, len(data)
        while end - start >= HEAD_SIZE:
            kind, subject_size, payload_size = HEAD.unpack_from(data, start)
            if subject_size + payload_size > MAX_FRAME_SIZE:
                events.append(Broken("a frame is too big"))
                return events
            middle = start + HEAD_SIZE + subject_size
            stop = middle + payload_size
            if stop > end:
                break
            if kind == FrameKind.MESSAGE:
                subject = str(data[start + HEAD_SIZE : middle], "latin-1")
                events.append((subject, data[middle:stop]))
            else:
                events.append(_event(kind, data[middle:stop]))
            start = stop
        self._frames.keep(data, start)
        return events


def _event(kind: int, payload: bytes) -> BrokerEvent:
    match kind:
        case FrameKind.PONG:
            event: BrokerEvent = Control.PONG
        case FrameKind.PING:
            event = Control.PING
        case FrameKind.HISTORY_REPLY if len(payload) >= NUMBER.size:
            (number,) = NUMBER.unpack_from(payload)
            event = BrokerReply(number, payload[NUMBER.size :])
        case FrameKind.DROPPED if len(payload) == _DROPPED.size:
            event = Dropped(*_DROPPED.unpack(payload))
        case FrameKind.NO_SUBSCRIBERS if len(payload) == NUMBER.size:
            event = NoSubscribers(*NUMBER.unpack(payload))
        case FrameKind.HELLO:
            event = BrokerHello({"speaks": payload.decode("latin-1")})
        case _:
            event = Broken(f"a frame is of kind {kind}")
    return event
