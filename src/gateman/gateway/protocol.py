"""
The packets between gateways and business workers, as MessagePack. PURE.

A gateway numbers the events for a business process from 1 on. The process reports which events it
has received and the results of those that it has handled; results are numbered, too. The bus may
lose packets, so both sides send their numbers each second, and missing packets are sent again.
"""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from ..cluster.names import ClientId
from ..errors import EnvelopeError

_Count = Annotated[int, Meta(ge=0)]
_Client = Annotated[ClientId, Meta(min_length=3, max_length=64)]

# Most bytes of an event beside its payload: a client id, addresses, MessagePack headers.
EVENT_OVERHEAD = 256  # bytes

# Most events that share a result.
MAX_RESULT_COUNT = 1 << 16


class Event(Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """
    An event of a client; the gateway changes ``suspicion`` and ``session`` to send it again.

    The garbage collector does not track events, of which thousands may be under way: a field must
    not refer to an object that refers to the event.

    Attributes:
        suspicion: 1 if a process that had it has died, 2 if it may have killed one; else 0. See
            :mod:`.dispatch`.
        session: The client's session, as MessagePack; ``None`` if the process has it already.
    """

    client: _Client
    suspicion: Annotated[int, Meta(ge=0, le=2)] = 0
    session: bytes | None = None


class AdoptEvent(Event, tag="a"):
    """The process takes over the client; ``remote_port`` is 0 if it is not known."""

    remote_ip: str = ""
    remote_port: _Count = 0


class ConnectEvent(Event, tag="c"):
    """
    A handshake; the gateway waits for a :class:`HandshakeAnswer`.

    Attributes:
        head: The head of the request, as received.
    """

    remote_ip: str = ""
    remote_port: _Count = 0
    head: bytes = b""


class OpenEvent(Event, tag="o"):
    """The 101 was sent."""


class MessageEvent(Event, tag="m"):
    """
    A message, or a piece of one that is larger than a packet.

    Attributes:
        payload: Of a text, its UTF-8; a piece may end within a character.
        is_last: Whether no piece follows.
    """

    is_text: bool = True
    payload: bytes = b""
    is_last: bool = True


class CloseEvent(Event, tag="x"):
    """The connection is closed."""

    code: Annotated[int, Meta(ge=1000, le=4999)] = 1006
    reason: Annotated[str, Meta(max_length=123)] = ""


AnyEvent = AdoptEvent | ConnectEvent | OpenEvent | MessageEvent | CloseEvent


class Offer(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="o"):
    """
    A business process offers itself to all gateways, each second.

    Attributes:
        is_leaving: Whether the process takes no new clients.
        load: How many clients of all gateways it has.
    """

    is_leaving: bool
    load: _Count


class Discover(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="s"):
    """A gateway that has just started asks all business processes for an :class:`Offer`."""


class Events(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="e"):
    """
    A gateway to a business process: events; each second also without events, as a heartbeat.

    Attributes:
        epoch: Numbers begin at 1 in each epoch.
        result_count: How many of the process's results the gateway has received.
        first: The number of the first event, or of the next event if there is none.
    """

    epoch: _Count
    result_count: _Count
    first: _Count
    items: list[AnyEvent]


class HandshakeAnswer(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The answer to a :class:`ConnectEvent`; ``status`` is 0 to accept the client."""

    status: _Count
    text: str = ""
    headers: dict[str, str] = {}


class Result(Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """
    The result of an event; or of several consecutive ones, whose results are empty.

    Attributes:
        number: The number of the event, or of the first one.
        session: The client's session, as MessagePack, if a handler has changed it.
        answer: For a :class:`ConnectEvent`.
        count: How many events.
    """

    number: _Count
    session: bytes | None = None
    answer: HandshakeAnswer | None = None
    count: Annotated[int, Meta(ge=1, le=MAX_RESULT_COUNT)] = 1


class Done(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="d"):
    """
    A business process to a gateway: a report of handled events, and each second.

    Attributes:
        received: The process has received all events up to this number.
        has_gap: Whether it has received later events, so that some are missing.
        first: The number of the first result, or of the next result if there is none.
        results: In the order in which the events' handlers ended.
    """

    epoch: _Count
    received: _Count
    has_gap: bool
    first: _Count
    results: list[Result]


class Begun(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="b"):
    """A business process to a gateway: a handler begins an event that may crash the process."""

    epoch: _Count
    number: _Count


class Released(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="r"):
    """
    A gateway to a leaving process: no more events follow.

    Attributes:
        last: The number of the last event.
        has_successor: Whether another process takes over each client when the gateway knows that
            its last event was handled. The process keeps its clients without one.
    """

    epoch: _Count
    last: _Count
    has_successor: bool


class Leave(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="f"):
    """Either side, to all: the process ends in order. Its unhandled events are dropped."""


Packet = Offer | Discover | Events | Done | Begun | Released | Leave

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Packet] = msgspec.msgpack.Decoder(Packet)


def encode(packet: Packet) -> bytes:
    return _encoder.encode(packet)


def decode(data: bytes) -> Packet:
    """Decode a packet; :class:`~gateman.errors.EnvelopeError` if it is malformed."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise EnvelopeError(
            f"a packet between gateway and business worker is malformed ({error})"
        ) from None
