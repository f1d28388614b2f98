"""
What a broker and a process say to each other, independent of the format. Pure.

A :class:`Wire` writes and reads the bytes of one connection; :mod:`.router_wire` is that of our own
router, :mod:`.nats_wire` that of NATS.
"""

from enum import Enum
from typing import Any, Protocol

from msgspec import Struct

from .subjects import Subject

BrokerMessage = tuple[str, bytes]
"""A subject, and what was published to it."""


class Control(Enum):
    """Events without data."""

    PING = "ping"
    """Answer with a pong."""
    PONG = "pong"
    """Everything that we wrote before our ping has been handled."""


class BrokerHello(Struct, frozen=True):
    """What the broker says about itself."""

    info: dict[str, Any]


class BrokerRefusal(Struct, frozen=True):
    """The broker refused a command, and may close; its text contains no secrets."""

    text: str
    is_of_subscribing: bool = False


class Dropped(Struct, frozen=True):
    """The broker dropped messages for us, the first of them at ``since`` (seconds since 1970)."""

    count: int
    since: float


class NoSubscribers(Struct, frozen=True):
    """The answer to a query: no other process subscribes."""

    number: int


class BrokerReply(Struct, frozen=True):
    """The answer to a request about history, or a part of one."""

    number: int
    payload: bytes


class Broken(Struct, frozen=True):
    """The broker broke the protocol; nothing after this is read."""

    text: str


BrokerEvent = (
    BrokerMessage
    | BrokerReply
    | Control
    | BrokerHello
    | BrokerRefusal
    | Dropped
    | NoSubscribers
    | Broken
)


class Wire(Protocol):
    """The bytes of one connection to a broker."""

    ping: bytes
    pong: bytes
    # A query that neither NoSubscribers nor BrokerRefusal answers before the pong means that
    # another process subscribes.
    can_confirm: bool

    def publish(self, subject: Subject, payload: bytes) -> bytes:
        """Write a message."""

    def subscribe(self, subject: Subject) -> bytes:
        """Write a subscription; each subject once."""

    def unsubscribe(self, subject: Subject) -> bytes:
        """Write that we want a subject no more."""

    def ask(self, subject: Subject, number: int) -> bytes:
        """Write a query, with a number above 0: does another process subscribe?"""

    def feed(self, data: bytes) -> list[BrokerEvent]:
        """Read bytes, cut anywhere."""
