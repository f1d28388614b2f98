"""
The interface of a bus, which carries bytes by subject between processes, and its guarantees.

Implementations (:mod:`.memory`, :mod:`.local`, :mod:`.nats`) keep every guarantee of :class:`Bus`;
one suite of tests (``tests/bus/contract.py``) runs on all of them.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from .subjects import Subject

if TYPE_CHECKING:
    from ..history.base import History

Receive = Callable[[bytes], None]
"""Handles one payload; must not block. Its exceptions are logged and counted."""

# bytes; the default of NATS, so that a payload that fits one bus fits all.
MAX_PAYLOAD_SIZE = 1024 * 1024

# bytes; one second at 8 MiB/s. NATS itself disconnects a client for which 64 MiB are pending.
MAX_PENDING_SIZE = 8 * 1024 * 1024


class Cause(StrEnum):
    """Why there is a gap."""

    DISCONNECTED = "disconnected"
    """There was no connection to the broker."""
    FULL = "full"
    """This process published more than could be sent; :meth:`Bus.publish` refused the rest."""
    SLOW = "slow"
    """This process read too slowly, and the broker dropped some of its messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """
    A period in which messages were lost, or may have been.

    Attributes:
        cause: The reason.
        since: The last instant before which nothing was lost, in seconds since 1970; a broken
            connection is noticed later than it breaks, so this may be a little before.
        until: When it was over, in seconds since 1970.
        unsent: How many messages :meth:`Bus.publish` refused in it.
        uncertain: How many messages that :meth:`Bus.publish` accepted may not have reached
            the broker: at most so many more are lost.
        missed: How many messages for this process were dropped; ``None`` if that is unknown.
    """

    cause: Cause
    since: float
    until: float
    unsent: int
    uncertain: int
    missed: int | None


class SubscriptionConfirmation(Awaitable[None], Protocol):
    """What :meth:`Bus.subscribe` returns; it may be awaited, or looked at."""

    is_done: bool


class Bus(Protocol):
    """
    Carries bytes between processes, by subject, to those that subscribed to it.

    It belongs to the event loop on which it was started; other threads must not call it.

    Guarantees:
        * At most once: no message arrives twice, and none is sent again after a reconnect.
        * In order: what one bus publishes arrives in that order, whatever the subjects.
        * Interest: a process gets the subjects that it subscribed to, and no others.
        * No echo: a bus does not get what it published itself.
        * Nothing is called from within a call: :data:`Receive` and :attr:`on_gap` come from the
          event loop, never from inside :meth:`publish`.
        * Bounded: at most ``max_pending_size`` bytes wait here to be sent, and about as many
          wait in the broker for each process. A slow process loses messages; others do not.
        * Away: when the broker is away, publishing fails at once. Nothing is kept for later,
          because processes that reconnect after this one would miss it without notice. The bus
          reconnects until it is stopped, with growing, jittered pauses, subscribes again to
          everything, and then reports the gap.
        * Every message that did not reach the broker is in a :class:`Gap`, as unsent or
          as uncertain. Messages that a broker lost when it died, and those published before all
          others had reconnected, are not reported: number the messages to detect them.

    Attributes:
        on_gap: Called after each gap; may be ``None``.
        counts: Counters by name: ``published``, ``received``, ``unsent``, ``uncertain``,
            ``missed`` (where it is known), ``gaps``, ``refused`` (by the broker, which says why in
            the log), ``receiver_failed``.
    """

    on_gap: Callable[[Gap], None] | None
    counts: Counter[str]

    @property
    def url(self) -> str:
        """The URL, without passwords and tokens."""

    @property
    def history(self) -> "History":
        """The store of history that all processes on this bus share."""

    @property
    def is_connected(self) -> bool:
        """Whether the broker is connected, and every gap by its absence has been reported."""

    @property
    def max_payload_size(self) -> int:
        """The largest payload, in bytes; for NATS it is known after :meth:`start`."""

    @property
    def is_spread(self) -> bool:
        """Whether the broker is a cluster of servers that exchange subscriptions."""

    async def start(self, *, patience: float | None = None) -> None:
        """Connect, and send the subscriptions that were made before, or raise a BusError."""
        # With `patience` it returns after so many seconds without a broker: the bus keeps trying,
        # and reports a gap once it is connected. Without, there is one attempt; after a failed one
        # nothing is left open, and it may be tried again. A stopped bus raises in any case.

    async def stop(self) -> None:
        """Send what is pending, within a second, and disconnect for ever."""
        # Nothing more is received, and pending awaits of `subscribe` fail.

    def publish(self, subject: Subject, payload: bytes) -> bool:
        """Send to all other subscribers without blocking; BusError if the payload is too big."""
        # False if the broker is away or too much is pending. Then it is counted as unsent, in
        # `counts` and in the next gap.

    def subscribe(self, subject: Subject, receive: Receive) -> SubscriptionConfirmation:
        """Receive what others publish to a subject; replaces its handler; never blocks."""
        # It may be called before `start` and while the broker is away. The awaitable, which may be
        # ignored, returns when every message that is published later is routed to this process. If
        # the broker is away, that is after it is back, so the caller sets a deadline. It fails with
        # a BusError if the bus is stopped first, or the broker refuses. Where the broker
        # `is_spread`, messages published at other servers arrive once the servers have exchanged
        # the subscription, usually milliseconds later: a process that answers a message published
        # after it is connected to a server that has it.

    def has_subscriber(self, subject: Subject) -> Awaitable[bool | None]:
        """Ask the broker whether another process subscribes to a subject; never blocks."""
        # The broker answers, not the subscriber: a blocked process still subscribes; a killed one
        # does not, once the broker has noticed that its connection has ended. The query is sent in
        # order with messages and subscriptions of this process.
        #
        # False may also mean that a process is about to reconnect, so ask again after a moment
        # before treating it as dead. None if it is unknown: the broker is away, or does not answer
        # within two seconds; it refuses the query; or it is a NATS server without headers (before
        # 2.2). NATS must permit this process to publish and subscribe to ``gateman.NAME.>``. In a
        # cluster of NATS servers, the answer is what the connected server knows of the others,
        # usually milliseconds old. NATS disconnects a process that answers nothing for minutes.

    def unsubscribe(self, subject: Subject) -> None:
        """Stop receiving a subject, also messages that have arrived already; idempotent."""
