"""
What processes say to one another, as bytes. Pure.

Wire format:
    byte 0: the version · MessagePack of an array: a tag that tells the kind, then the fields
    of one of the classes here, in their order.

What arrives is checked in full before anybody acts on it: kind, number and type of the fields,
lengths, UTF-8. A version that we do not know is refused: fields mean something only together
with it. Nothing is ever unpickled.
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

VERSION = 2

_Name = Meta(min_length=1, max_length=MAX_NAME_SIZE)
_Node = Annotated[NodeId, Meta(min_length=1, max_length=MAX_NODE_LENGTH)]
_Client = Annotated[ClientId, Meta(min_length=3, max_length=MAX_CLIENT_LENGTH)]
_Group = Annotated[Group, _Name]
_Uid = Annotated[Uid, _Name]
_Count = Annotated[int, Meta(ge=0)]
# Microseconds, ahead of the clock by one for each login at most.
_Stamp = Annotated[int, Meta(ge=0, lt=1 << 62)]


class Target(StrEnum):
    """Whom messages are for."""

    ALL = "a"
    """Everybody; without names."""
    CLIENTS = "c"
    """The clients with these ids."""
    UIDS = "u"
    """The clients of these users."""
    GROUPS = "g"
    """The clients in these groups."""
    EVENTS = "e"
    """The code that handles events of this topic; a payload is MessagePack."""


class Item(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """
    One message.

    Attributes:
        is_text: Whether it is text, or bytes.
        payload: It; of a text, its UTF-8.
        exclude: Who does not get it.
    """

    is_text: bool
    payload: bytes
    exclude: tuple[_Client, ...] = ()


class Messages(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="m"):
    """
    Messages of one sender to the same clients, in order.

    Attributes:
        source: Who sends.
        number: How many messages the sender had sent on this subject before these.
        scope: Whom they are for.
        names: Which of those.
        items: The messages.
    """

    source: _Node
    number: _Count
    target: Target
    names: tuple[Annotated[str, _Name], ...]
    items: list[Item]


class DirectMessage(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """
    A message for one client.

    Attributes:
        client: Whom it is for.
        is_text: Whether it is text, or bytes.
        payload: It; of a text, its UTF-8.
    """

    client: _Client
    is_text: bool
    payload: bytes


class DirectMessages(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="n"):
    """
    Messages of one sender to single clients of one process, in order.

    Attributes:
        source: Who sends.
        number: How many messages the sender had sent on this subject before these.
        items: The messages.
    """

    source: _Node
    number: _Count
    items: list[DirectMessage]


class SequenceMark(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="k"):
    """
    How far a sender has come on a subject; tells receivers what they have missed at its end.

    Attributes:
        source: Who sends.
        number: How many messages it has sent on this subject.
        scope: What the subject is of.
        names: Its name; none for everybody's.
    """

    source: _Node
    number: _Count
    target: Target
    names: tuple[Annotated[str, _Name], ...]


class Join(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="j"):
    """Put a client into a group."""

    client: _Client
    group: _Group


class Leave(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="l"):
    """Take a client out of a group."""

    client: _Client
    group: _Group


class Bind(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="b"):
    """Say who a client is."""

    client: _Client
    uid: _Uid


class BindOnly(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="o"):
    """Say who a client is, and close all other clients of that user."""

    client: _Client
    uid: _Uid
    code: int
    reason: str


class Unbind(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="u"):
    """Say that nobody knows who a client is."""

    client: _Client


class CloseClient(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="x"):
    """Close a client's connection."""

    client: _Client
    code: int
    reason: str


class SetSession(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="s"):
    """Replace a client's session."""

    client: _Client
    session: dict[str, Any]


class UpdateSession(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="t"):
    """Change some of a client's session."""

    client: _Client
    changes: dict[str, Any]


class Dissolve(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="d"):
    """Take everybody out of a group."""

    group: _Group


class CloseUid(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="z"):
    """Close the connections of a user, but for those that are excluded."""

    uid: _Uid
    code: int
    reason: str
    exclude: tuple[_Client, ...]


ClientAction = Join | Leave | Bind | BindOnly | Unbind | CloseClient | SetSession | UpdateSession
# Of all processes that have clients of theirs.
WideAction = Dissolve | CloseUid
HubAction = ClientAction | WideAction


class Command(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="c"):
    """
    Something to be done.

    Attributes:
        source: Who wants it.
        call: What the answer is to say; 0 for no answer.
        action: What.
    """

    source: _Node
    call: _Count
    action: HubAction


class Claim(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """
    A client that is to be the only one of its user; see :mod:`.logins`.

    Attributes:
        client: Which.
        uid: The user.
        stamp: The highest of a user's is the newest login.
        code: The close code for the others.
        reason: The close reason for the others.
    """

    client: _Client
    uid: _Uid
    stamp: _Stamp
    code: int
    reason: str


class Claims(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="w"):
    """
    Exclusive logins at one process.

    Attributes:
        source: Which.
        claims: They.
        number: How many logins it has said, with this one; 0 if it says some again.
    """

    source: _Node
    claims: list[Claim]
    number: _Count = 0


class Query(StrEnum):
    """What is asked; the name that goes with it, and the answer."""

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
    UIDS = "uids"
    """Nothing → uids."""
    GROUPS = "groups"
    """Nothing → groups."""


class Audience(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """
    Whom a message was for.

    Attributes:
        scope: Of what kind.
        names: Which of those.
        exclude: Who did not get it.
    """

    target: Target
    names: tuple[Annotated[str, _Name], ...]
    exclude: tuple[_Client, ...]


class QueryRequest(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="q"):
    """
    Something to be told.

    Attributes:
        source: Who asks.
        call: What the answer is to say.
        what: What is asked.
        name: About whom; empty where it is about everybody.
        audience: Who is to be counted, for that question.
    """

    source: _Node
    call: _Count
    query: Query
    name: Annotated[str, Meta(max_length=MAX_NAME_SIZE)]
    audience: Audience | None = None


class Problem(StrEnum):
    """Why something cannot be done or told."""

    NONE = ""
    """It was."""
    UNKNOWN_CLIENT = "unknown_client"
    """The client is not here."""
    NOT_SENDABLE = "not_sendable"
    """The answer holds what cannot be put into an envelope."""


class QueryReply(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="a"):
    """
    What is answered to a command or a question, or a part of it.

    Attributes:
        source: Who answers.
        call: What the question said.
        part: Which part it is, from 0.
        is_last: Whether no part follows.
        problem: Why there is no answer.
        value: The answer; what it is, the question tells.
    """

    source: _Node
    call: _Count
    part: _Count
    is_last: bool
    problem: Problem
    value: Raw


class Hello(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="h"):
    """
    A sign of life.

    Attributes:
        source: Whose.
        has_clients: Whether clients may be connected to it: others only ask and send.
        is_new: Whether it wants a sign of life from everybody, because it knows nobody yet.
        was_away: Whether it wants to know what it has missed.
        nodes: Whom it knows.
        away: For how many seconds it may have heard nothing.
        clock: The highest stamp of a login that it knows.
        claims: How many logins it has said.
        service: What service it is of; see :mod:`.services`.
    """

    source: _Node
    has_clients: bool
    is_new: bool
    was_away: bool
    nodes: tuple[_Node, ...]
    away: Annotated[float, Meta(ge=0)] = 0.0
    clock: _Stamp = 0
    claims: _Count = 0
    service: tuple[Annotated[str, _Name], ...] = ()


class Bye(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="y"):
    """The last sign of life."""

    source: _Node


class ExtensionMessage(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="p"):
    """
    What is not the hub's: rows above say things to one another in the order of all else.

    Attributes:
        source: Who sends.
        data: Theirs to read.
    """

    source: _Node
    data: bytes


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
)

# Beside its messages, what an envelope takes at most that has one of them: source, number, a
# name of 255 bytes, and their headers.
OVERHEAD = 512  # bytes

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Envelope)
_VERSION_BYTE = bytes([VERSION])


def encode(envelope: Envelope) -> bytes:
    """
    Write an envelope.

    Raises:
        EnvelopeError: A session in it holds what MessagePack cannot carry.
    """
    try:
        return _VERSION_BYTE + _encoder.encode(envelope)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise EnvelopeError(f"this cannot be sent to another process ({error})") from None


def decode(data: bytes, *, max_size: int) -> Envelope:
    """
    Read an envelope.

    Raises:
        EnvelopeError: It is too long, of another version, or malformed.
    """
    if len(data) > max_size:
        raise EnvelopeError(f"an envelope of {len(data)} bytes is longer than {max_size} bytes")
    if data[:1] != _VERSION_BYTE:
        version = f"version {data[0]}" if data else "no version"
        raise EnvelopeError(f"an envelope has {version}, and this process knows {VERSION}")
    try:
        envelope: Envelope = _decoder.decode(memoryview(data)[1:])
        if isinstance(envelope, (Messages, DirectMessages)):
            for item in envelope.items:
                if item.is_text and not item.payload.isascii():
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
    """
    Write what an :class:`QueryReply` holds.

    Raises:
        EnvelopeError: It is nothing that MessagePack can carry.
    """
    try:
        return Raw(_encoder.encode(value))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise EnvelopeError(f"this cannot be sent to another process ({error})") from None


def check_session(session: dict[str, Any]) -> None:
    """
    Check that a session can be sent, and read again.

    Raises:
        EnvelopeError: It is not what MessagePack can carry, or has keys that are no text.
    """
    try:
        msgspec.msgpack.decode(encode_value(session), type=dict[str, Any])
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise EnvelopeError(f"this cannot be sent to another process ({error})") from None


def unsendable(session: dict[str, Any]) -> str:
    """Say what of a session cannot be sent, for whoever has put it there."""
    for key, value in session.items():
        if not isinstance(key, str):
            return f"the key {key!r:.100} is not a text"
        try:
            check_session({key: value})
        except EnvelopeError:
            return f"{key!r:.100} is of the type {type(value).__name__}, or holds such a thing"
    return ""


def decode_value(raw: Raw, kind: Any) -> Any:
    """
    Read what an :class:`QueryReply` holds.

    Raises:
        EnvelopeError: It is of another type.
    """
    try:
        return msgspec.msgpack.decode(raw, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise EnvelopeError(f"an answer is malformed ({error})") from None
