"""
Sends messages of this process: to its own clients at once, to those of other nodes over the bus.

Local clients are served even while the bus is away. A message that is too big for the bus is sent
to none.
"""

from collections import Counter
from collections.abc import Callable

from ..errors import PartialResult
from .channels import channel_of, node_channel
from .envelope import Audience, Item, Query, Target
from .events import Events
from .local_clients import LocalClients
from .names import ClientId, NodeId, node_of
from .node_channels import Appended, NodeChannels, position_of
from .publisher import Publisher
from .query_client import QueryClient

# The recipients that are channels, for SDK clients.
_WITH_HISTORY = frozenset({Target.GROUPS, Target.UIDS})


class Sender:
    """Sends to clients and event handlers of all nodes, and counts the recipients."""

    def __init__(
        self,
        node: NodeId,
        *,
        publisher: Publisher,
        local_clients: LocalClients,
        channels: NodeChannels,
        events: Events,
        query_client: QueryClient,
        is_unknown: Callable[[NodeId], bool],
        counts: Counter[str],
    ) -> None:
        self._node = node
        self._publisher = publisher
        self._local_clients = local_clients
        self._channels = channels
        self._events = events
        self._query_client = query_client
        self._is_unknown = is_unknown
        self._counts = counts

    def send(  # noqa: PLR0917 - each of them belongs to a message
        self,
        target: Target,
        names: tuple[str, ...],
        kind: int,
        payload: bytes,
        exclude: tuple[ClientId, ...] = (),
        key: str = "",
        *,
        skips_history: bool = False,
    ) -> Appended:
        """Send; return what confirms that channels with history have the message."""
        appended: Appended = ()
        channels = self._channels
        if channels.history is not None and target in _WITH_HISTORY and not skips_history:
            names, appended = channels.send(target, names, kind, payload, exclude, key)
            if not names:
                return appended
        publisher = self._publisher
        if publisher.is_open:
            publisher.check(payload, names, exclude)
        if target is Target.EVENTS:
            self._events.deliver(names[0], [payload])
        else:
            self._local_clients.send(target, names, ((kind, payload, exclude),))
        if publisher.is_open:
            item = Item(kind, payload, exclude)
            publisher.send(channel_of(target, names, self._node), target, names, item)
        return appended

    def send_to_client(self, client: ClientId, kind: int, payload: bytes) -> None:
        publisher = self._publisher
        if not publisher.is_open or not publisher.send_another(client, kind, payload):
            self.send_to_clients((client,), kind, payload)

    def send_to_clients(self, clients: tuple[ClientId, ...], kind: int, payload: bytes) -> None:
        by_node: dict[NodeId, list[ClientId]] = {}
        for client in clients:
            by_node.setdefault(node_of(client), []).append(client)
        local = tuple(by_node.pop(self._node, ()))
        publisher = self._publisher
        if publisher.is_open:
            for remote in by_node.values():
                publisher.check(payload, tuple(remote), ())
        if local:
            self._count_unknown(self._local_clients.count_missing(local))
            self._local_clients.send(Target.CLIENTS, local, ((kind, payload, ()),))
        for node, remote in by_node.items():
            if not publisher.is_open or self._is_unknown(node):
                self._count_unknown(len(remote))
            elif len(remote) == 1:
                publisher.send_direct(node, remote[0], kind, payload)
            else:
                item = Item(kind, payload)
                publisher.send(node_channel(node), Target.CLIENTS, tuple(remote), item)

    async def count(
        self,
        target: Target,
        names: tuple[str, ...],
        exclude: tuple[ClientId, ...],
        kind: int,
        appended: Appended = (),
    ) -> int:
        """Count the recipients of a message, with a query that follows it on the bus."""
        await position_of(appended)
        values, missing = await self._query_client.ask_all(
            Query.COUNT_AUDIENCE, "", audience=Audience(target, names, exclude, kind)
        )
        if missing:
            raise PartialResult(sum(values), missing)
        return sum(values)

    def _count_unknown(self, number: int) -> None:
        # A counter appears when it is first above zero.
        if number:
            self._counts["unknown_client"] += number
