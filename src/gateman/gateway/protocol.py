"""
What gateways and business workers say to one another, as bytes. PURE.

A gateway numbers the events that it sends to a business process, from 1 on; the process says which
have come (*received*) and which were handled (*done*), and numbers what it says of them, too.
Everything else is for what goes wrong: the bus may lose what is sent, so both say each second how
far they are, and what is missing is sent again.
"""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from ..cluster.names import ClientId
from ..errors import EnvelopeError

_Count = Annotated[int, Meta(ge=0)]
_Client = Annotated[ClientId, Meta(min_length=3, max_length=64)]

# What an event takes beside its payload, at most: a client id, addresses, and their headers.
EVENT_OVERHEAD = 256  # bytes


class Event(Struct, array_like=True, forbid_unknown_fields=True):
    """
    Something that happened to a client; a gateway changes the last two when it sends it again.

    Attributes:
        client: To whom.
        care: 0; 1 if a process has died that had it, 2 if it may have killed one. See
            :mod:`.dispatch`.
        session: The client's session, as MessagePack; ``None`` if it is as this process has
            it already.
    """

    client: _Client
    suspicion: Annotated[int, Meta(ge=0, le=2)] = 0
    session: bytes | None = None


class AdoptEvent(Event, tag="a"):
    """
    It is this process's from now on; nothing happened.

    Attributes:
        remote_ip: The client's address.
        remote_port: The client's port; 0 if nobody knows it.
    """

    remote_ip: str = ""
    remote_port: _Count = 0


class ConnectEvent(Event, tag="c"):
    """
    It wants to open a WebSocket; an answer is waited for.

    Attributes:
        remote_ip: The client's address.
        remote_port: The client's port; 0 if nobody knows it.
        head: The head of its request, as received.
    """

    remote_ip: str = ""
    remote_port: _Count = 0
    head: bytes = b""


class OpenEvent(Event, tag="o"):
    """The 101 was sent."""


class MessageEvent(Event, tag="m"):
    """
    It sent a message, or a piece of one that is too big for one envelope.

    Attributes:
        is_text: Whether it is text, or bytes.
        payload: It; of a text, its UTF-8, which may be cut anywhere.
        is_last: Whether no piece follows.
    """

    is_text: bool = True
    payload: bytes = b""
    is_last: bool = True


class CloseEvent(Event, tag="x"):
    """
    It is gone.

    Attributes:
        code: The close code.
        reason: The close reason.
    """

    code: Annotated[int, Meta(ge=1000, le=4999)] = 1006
    reason: Annotated[str, Meta(max_length=123)] = ""


AnyEvent = AdoptEvent | ConnectEvent | OpenEvent | MessageEvent | CloseEvent


class Offer(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="o"):
    """
    A business process, to all gateways: I am here; each second.

    Attributes:
        is_leaving: Whether it takes no more events.
        load: How many clients it has, of all gateways.
    """

    is_leaving: bool
    load: _Count


class Discover(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="s"):
    """A gateway that has just started, to all business processes: who is here?"""


class Events(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="e"):
    """
    A gateway to a business process; without events each second, as a sign of life.

    Attributes:
        epoch: Which of the gateway's links to the process; numbers begin anew in each.
        result_count: How many of the process's results have come; they need not be said again.
        first: The number of the first event, or of the next if there are none.
        items: The events.
    """

    epoch: _Count
    result_count: _Count
    first: _Count
    items: list[AnyEvent]


class HandshakeAnswer(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """
    What became of a :class:`ConnectEvent`.

    Attributes:
        status: 0 to let the client in; the status of the refusal otherwise.
        text: The refusal's text.
        headers: The refusal's header fields.
    """

    status: _Count
    text: str = ""
    headers: dict[str, str] = {}


class Result(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """
    What became of an event.

    Attributes:
        number: Which.
        session: The client's session, as MessagePack, if a handler has changed it.
        answer: What was said to a handshake.
    """

    number: _Count
    session: bytes | None = None
    answer: HandshakeAnswer | None = None


class Done(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="d"):
    """
    A business process to a gateway, when something was done, and each second.

    Attributes:
        epoch: Of which link.
        received: The number up to which all events have come.
        has_gap: Whether later ones have come, so that some are missing.
        first: The place of the first result among all of this link, from 1 on; or of the next
            if there are none.
        results: Of events that were handled, in the order in which that ended.
    """

    epoch: _Count
    received: _Count
    has_gap: bool
    first: _Count
    results: list[Result]


class Begun(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="b"):
    """
    A business process to a gateway: a handler begins with an event that may kill it.

    Attributes:
        epoch: Of which link.
        number: The event.
    """

    epoch: _Count
    number: _Count


class Released(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="r"):
    """
    A gateway to a process that leaves: there is nothing more for it.

    Attributes:
        epoch: Of which link.
        last: The number of the last event.
        has_successor: Whether another process takes over each client when the gateway knows that
            its last event was handled. The process keeps its clients without one.
    """

    epoch: _Count
    last: _Count
    has_successor: bool


class Leave(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="f"):
    """Either side, to all: I am gone, in order. What is not done is nobody's any more."""


Packet = Offer | Discover | Events | Done | Begun | Released | Leave

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Packet] = msgspec.msgpack.Decoder(Packet)


def encode(packet: Packet) -> bytes:
    """Write a parcel."""
    return _encoder.encode(packet)


def decode(data: bytes) -> Packet:
    """
    Read a parcel.

    Raises:
        EnvelopeError: It is malformed.
    """
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise EnvelopeError(f"a gateway's parcel is malformed ({error})") from None
