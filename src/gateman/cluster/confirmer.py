"""Confirms what a node has done: another node has executed it, all have, or the bus routes it."""

from collections.abc import Awaitable, Callable, Collection

from ..bus import Bus
from ..errors import ConfirmTimeout, processes
from .channels import Channel
from .confirmation import DONE, Confirmation, PendingCommand
from .envelope import Envelope, Query
from .names import NodeId
from .node_subscriptions import NodeSubscriptions
from .publisher import Publisher
from .query_client import QueryClient
from .registry import Topic


class Confirmer:
    """Makes the confirmations of one node; each waits at most as long as a query."""

    def __init__(
        self,
        bus: Bus | None,
        *,
        publisher: Publisher,
        subscriptions: NodeSubscriptions,
        query_client: QueryClient,
        blocked: Callable[[], Collection[NodeId]],
    ) -> None:
        self._bus = bus
        self._publisher = publisher
        self._subscriptions = subscriptions
        self._query_client = query_client
        self._blocked = blocked

    def publish(self, channel: Channel, envelope: Envelope, consequence: str) -> Confirmation[None]:
        """Publish; when awaited, wait until all nodes have answered a query that follows it."""
        if not self._publisher.is_open:
            return DONE
        sent: list[bool] = []
        self._publisher.put(channel, lambda: envelope, sent.append)
        return Confirmation(self._wait_until_everywhere, (sent, consequence))

    async def _wait_until_everywhere(self, sent: list[bool], consequence: str) -> None:
        missing = await self._unanswered()
        if not sent:
            # Without another process, nothing has waited for the end of the turn.
            self._publisher.flush()
        if sent != [True]:
            raise ConfirmTimeout(f"the bus was away, and others were not told: {consequence}")
        if missing:
            raise ConfirmTimeout(f"no answer from {processes(missing)}: {consequence}")

    async def _unanswered(self) -> Collection[NodeId]:
        _, missing = await self._query_client.ask_all(Query.COUNT_CLIENTS, "")
        return missing

    def subscription(
        self,
        topic: Topic,
        subscribing: list[Awaitable[None]],
        announced: Confirmation[None] | None = None,
    ) -> Confirmation[None]:
        """Wait until what any node sends to a topic arrives here, and a login is announced."""
        return Confirmation(self._wait_until_routed, (topic, subscribing, announced))

    async def _wait_until_routed(
        self, topic: Topic, subscribing: list[Awaitable[None]], announced: Confirmation[None] | None
    ) -> None:
        await self._subscriptions.confirm(topic, subscribing, self._query_client.timeout)
        if announced is not None:
            # A node that has answered a query behind the login has also handled the subscription.
            await announced
        elif self._bus is not None and self._bus.is_spread:
            # A query follows the subscription from server to server, so its answer confirms both.
            missing = set(await self._unanswered()) - set(self._blocked())
            if missing:
                raise ConfirmTimeout(
                    f"no answer from {processes(missing)}: what is sent there to the"
                    f" {topic.kind} {topic.name!r} may not arrive here yet"
                )

    def command(self, node: NodeId, pending: PendingCommand) -> Confirmation[None]:
        """Wait until another node has executed a command."""
        return Confirmation(self._query_client.confirm, (node, pending))
