"""
Collects what a node publishes in a turn of the event loop, and publishes it in order.

Consecutive messages to the same clients share one envelope with one sequence number. Everything
that a node publishes passes through here, so a command never overtakes a message that was sent
before it.
"""

from collections import Counter, deque
from collections.abc import Callable, Collection
from itertools import islice

from ..bus.subjects import Subject
from ..errors import BusError, EnvelopeError, HubError
from .channels import Channel, SentSequences, node_channel, subject_of
from .envelope import (
    OVERHEAD,
    Command,
    DirectMessage,
    DirectMessages,
    Envelope,
    Item,
    Messages,
    SequenceMark,
    Target,
    encode,
)
from .names import ClientId, NodeId

# bytes; above this, publishing does not wait for the end of the turn. Precedent: the fan-out.
_MAX_PENDING_SIZE = 64 << 10

# What an item or a name of an envelope takes beside its bytes.
_ITEM_OVERHEAD = 16  # bytes

# What a direct message takes beside its payload: a client id of 64 characters, and headers.
_DIRECT_OVERHEAD = 80  # bytes

# For how many channels a mark is sent after a gap: a message each, all at once.
_MAX_MARKS = 1024

# Payloads whose message counts are remembered, because the bus reports losses in payloads. A bus
# keeps 8 MiB, and a payload is rarely smaller than 512 bytes unless it is a single message.
_MAX_REMEMBERED = 16384


class _Batch:
    """Messages to the same clients."""

    __slots__ = ("channel", "items", "names", "size", "target")

    def __init__(self, channel: Channel, target: Target, names: tuple[str, ...]) -> None:
        self.channel = channel
        self.target = target
        self.names = names
        self.items: list[Item] = []
        self.size = 0

    def envelope(self, node: NodeId, number: int) -> Messages:
        return Messages(node, number, self.target, self.names, self.items)


class _DirectBatch:
    """Messages to single clients of one node; ``room`` is in bytes."""

    __slots__ = ("channel", "items", "prefix", "room")

    def __init__(self, node: NodeId, room: int) -> None:
        self.channel = node_channel(node)
        self.prefix = f"{node}-"
        self.items: list[DirectMessage] = []
        self.room = room

    def envelope(self, node: NodeId, number: int) -> DirectMessages:
        return DirectMessages(node, number, self.items)


def _ignore(_: object) -> None:
    """Ignore whether an envelope was sent."""


_Pending = _Batch | _DirectBatch | tuple[Channel, Callable[[], Envelope], Callable[[bool], object]]


class Publisher:
    """Publishes on one bus, from :meth:`open` to :meth:`close`."""

    def __init__(
        self,
        node: NodeId,
        publish: Callable[[Subject, bytes], bool],
        *,
        max_payload_size: Callable[[], int],
        call_soon: Callable[[Callable[[], None]], object],
        counts: Counter[str],
    ) -> None:
        self.is_open = False
        self.unsent = 0
        self._node = node
        self._publish = publish
        self._max_payload_size = max_payload_size
        self._call_soon = call_soon
        self._counts = counts
        self._sent_sequences = SentSequences()
        self._pending: list[_Pending] = []
        self._pending_size = 0
        # The last of `_pending`, if it is such a batch.
        self._direct: _DirectBatch | None = None
        self._is_due = False
        self._taken: deque[int] = deque(maxlen=_MAX_REMEMBERED)

    def open(self) -> None:
        self.is_open = True

    def close(self) -> None:
        """Publish what is pending, and nothing more."""
        self.flush()
        self.is_open = False

    def check(self, payload: bytes, names: tuple[str, ...], exclude: Collection[str]) -> None:
        """Raise :class:`HubError` if a message is too big for the bus."""
        if not self.is_open:
            return
        limit = self._max_payload_size()
        if self._size(payload, exclude) + _size_of(names) > limit - OVERHEAD:
            raise HubError.too_big(len(payload), limit)

    def check_command(self, command: Command) -> None:
        """Raise if a command is too big for the bus, or cannot be encoded."""
        size, limit = len(encode(command)), self._max_payload_size()
        if size > limit:
            raise HubError.too_big(size, limit)

    def send(self, channel: Channel, target: Target, names: tuple[str, ...], item: Item) -> None:
        """Publish a message at the end of this turn."""
        size = self._size(item.payload, item.exclude)
        last = self._pending[-1] if self._pending else None
        if not (
            isinstance(last, _Batch)
            and last.channel == channel
            and last.target is target
            and last.names == names
            and last.size + size <= self._max_payload_size() - OVERHEAD
        ):
            last = _Batch(channel, target, names)
            last.size = _size_of(names)
            self._add(last)
        last.items.append(item)
        last.size += size
        self._pending_size += size
        if self._pending_size > _MAX_PENDING_SIZE:
            self.flush()

    def send_direct(self, node: NodeId, client: ClientId, kind: int, payload: bytes) -> None:
        """Publish a message for one client of a node at the end of this turn."""
        if not self.send_another(client, kind, payload):
            room = min(_MAX_PENDING_SIZE, self._max_payload_size() - OVERHEAD)
            batch = _DirectBatch(node, max(room, len(payload) + _DIRECT_OVERHEAD))
            self._add(batch)
            self._direct = batch
            self.send_another(client, kind, payload)

    def send_another(self, client: ClientId, kind: int, payload: bytes) -> bool:
        """Publish with the message before it, if that is for a client of the same node."""
        batch, size = self._direct, len(payload) + _DIRECT_OVERHEAD
        if batch is None or size > batch.room or not client.startswith(batch.prefix):
            return False
        batch.items.append(DirectMessage(client, kind, payload))
        batch.room -= size
        self._pending_size += size
        if self._pending_size > _MAX_PENDING_SIZE:
            self.flush()
        return True

    def put(
        self,
        channel: Channel,
        make: Callable[[], Envelope],
        on_sent: Callable[[bool], object] = _ignore,
    ) -> None:
        """Publish what a function makes at the end of this turn; report whether the bus took it."""
        if not self.is_open:
            make()
            on_sent(False)  # noqa: FBT003 - the bus's answer
            return
        self._add((channel, make, on_sent))
        if self._pending_size > _MAX_PENDING_SIZE:
            self.flush()

    def publish(self, channel: Channel, envelope: Envelope) -> None:
        """Publish an envelope at the end of this turn."""
        self.put(channel, lambda: envelope)

    def mark(self) -> None:
        """Publish the sequence numbers of the channels that were used last."""
        for channel, number in self._sent_sequences.latest(_MAX_MARKS):
            names = (channel.name,) if channel.target is not Target.ALL else ()
            self._put(channel, SequenceMark(self._node, number, channel.target, names))

    def flush(self) -> None:
        """Publish everything now."""
        self._is_due = False
        self._pending_size = 0
        self._direct = None
        pending, self._pending = self._pending, []
        for one in pending:
            if isinstance(one, (_Batch, _DirectBatch)):
                self._flush_batch(one)
            else:
                self._flush_other(*one)

    def uncertain(self, payload_count: int) -> int:
        """Count the messages in the last few payloads."""
        latest = list(islice(reversed(self._taken), payload_count))
        return sum(latest) + payload_count - len(latest)

    def _add(self, one: _Pending) -> None:
        self._direct = None
        self._pending.append(one)
        self._pending_size += _ITEM_OVERHEAD
        if not self._is_due:
            self._is_due = True
            self._call_soon(self.flush)

    def _flush_batch(self, batch: _Batch | _DirectBatch) -> None:
        channel, count = batch.channel, len(batch.items)
        if self._put(
            channel, batch.envelope(self._node, self._sent_sequences.number(channel)), count
        ):
            self._sent_sequences.add(channel, count)
            self._counts["published"] += count
        else:
            self.unsent += count
            self._counts["unsent"] += count

    def _flush_other(
        self, channel: Channel, make: Callable[[], Envelope], on_sent: Callable[[bool], object]
    ) -> None:
        envelope = make()
        was_taken = self._put(channel, envelope)
        if not was_taken and isinstance(envelope, Command):
            self._counts["unsent_commands"] += 1
        on_sent(was_taken)

    def _put(self, channel: Channel, envelope: Envelope, message_count: int = 0) -> bool:
        try:
            was_taken = self._publish(subject_of(channel), encode(envelope))
        except (BusError, EnvelopeError):
            # `check` has passed, but the bus may have reconnected with a lower limit since.
            self._counts["unsendable"] += 1
            return False
        if was_taken:
            self._taken.append(message_count)
        return was_taken

    def _size(self, payload: bytes, exclude: Collection[str]) -> int:
        return len(payload) + _ITEM_OVERHEAD + _size_of(exclude)


def _size_of(names: Collection[str] | Collection[ClientId]) -> int:
    # Nearly all messages exclude no client.
    if not names:
        return 0
    # UTF-8 needs at most four bytes for a character.
    return sum(4 * len(name) + _ITEM_OVERHEAD for name in names)
