"""Answers to queries, split into envelopes that the bus can carry, and read again. Pure."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from msgspec import Raw

from ..errors import EnvelopeError
from .envelope import OVERHEAD, NodeTotals, Problem, Query, QueryReply, decode_value, encode_value
from .names import ClientId, Group, NodeId, Uid
from .publication import ClientInfo

T = TypeVar("T")

_NOTHING = encode_value(None)

# The type of one node's answer to each query.
KINDS: dict[Query, Any] = {
    Query.UID_OF_CLIENT: Uid | None,
    Query.IS_ONLINE: bool,
    Query.SESSION: dict[str, Any],
    Query.IS_UID_ONLINE: bool,
    Query.CLIENTS_OF_UID: list[ClientId],
    Query.CLIENTS_OF_GROUP: list[ClientId],
    Query.UIDS_OF_GROUP: list[Uid],
    Query.SESSIONS_OF_GROUP: list[tuple[ClientId, dict[str, Any]]],
    Query.COUNT_GROUP: int,
    Query.COUNT_CLIENTS: int,
    Query.COUNT_AUDIENCE: int,
    Query.GROUP_SIZES: list[tuple[Group, int]],
    Query.TOTALS: list[NodeTotals],
    Query.UIDS: list[Uid],
    Query.GROUPS: list[Group],
    Query.PRESENCE: list[ClientInfo],
    Query.CHALLENGES: str | None,
}


def answers(node: NodeId, request_id: int, value: object, *, max_size: int) -> Iterator[QueryReply]:
    """Make the envelopes of an answer."""
    try:
        parts = list(_parts(value, max_size - OVERHEAD))
    except EnvelopeError:
        yield refusal(node, request_id, Problem.NOT_SENDABLE)
        return
    for number, part in enumerate(parts):
        is_last = number == len(parts) - 1
        yield QueryReply(node, request_id, number, is_last, Problem.NONE, part)


def refusal(node: NodeId, request_id: int, problem: Problem) -> QueryReply:
    """Make the envelope of an answer without a value."""
    return QueryReply(node, request_id, part=0, is_last=True, problem=problem, value=_NOTHING)


def _parts(value: object, max_size: int) -> Iterator[Raw]:
    raw = encode_value(value)
    if len(bytes(raw)) <= max_size:
        yield raw
    elif isinstance(value, list) and len(value) > 1:
        middle = len(value) // 2
        yield from _parts(value[:middle], max_size)
        yield from _parts(value[middle:], max_size)
    else:
        raise EnvelopeError("one thing alone is more than the bus can carry")


def read(query: Query, values: Iterable[Raw]) -> Iterator[Any]:
    """Decode the parts of an answer; raises EnvelopeError."""
    for value in values:
        yield decode_value(value, KINDS[query])
