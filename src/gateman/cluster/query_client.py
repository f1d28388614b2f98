"""Queries about clients of all nodes: whom to ask, how long to wait, and reading the answers."""

import asyncio
from collections.abc import Callable, Collection
from typing import Any

from msgspec import Raw

from ..errors import ConfirmTimeout, EnvelopeError, PartialResult, UnknownClient
from .channels import EVERYBODY, Channel, channel_of, node_channel
from .confirmation import PendingCommand
from .envelope import Audience, Envelope, Problem, Query, QueryRequest, unsendable
from .local_clients import LocalClients
from .names import ClientId, NodeId, node_of
from .node_liveness import NodeLiveness
from .pending_requests import PendingRequest, PendingRequests
from .probes import Ask
from .query_replies import answers, read, refusal

# Named as missing when other nodes may exist, and are not known.
UNKNOWN_NODE = NodeId("?")

# GatewayWorker's for any request. An answer takes milliseconds; on an overloaded machine, processes
# may get no time for seconds.
DEFAULT_TIMEOUT = 5.0  # seconds

# Until the bus is asked about a node that has not answered.
_PATIENCE = 0.4  # seconds


class QueryClient:
    """The queries that a node sends and answers; ``timeout`` is in seconds."""

    def __init__(
        self,
        node: NodeId,
        local_clients: LocalClients,
        liveness: NodeLiveness,
        *,
        is_unconfirmed: Callable[[Channel], bool],
        publish: Callable[[Channel, Envelope], None],
        is_connected: Callable[[], bool],
        ask_bus: Ask,
        reject: Callable[[EnvelopeError], None],
        warn: Callable[[str, str], None],
    ) -> None:
        self.pending_requests = PendingRequests()
        self.timeout = DEFAULT_TIMEOUT
        self._node = node
        self._local_clients = local_clients
        self._liveness = liveness
        self._is_unconfirmed = is_unconfirmed
        self._publish = publish
        self._is_connected = is_connected
        self._ask_bus = ask_bus
        self._reject = reject
        self._warn = warn

    async def ask_node(self, query: Query, client: ClientId) -> Any:
        """Ask the node that a client is connected to."""
        node = node_of(client)
        if node == self._node:
            return self._local_clients.answer(query, client)
        deadline = self._deadline()
        peers, discovery = self._liveness.peers, self._liveness.discovery
        if node not in peers:
            await discovery.wait(deadline)
        if not self._is_connected() or (node not in peers and not discovery.is_informed):
            raise PartialResult(None, [node])
        if node not in peers:
            raise UnknownClient(client)
        pending = self.pending_requests.begin([node])
        self._publish(node_channel(node), QueryRequest(self._node, pending.number, query, client))
        await self._wait(pending, deadline)
        if pending.problems.get(node) is Problem.UNKNOWN_CLIENT:
            raise UnknownClient(client)
        if pending.problems.get(node) is Problem.NOT_SENDABLE:
            raise EnvelopeError(
                f"the session of {client} cannot be sent to another process; the log of {node}"
                " says why"
            )
        if not (pending.values or pending.problems or pending.missing):
            # The node has sent its goodbye meanwhile.
            raise UnknownClient(client)
        values = self._read(query, pending)
        if not values:
            raise PartialResult(None, [node])
        return values[0]

    async def confirm(self, node: NodeId, command: PendingCommand) -> None:
        """Wait until another node confirms that it has executed a command."""
        client = command.action.client
        if not self._is_connected():
            raise ConfirmTimeout(
                f"the bus is away, and with it {node}, where {client} is connected"
            )
        pending = self.pending_requests.begin([node])
        command.request_id = pending.number
        if command.is_made:
            # It was published without a request id; to execute it twice changes nothing.
            self._publish(node_channel(node), command.make())
        await self._wait(pending, self._deadline())
        if node in pending.missing:
            raise ConfirmTimeout(f"no answer from {node}, where {client} is connected")
        if node not in pending.values:
            # The node does not know the client, or has sent its goodbye.
            raise UnknownClient(client)

    async def ask_all(
        self,
        query: Query,
        name: str,
        is_enough: Callable[[Raw], bool] | None = None,
        audience: Audience | None = None,
        *,
        needs_all: bool = True,
    ) -> tuple[list[Any], Collection[NodeId]]:
        """Ask every node, or those that the bus connects; return who else did not answer."""
        values = [self._local_clients.answer(query, name, audience)]
        deadline = self._deadline()
        peers, discovery = self._liveness.peers, self._liveness.discovery
        pending = self.pending_requests.begin((UNKNOWN_NODE,), is_enough)
        request = QueryRequest(self._node, pending.number, query, name, audience)
        try:
            is_early = not discovery.is_over and self._is_connected()
            if is_early:
                # At once, behind the message whose recipients it counts: clients that connect
                # while this process learns of the others do not get that message.
                self._publish(EVERYBODY, request)
            await discovery.wait(deadline)
            unknown = () if discovery.is_informed else (UNKNOWN_NODE,)
            if not self._is_connected():
                return values, peers.names() or (UNKNOWN_NODE,)
            pending.expect(peers.names())
            if pending.missing:
                # Nodes that started after an early query have not got it.
                for channel in map(node_channel, pending.missing) if is_early else [EVERYBODY]:
                    self._publish(channel, request)
                if not needs_all:
                    await self._forget_disconnected(pending, deadline)
                await pending.wait(deadline)
        finally:
            self.pending_requests.end(pending)
        values += self._read(query, pending)
        # Blocked ones have clients, and are not waited for.
        blocked = peers.blocked() if needs_all else ()
        return values, (*pending.missing, *pending.problems, *blocked, *unknown)

    async def _wait(self, pending: PendingRequest, deadline: float) -> None:
        try:
            await pending.wait(deadline)
        finally:
            self.pending_requests.end(pending)

    async def _forget_disconnected(self, pending: PendingRequest, deadline: float) -> None:
        """Stop waiting for nodes that have not answered, and are not connected to the bus."""
        suspects = set(pending.missing)
        # A process that was killed is not connected, twice; one that reconnects is back meanwhile.
        for _ in range(2):
            now = asyncio.get_running_loop().time()
            await pending.wait(min(now + _PATIENCE, deadline))
            asked = list(suspects & pending.missing)
            answers = await asyncio.gather(*map(self._ask_bus, asked))
            suspects = {
                node for node, answer in zip(asked, answers, strict=True) if answer is False
            }
        for node in suspects:
            pending.forget(node)

    def _read(self, query: Query, pending: PendingRequest) -> list[Any]:
        values: list[Any] = []
        for node, parts in pending.values.items():
            try:
                values += read(query, parts)
            except EnvelopeError as error:
                self._reject(error)
                pending.missing.add(node)
        return values

    def answer(self, request: QueryRequest, *, max_size: int) -> None:
        """Answer a query about the local clients."""
        channel = node_channel(request.source)
        try:
            value = self._local_clients.answer(request.query, request.name, request.audience)
            if request.audience is not None and self._misses(request.audience):
                value = 0
        except UnknownClient:
            self._publish(channel, refusal(self._node, request.request_id, Problem.UNKNOWN_CLIENT))
            return
        sessions = _sessions(request, value)
        parts = answers(self._node, request.request_id, value, max_size=max_size)
        if any(not isinstance(key, str) for _, session in sessions for key in session):
            # It can be encoded, but not decoded.
            parts = iter([refusal(self._node, request.request_id, Problem.NOT_SENDABLE)])
        for part in parts:
            if part.problem is Problem.NOT_SENDABLE:
                self._log_unsendable(request, sessions)
            self._publish(channel, part)

    def _misses(self, audience: Audience) -> bool:
        """Return whether the message before a query may not have been routed here."""
        return self._is_unconfirmed(channel_of(audience.target, audience.names, self._node))

    def _log_unsendable(
        self, request: QueryRequest, sessions: list[tuple[str, dict[Any, Any]]]
    ) -> None:
        """Log, on the node where the session was set, what in it cannot be sent."""
        line = f"the answer about {request.name} is more than the bus can carry"
        for client, session in sessions:
            problem = unsendable(session)
            if problem:
                line = (
                    f"another process asked for the session of {client}, which cannot be sent:"
                    f" {problem}; keep in a session what MessagePack can carry"
                )
                break
        self._warn("unsendable_session", line)

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self.timeout


def _sessions(request: QueryRequest, value: Any) -> list[tuple[str, dict[Any, Any]]]:
    """Get the sessions that an answer consists of, by client id."""
    match request.query:
        case Query.SESSION:
            return [(request.name, value)]
        case Query.SESSIONS_OF_GROUP:
            return list(value)
        case _:
            return []
