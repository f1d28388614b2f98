"""
Envelopes: the messages between processes, as bytes. Pure.

Wire format:
    byte 0: the version · MessagePack of an array: a tag for the kind, then the fields
    of one of the classes here, in their order.

Received envelopes are checked completely before they are used: kind, number and type of the fields,
lengths, UTF-8. An unknown version is refused, because the meaning of the fields depends
on it. Nothing is ever unpickled.
"""

from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from ..errors import EnvelopeError
from ..websocket.close import check_close
from .names import (
    MAX_CLIENT_LENGTH,
    MAX_NAME_SIZE,
    MAX_NODE_LENGTH,
    ClientId,
    Group,
    NodeId,
    Uid,
)
from .publication import BINARY, PACKED, TEXT, ClientInfo, unpack

VERSION = 3

# Longer than any client that reconnects by itself waits; precedent: Ably's 15 s.
MAX_LEAVE_DELAY = 60.0  # seconds

_Name = Meta(min_length=1, max_length=MAX_NAME_SIZE)
_Node = Annotated[NodeId, Meta(min_length=1, max_length=MAX_NODE_LENGTH)]
_Client = Annotated[ClientId, Meta(min_length=3, max_length=MAX_CLIENT_LENGTH)]
_Group = Annotated[Group, _Name]
_Uid = Annotated[Uid, _Name]
_Count = Annotated[int, Meta(ge=0)]
# Microseconds since 1970; at most one ahead of the clock for each login.
_Stamp = Annotated[int, Meta(ge=0, lt=1 << 62)]


class Target(StrEnum):
    """The kind of recipients of a message."""

    ALL = "a"
    """All clients; without names."""
    CLIENTS = "c"
    """The clients with these ids."""
    UIDS = "u"
    """The clients of these users."""
    GROUPS = "g"
    """The clients in these groups."""
    EVENTS = "e"
    """The code that handles events of this topic; a payload is MessagePack."""


# Of :mod:`.publication`: text, binary, JSON, or a publication.
_Kind = Annotated[int, Meta(ge=1, le=4)]


class Item(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One message; the payload of a text is UTF-8."""

    kind: _Kind
    payload: bytes
    exclude: tuple[_Client, ...] = ()


class Messages(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="m"):
    """Messages of one sender to the same clients; ``number`` counts those before on the channel."""

    source: _Node
    number: _Count
    target: Target
    names: tuple[Annotated[str, _Name], ...]
    items: list[Item]


class DirectMessage(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A message for one client; the payload of a text is UTF-8."""

    client: _Client
    kind: _Kind
    payload: bytes


class DirectMessages(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="n"):
    """Messages to single clients of a node; ``number`` counts those before on the channel."""

    source: _Node
    number: _Count
    items: list[DirectMessage]


class SequenceMark(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="k"):
    """How many messages a sender has sent on a channel; reveals losses at its end."""

    source: _Node
    number: _Count
    target: Target
    names: tuple[Annotated[str, _Name], ...]


class Join(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="j"):
    client: _Client
    group: _Group


class Leave(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="l"):
    client: _Client
    group: _Group


class Bind(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="b"):
    client: _Client
    uid: _Uid


class BindOnly(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="o"):
    """Bind a client to a uid, and close all other clients of that user."""

    client: _Client
    uid: _Uid
    code: int
    reason: str


class Unbind(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="u"):
    client: _Client


class CloseClient(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="x"):
    client: _Client
    code: int
    reason: str


class SetSession(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="s"):
    client: _Client
    session: dict[str, Any]


class UpdateSession(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="t"):
    client: _Client
    changes: dict[str, Any]


class Dissolve(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="d"):
    """Remove all clients from a group."""

    group: _Group


class CloseUid(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="z"):
    """Close the connections of a user, except the excluded ones."""

    uid: _Uid
    code: int
    reason: str
    exclude: tuple[_Client, ...]


ClientAction = Join | Leave | Bind | BindOnly | Unbind | CloseClient | SetSession | UpdateSession
# Actions that all nodes with clients execute.
WideAction = Dissolve | CloseUid
HubAction = ClientAction | WideAction


class Command(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="c"):
    """An action for another node; the id of its answer is 0 if none is wanted."""

    source: _Node
    request_id: _Count
    action: HubAction


class Claim(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A login that closes the user's other clients; see :mod:`.logins`. The highest stamp wins."""

    client: _Client
    uid: _Uid
    stamp: _Stamp
    code: int
    reason: str


class Claims(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="w"):
    """Exclusive logins of a node; ``number`` counts those announced, 0 in a repetition."""

    source: _Node
    claims: list[Claim]
    number: _Count = 0


class Query(StrEnum):
    """What is asked; each documents its argument and its answer."""

    UID_OF_CLIENT = "uid_of_client"
    """Client id → uid or ``None``."""
    IS_ONLINE = "is_online"
    """Client id → bool."""
    SESSION = "session"
    """Client id → session."""
    IS_UID_ONLINE = "is_uid_online"
    """Uid → bool."""
    CLIENTS_OF_UID = "clients_of_uid"
    """Uid → client ids."""
    CLIENTS_OF_GROUP = "clients_of_group"
    """Group → client ids."""
    UIDS_OF_GROUP = "uids_of_group"
    """Group → uids."""
    SESSIONS_OF_GROUP = "sessions_of_group"
    """Group → pairs of client id and session."""
    COUNT_GROUP = "count_group"
    """Group → int."""
    COUNT_CLIENTS = "count_clients"
    """Nothing → int."""
    COUNT_AUDIENCE = "count_audience"
    """An audience → int."""
    GROUP_SIZES = "group_sizes"
    """Nothing → pairs of group and int."""
    TOTALS = "totals"
    """Nothing → the totals of the node, in a list."""
    UIDS = "uids"
    """Nothing → uids."""
    GROUPS = "groups"
    """Nothing → groups."""
    PRESENCE = "presence"
    """Group → infos of its clients."""
    CHALLENGES = "challenges"
    """Which files an authority is to find → what is wrong with them here; ``None`` for nothing."""


class NodeTotals(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What is connected to a node."""

    node: _Node
    clients: _Count
    users: _Count
    groups: _Count
    subscriptions: _Count
    uptime: _Count  # seconds


class Audience(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The recipients of a message of a kind."""

    target: Target
    names: tuple[Annotated[str, _Name], ...]
    exclude: tuple[_Client, ...]
    kind: _Kind = TEXT


class QueryRequest(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="q"):
    """A query; its ``name`` is empty where it is about all clients."""

    source: _Node
    request_id: _Count
    query: Query
    name: Annotated[str, Meta(max_length=MAX_NAME_SIZE)]
    audience: Audience | None = None


class Problem(StrEnum):
    """Why a command or a query failed."""

    NONE = ""
    """It was."""
    UNKNOWN_CLIENT = "unknown_client"
    """The client is not here."""
    NOT_SENDABLE = "not_sendable"
    """The answer holds what cannot be put into an envelope."""


class QueryReply(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="a"):
    """An answer, or one part of it, counted from 0."""

    source: _Node
    request_id: _Count
    part: _Count
    is_last: bool
    problem: Problem
    value: Raw


class KeptRule(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """How many messages of channels are kept, and for how many seconds; a size of 0: none."""

    pattern: Annotated[str, _Name]
    size: _Count
    ttl: Annotated[float, Meta(ge=0)]


class Hello(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="h"):
    """A sign that a node is alive."""

    source: _Node
    has_clients: bool
    is_new: bool  # asks all nodes for a hello
    was_away: bool  # asks for sequence marks
    nodes: tuple[_Node, ...]
    away: Annotated[float, Meta(ge=0)] = 0.0  # asks for the logins of so many seconds
    clock: _Stamp = 0  # the highest stamp of a login that the node knows
    claims: _Count = 0  # how many logins the node has announced
    service: tuple[Annotated[str, _Name], ...] = ()
    kept: tuple[KeptRule, ...] = ()


class Bye(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="y"):
    """The last message of a node."""

    source: _Node


class ExtensionMessage(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="p"):
    """A message of a higher layer, in order with all other envelopes."""

    source: _Node
    data: bytes


class LeaseKind(StrEnum):
    """What a node says about leases; see :mod:`.leases`."""

    ASKED = "a"
    """It wants to know who has them."""
    CLAIMED = "c"
    """It wants them."""
    HELD = "h"
    """It has them."""
    RELEASED = "r"
    """It had them."""
    TOLD = "t"
    """It knows their marks."""


class LeaseMark(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A lease by its name, and its mark; 0 if that is not known."""

    name: Annotated[str, _Name]
    mark: _Stamp


class LeaseMessage(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="r"):
    """Claims, renewals and releases of leases."""

    source: _Node
    kind: LeaseKind
    marks: list[LeaseMark]


class Joined(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="j"):
    info: ClientInfo


class Left(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="l"):
    """A client has left; ``delay`` is how long, in seconds, it may come back unnoticed."""

    client: _Client
    delay: Annotated[float, Meta(ge=0, le=MAX_LEAVE_DELAY)] = 0.0
    is_handed_over: bool = False  # its node, which follows no more, does not tell the application


class PresenceChanges(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="e"):
    """Clients that joined or left a channel; ``previous`` is the number of the changes before."""

    source: _Node
    channel: _Group
    since: _Stamp  # when the node had its first client in it
    previous: _Count
    number: _Count
    changes: list[Joined | Left]


class PresenceRequest(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="f"):
    """Asks who is in these channels; answered with :class:`PresenceStates`."""

    source: _Node
    request_id: _Count
    channels: list[_Group]


class ChannelState(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The clients of a node in a channel, or a part of them."""

    channel: _Group
    since: _Stamp
    number: _Count  # of the last changes
    is_last: bool
    infos: list[ClientInfo]


class PresenceStates(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="g"):
    """Who is in some channels; the id is 0 if nobody has asked."""

    source: _Node
    request_id: _Count
    states: list[ChannelState]


Envelope = (
    Messages
    | DirectMessages
    | SequenceMark
    | Command
    | Claims
    | QueryRequest
    | QueryReply
    | Hello
    | Bye
    | ExtensionMessage
    | LeaseMessage
    | PresenceChanges
    | PresenceRequest
    | PresenceStates
)

# The most that an envelope of one message takes beside its payload: source, number, a
# name of 255 bytes, and their headers.
OVERHEAD = 512  # bytes

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Envelope)
_VERSION_BYTE = bytes([VERSION])


def encode(envelope: Envelope) -> bytes:
    """Encode an envelope; raises EnvelopeError for a session that MessagePack cannot carry."""
    try:
        return _VERSION_BYTE + _encoder.encode(envelope)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise EnvelopeError(f"this cannot be sent to another process ({error})") from None


def decode(data: bytes, *, max_size: int) -> Envelope:
    """Decode an envelope; raises EnvelopeError if its size, form or version is wrong."""
    if len(data) > max_size:
        raise EnvelopeError(f"an envelope of {len(data)} bytes is longer than {max_size} bytes")
    if data[:1] != _VERSION_BYTE:
        version = f"version {data[0]}" if data else "no version"
        raise EnvelopeError(f"an envelope has {version}, and this process knows {VERSION}")
    try:
        envelope: Envelope = _decoder.decode(memoryview(data)[1:])
        if isinstance(envelope, (Messages, DirectMessages)):
            for item in envelope.items:
                if item.kind == BINARY:
                    continue
                if item.kind == PACKED:
                    unpack(item.payload)
                elif not item.payload.isascii():
                    item.payload.decode()
        elif isinstance(envelope, Command):
            if isinstance(envelope.action, (CloseClient, BindOnly, CloseUid)):
                check_close(envelope.action.code, envelope.action.reason)
        elif isinstance(envelope, Claims):
            for claim in envelope.claims:
                check_close(claim.code, claim.reason)
        return envelope
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise EnvelopeError(f"an envelope is malformed ({error})") from None


def encode_value(value: object) -> Raw:
    """Encode the value of a :class:`QueryReply`; raises EnvelopeError."""
    try:
        return Raw(_encoder.encode(value))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise EnvelopeError(f"this cannot be sent to another process ({error})") from None


def check_session(session: dict[str, Any]) -> None:
    """Raise EnvelopeError if a session cannot be encoded and decoded again."""
    try:
        msgspec.msgpack.decode(_encoder.encode(session), type=dict[str, Any])
    except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise EnvelopeError(
            "a session is a dictionary of text to what MessagePack can encode, and this is"
            f" another ({error})"
        ) from None


def unsendable(session: dict[str, Any]) -> str:
    """Name the key of a session that cannot be sent."""
    for key, value in session.items():
        if not isinstance(key, str):
            return f"the key {key!r:.100} is not a text"
        try:
            check_session({key: value})
        except EnvelopeError as error:
            if isinstance(error.__context__, UnicodeEncodeError):
                return f"{key!r:.100} has a lone surrogate, which UTF-8 cannot carry"
            return f"{key!r:.100} is of the type {type(value).__name__}, or holds such a thing"
    return ""


def decode_value(raw: Raw, kind: Any) -> Any:
    """Decode the value of a :class:`QueryReply`; raises EnvelopeError for another type."""
    try:
        return msgspec.msgpack.decode(raw, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise EnvelopeError(f"an answer is malformed ({error})") from None
