"""Names of clients, users, groups, topics and nodes. Pure."""

import re
from collections.abc import Callable, Iterable
from typing import NewType, TypeVar

from ..errors import ConfigError

ClientId = NewType("ClientId", str)
"""One connection's name, unique in the cluster and never used again: ``NODE-NUMBER``."""
Uid = NewType("Uid", str)
"""The application's name for one of its users."""
Group = NewType("Group", str)
"""The name of a set of connections."""
Topic = NewType("Topic", str)
"""What events are about."""
NodeId = NewType("NodeId", str)
"""One process's name, new at each of its starts."""

Names = str | Iterable[str]
"""One name, or several."""

# The personal channel of a user is this and the uid; no group begins with it.
PERSONAL = "#"

N = TypeVar("N", bound=str)

# Precedent: file names. Long enough for any key of a database, short enough to log.
MAX_NAME_SIZE = 255  # bytes of UTF-8

# Characters. Ours have 12, and the number of a connection has some digits.
MAX_NODE_LENGTH = 32
MAX_CLIENT_LENGTH = 64

_matches_client = re.compile(r"[A-Za-z0-9]{1,32}-[0-9]{1,31}", re.ASCII).fullmatch


def check_uid(name: object) -> Uid:
    return Uid(_check("uid", name))


def check_group(name: object) -> Group:
    # The common case first, without a further call: most messages are checked here.
    if (
        name.__class__ is str
        and name.isascii()
        and 0 < len(name) <= MAX_NAME_SIZE
        and name[0] != PERSONAL
    ):
        return name  # type: ignore[return-value]
    group = check_channel(name)
    if group[0] == PERSONAL:
        raise ConfigError(
            f"{_shortened(group)} is a user's personal channel and not a group",
            f"use the uid {_shortened(group[1:])} with bind() or send_to_uid(), or give the group a"
            f" name without {PERSONAL}",
        )
    return group


def check_channel(name: object) -> Group:
    """Check the name of a group, or of a user's personal channel."""
    return Group(_check("group", name))


def check_topic(name: object) -> Topic:
    return Topic(_check("topic", name))


def check_client_id(name: object) -> ClientId:
    """Check the form of a client id; whether such a client exists is not checked."""
    if isinstance(name, str) and _matches_client(name):
        return ClientId(name)
    raise ConfigError(
        f"{_shortened(name)} is not a client id", "take it from connection.client_id, as it is"
    )


def client_id(node: NodeId, number: int) -> ClientId:
    return ClientId(f"{node}-{number}")


def node_of(client: ClientId) -> NodeId:
    """Get the node that a client is connected to, which is a part of its id."""
    return NodeId(client.partition("-")[0])


def check_several(check: Callable[[object], N], names: Names) -> tuple[N, ...]:
    """Check one name or several; a string is one name, and not an iterable of its letters."""
    if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
        return (check(names),)
    # A dictionary keeps each name once, in order.
    return tuple(dict.fromkeys(map(check, names)))


def check_client_ids(names: Names) -> tuple[ClientId, ...]:
    return check_several(check_client_id, names) if names else ()


def _check(kind: str, name: object) -> str:
    # The common case first: every message is checked here (bench/hub.py).
    if name.__class__ is str and name.isascii() and 0 < len(name) <= MAX_NAME_SIZE:
        return name
    if not isinstance(name, str):
        # Only of a number: str(None) would be one user for all who have none.
        is_number = isinstance(name, int) and not isinstance(name, bool)
        remedy = f"write str({_shortened(name)})" if is_number else "use a str"
        raise ConfigError(f"the {kind} {_shortened(name)} is not text", remedy)
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise ConfigError(
            f"the {kind} {_shortened(name)} has a lone surrogate", "use text that UTF-8 can carry"
        ) from None
    if not size:
        raise ConfigError(f"a {kind} cannot be empty", "give it a name of 1 to 255 bytes")
    if size > MAX_NAME_SIZE:
        raise ConfigError(
            f"the {kind} {_shortened(name)} has {size} bytes",
            f"use a name of at most {MAX_NAME_SIZE}, such as a hash of this one",
        )
    return name


def _shortened(name: object) -> str:
    text = repr(name)
    return text if len(text) <= 40 else f"{text[:37]}..."
