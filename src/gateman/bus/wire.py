"""
What a broker and we say to each other, however it is written. Pure.

A :class:`Wire` writes and reads the bytes of one connection; :mod:`.router_wire` is that of our own
router, :mod:`.nats_wire` that of NATS.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from .subjects import Subject

BrokerMessage = tuple[str, bytes]
"""A subject, and what was published to it."""


class Control(Enum):
    """What is said without more words."""

    PING = "ping"
    """Answer with a pong."""
    PONG = "pong"
    """Everything that we wrote before our ping has been handled."""


@dataclass(frozen=True, slots=True)
class BrokerHello:
    """
    What the broker says of itself.

    Attributes:
        about: By name, as it says it.
    """

    about: dict[str, Any]


@dataclass(frozen=True, slots=True)
class BrokerRefusal:
    """
    The broker does not do what we asked for, and perhaps ends the connection.

    Attributes:
        text: Why; it may hold subjects, but no secrets.
        is_of_subscribing: Whether it was a subscription of the bus that is not done.
    """

    text: str
    is_of_subscribing: bool = False


@dataclass(frozen=True, slots=True)
class Dropped:
    """
    The broker had messages for us that we did not take in time.

    Attributes:
        count: How many it dropped.
        since: When the first was, in seconds since 1970.
    """

    count: int
    since: float


@dataclass(frozen=True, slots=True)
class NoSubscribers:
    """
    Nobody else subscribes to what we asked about.

    Attributes:
        number: The question's.
    """

    number: int


@dataclass(frozen=True, slots=True)
class Broken:
    """
    What came is nothing that a broker says; nothing after it is read.

    Attributes:
        text: What is wrong.
    """

    text: str


BrokerEvent = (
    BrokerMessage | Control | BrokerHello | BrokerRefusal | Dropped | NoSubscribers | Broken
)


class Wire(Protocol):
    """
    The bytes of one connection to a broker.

    Attributes:
        ping: Wants a pong.
        pong: The answer to a ping.
        can_tell: Whether a question that was answered neither by :class:`NoSubscribers` nor by
            :class:`BrokerRefusal` before the pong means that somebody subscribes.
    """

    ping: bytes
    pong: bytes
    can_tell: bool

    def publish(self, subject: Subject, payload: bytes) -> bytes:
        """Write a message."""

    def subscribe(self, subject: Subject) -> bytes:
        """Write that we want a subject, once for each."""

    def unsubscribe(self, subject: Subject) -> bytes:
        """Write that we want a subject no more."""

    def ask(self, subject: Subject, number: int) -> bytes:
        """Write a question, with a number above 0: does anybody else want a subject?"""

    def feed(self, data: bytes) -> list[BrokerEvent]:
        """Read what has come, cut anywhere."""
