"""
What a bus is: bytes by subject, between processes, and what it promises about them.

Nothing here moves bytes. Implementations (:mod:`.memory`, :mod:`.local`, :mod:`.nats`) keep every
promise of :class:`Bus`; one suite of tests (``tests/bus/contract.py``) runs on all of them.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from .subjects import Subject

Receive = Callable[[bytes], None]
"""Takes one payload; must not block. What it raises is logged, counted, and ends there."""

# bytes; what NATS allows if its operator changed nothing, so that what fits one bus fits all.
MAX_PAYLOAD_SIZE = 1024 * 1024

# bytes; a second's worth at 8 MiB/s. NATS itself cuts off a client behind which 64 MiB wait.
MAX_PENDING_SIZE = 8 * 1024 * 1024


class Cause(StrEnum):
    """Why there is a gap."""

    DISCONNECTED = "disconnected"
    """The broker was away, or we were."""
    FULL = "full"
    """We published more than could be sent, and :meth:`Bus.publish` refused the rest."""
    SLOW = "slow"
    """This process did not take its messages fast enough, and the broker dropped some."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """
    Between two instants messages were lost, or may have been; what is known of it.

    Attributes:
        cause: Why.
        since: The last instant before which nothing was lost, in seconds since 1970; a broken
            connection is noticed later than it breaks, so this may be a little before.
        until: When it was over, in seconds since 1970.
        unsent: How many messages of ours :meth:`Bus.publish` refused in it.
        uncertain: How many messages that :meth:`Bus.publish` accepted have perhaps not reached
            the broker: at most so many more are lost.
        missed: How many messages for us were dropped; ``None`` if nobody knows.
    """

    cause: Cause
    since: float
    until: float
    unsent: int
    uncertain: int
    missed: int | None


class Bus(Protocol):
    """
    Moves bytes between processes, by subject, to those that subscribed to it.

    It belongs to the event loop on which it was started; nothing of it may be called from other
    threads.

    Guarantees:
        * At most once: nothing comes twice, and nothing is sent again after a reconnect.
        * In order: what one bus publishes arrives in that order, whatever the subjects.
        * Interest: a process gets the subjects that it subscribed to, and no others.
        * No echo: a bus does not get what it published itself.
        * Nothing is called from within a call: :data:`Receive` and :attr:`on_gap` come from the
          event loop, never from inside :meth:`publish`.
        * Bounded: at most ``max_pending_size`` bytes wait here to be sent, and about as many
          wait in the broker for each process. Whoever is slow loses messages, nobody else does.
        * Away: when the broker is away, publishing fails at once. Nothing is kept for later,
          because those who come back after us would not get it, and nobody would know. The bus
          reconnects until it is stopped, with growing, jittered pauses, subscribes again to
          everything, and then reports the gap.
        * Every message of ours that has not reached the broker is in a :class:`Gap`, as unsent or
          as uncertain. What a broker had and took with it, and what was published before all
          others were back, nobody knows: whoever has to know numbers the messages.

    Attributes:
        on_gap: Called after each gap; ``None`` if nobody wants to know.
        counts: How often each happened: ``published``, ``received``, ``unsent``, ``uncertain``,
            ``missed`` (where it is known), ``gaps``, ``refused`` (by the broker, which says why in
            the log), ``receiver_failed``.
    """

    on_gap: Callable[[Gap], None] | None
    counts: Counter[str]

    @property
    def url(self) -> str:
        """Which bus, without passwords and tokens."""

    @property
    def is_connected(self) -> bool:
        """Whether the broker is there; then :meth:`publish` may succeed."""

    @property
    def max_payload_size(self) -> int:
        """The largest payload, in bytes; of a NATS server it is known after :meth:`start`."""

    @property
    def is_spread(self) -> bool:
        """Whether the broker is several servers, who tell each other who subscribes to what."""

    async def start(self, *, patience: float | None = None) -> None:
        """
        Connect, and begin to subscribe to what was asked for before.

        Args:
            patience: After so many seconds it returns without a broker, which is then away: the
                bus goes on trying, and reports a gap when it is there. ``None`` for one attempt.

        Raises:
            BusError: Without ``patience``: the broker is not there, or refuses us. Then nothing
                is left open, and it may be tried again. Always: the bus is stopped.
        """

    async def stop(self) -> None:
        """
        Send what waits, within a second, and disconnect; no error if it is stopped already.

        Nothing is received any more, and everything that waits for :meth:`subscribe` fails.
        A stopped bus stays stopped.
        """

    def publish(self, subject: Subject, payload: bytes) -> bool:
        """
        Send to all others that subscribed; never blocks.

        Args:
            subject: Made by :func:`~.subjects.subject`.
            payload: At most :attr:`max_payload_size` bytes.

        Returns:
            Whether it is on its way; ``False`` if the broker is away or too much waits already.
            Then it is counted as unsent, here and in the next gap.

        Raises:
            BusError: The payload is too big; nothing was sent.
        """

    def subscribe(self, subject: Subject, receive: Receive) -> Awaitable[None]:
        """
        Receive what others publish to a subject from now on; never blocks.

        It may be called before :meth:`start` and while the broker is away. A subject has one
        receiver: a second call replaces the first one's.

        Args:
            subject: Made by :func:`~.subjects.subject`.
            receive: Called for every message.

        Returns:
            Something that may be awaited, or left alone: it ends when every message that
            somebody publishes later is routed to us. If the broker is away, that is when it is
            back; the one who awaits sets a deadline. It fails with a
            :class:`~gateman.errors.BusError` if the bus is stopped first, or the broker refuses.
            Where the broker :attr:`is_spread`, those who publish at another server than ours are
            heard when the servers have told each other, usually milliseconds later: whoever
            answers what we publish behind it, has been told.
        """

    def has_subscriber(self, subject: Subject) -> Awaitable[bool | None]:
        """
        Ask the broker whether another process subscribes to a subject; never blocks.

        The broker answers, not the subscriber, which notices nothing: one that is blocked still
        subscribes; one that was killed does not, as soon as the broker has noticed that its
        connection has ended. It is asked in order with what is published and subscribed to here.

        Args:
            subject: Made by :func:`~.subjects.subject`. Of NATS we need the right to publish to
                it, and to publish and subscribe to ``gateman.NAME.>``.

        Returns:
            Something that may be awaited, or left alone: whether at least one other process
            subscribes to it now; our own subscription does not count. ``None`` if nobody can
            tell: the broker is away, or went meanwhile, or does not answer within two seconds;
            it refuses what we asked; or it is a NATS server without headers (before 2.2).
            ``False`` may also mean that a process is about to reconnect, so whoever buries
            somebody for it asks again after a moment. In a cluster of NATS servers,
            it is what our server knows of the others, usually milliseconds old. A process
            that answers nothing for minutes is cut off by NATS, and does not subscribe then.
        """

    def unsubscribe(self, subject: Subject) -> None:
        """
        Receive nothing of a subject any more; nothing happens if it has no receiver.

        Its receiver is not called again, also for what has arrived already.
        """
