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
    """An event of a client; not collected in cycles, so no field may refer to what refers to it."""

    client: _Client
    # 1 if a process that had it has died, 2 if it may have killed one; see `dispatch`.
    suspicion: Annotated[int, Meta(ge=0, le=2)] = 0
    session: bytes | None = None  # as MessagePack; None if the process has it already


class AdoptEvent(Event, tag="a"):
    """The process takes over the client; ``remote_port`` is 0 if it is not known."""

    remote_ip: str = ""
    remote_port: _Count = 0


class ConnectEvent(Event, tag="c"):
    """A handshake; the gateway waits for a :class:`HandshakeAnswer`."""

    remote_ip: str = ""
    remote_port: _Count = 0
    head: bytes = b""  # the head of the request, as received


class OpenEvent(Event, tag="o"):
    """The 101 was sent."""


class MessageEvent(Event, tag="m"):
    """A message, or a piece of one that is larger than a packet."""

    is_text: bool = True
    payload: bytes = b""  # of a text, its UTF-8; a piece may end within a character
    is_last: bool = True  # whether no piece follows
    is_command: bool = False  # whether it is a Question of `commands`, for an SDK client


class CloseEvent(Event, tag="x"):
    """The connection is closed."""

    code: Annotated[int, Meta(ge=1000, le=4999)] = 1006
    reason: Annotated[str, Meta(max_length=123)] = ""


AnyEvent = AdoptEvent | ConnectEvent | OpenEvent | MessageEvent | CloseEvent


class Offer(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="o"):
    """A business process offers itself to all gateways, each second."""

    is_leaving: bool  # whether it takes no new clients
    load: _Count  # how many clients of all gateways it has
    callbacks: list[str] = []  # those that it has for commands of SDK clients


class Discover(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="s"):
    """A gateway that has just started asks all business processes for an :class:`Offer`."""


class Events(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="e"):
    """A gateway to a business process: events; each second also without events, as a heartbeat."""

    epoch: _Count  # numbers begin at 1 in each epoch
    result_count: _Count  # how many of the process's results the gateway has received
    first: _Count  # the number of the first event, or of the next one if there is none
    items: list[AnyEvent]


class HandshakeAnswer(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The answer to a :class:`ConnectEvent`; ``status`` is 0 to accept the client."""

    status: _Count
    text: str = ""
    headers: dict[str, str] = {}


FAILED = HandshakeAnswer(500, "internal error")
"""The application did not refuse the client: its callback raised, or has ended its processes."""


class Result(Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """The result of an event; or of several consecutive ones, whose results are empty."""

    number: _Count  # of the event, or of the first one
    session: bytes | None = None  # the client's, as MessagePack, if a handler has changed it
    answer: HandshakeAnswer | None = None  # for a ConnectEvent
    count: Annotated[int, Meta(ge=1, le=MAX_RESULT_COUNT)] = 1  # how many events
    reply: bytes | None = None  # for a command: a Reply of `commands`


class Done(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="d"):
    """A business process to a gateway: a report of handled events, and each second."""

    epoch: _Count
    received: _Count  # the process has received all events up to this number
    has_gap: bool  # it has received later events, so that some are missing
    first: _Count  # the number of the first result, or of the next one if there is none
    results: list[Result]  # in the order in which the events' handlers ended


class Begun(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="b"):
    """A business process to a gateway: a handler begins an event that may crash the process."""

    epoch: _Count
    number: _Count


class Released(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="r"):
    """A gateway to a leaving process: no more events follow."""

    epoch: _Count
    last: _Count  # the number of the last event
    # Another process takes over each client when its last event was handled. Without one, the
    # process keeps its clients.
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
