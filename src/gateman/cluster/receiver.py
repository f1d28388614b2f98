"""
Delivers the messages of other nodes, and counts those that were lost.

The counterpart of :mod:`.publisher`.
"""

from collections import Counter
from collections.abc import Callable

from .channels import ReceivedSequences, channel_of, node_channel
from .envelope import DirectMessages, Messages, SequenceMark, Target
from .events import Events
from .local_clients import LocalClients
from .names import NodeId


class Receiver:
    """Delivers to the clients and the event handlers of this process."""

    def __init__(
        self,
        node: NodeId,
        local_clients: LocalClients,
        events: Events,
        *,
        counts: Counter[str],
        warn: Callable[[str, str], None],
    ) -> None:
        self.sequences = ReceivedSequences()
        self._node = node
        self._local_clients = local_clients
        self._events = events
        self._counts = counts
        self._warn = warn

    def deliver(self, messages: Messages | DirectMessages | SequenceMark) -> None:
        """Deliver messages; a mark has none, and shows whether all before it have arrived."""
        if isinstance(messages, SequenceMark):
            channel = channel_of(messages.target, messages.names, self._node)
            self._count_lost(messages.source, self.sequences.mark(channel, messages))
            return
        self._counts["received"] += len(messages.items)
        if isinstance(messages, DirectMessages):
            channel = node_channel(self._node)
            self._count_lost(messages.source, self.sequences.messages(channel, messages))
            self._count_unknown(self._local_clients.deliver(messages.items))
            return
        target, names = messages.target, messages.names
        channel = channel_of(target, names, self._node)
        self._count_lost(messages.source, self.sequences.messages(channel, messages))
        if target is Target.EVENTS:
            payloads = [item.payload for item in messages.items]
            for topic in names:
                self._events.deliver(topic, payloads)
            return
        if target is Target.CLIENTS:
            missing = self._local_clients.count_missing(names)
            self._count_unknown(missing * len(messages.items))
        self._local_clients.send(
            target,
            names,
            [(item.kind, item.payload, item.exclude) for item in messages.items],
        )

    def _count_lost(self, source: NodeId, count: int) -> None:
        if count:
            self._counts["lost"] += count
            self._warn("lost", f"{count} messages of the process {source} did not arrive")

    def _count_unknown(self, count: int) -> None:
        # A counter appears when it is first above zero.
        if count:
            self._counts["unknown_client"] += count
