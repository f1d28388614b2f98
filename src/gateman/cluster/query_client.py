"""Queries about clients of all nodes: whom to ask, how long to wait, and reading the answers."""

import asyncio
from collections.abc import Callable, Collection
from typing import Any

from msgspec import Raw

from ..errors import ConfirmTimeout, EnvelopeError, PartialResult, UnknownClient
from .channels import EVERYBODY, Channel, node_channel
from .confirmation import PendingCommand
from .envelope import Audience, Envelope, Problem, Query, QueryRequest, unsendable
from .local_clients import LocalClients
from .names import ClientId, NodeId, node_of
from .node_liveness import NodeLiveness
from .pending_requests import PendingRequest, PendingRequests
from .query_replies import answers, read, refusal

# Named as missing when the bus is away and no other node is known.
UNKNOWN_NODE = NodeId("?")

# Precedent: GatewayWorker's 5 s for any question. An answer takes milliseconds.
DEFAULT_TIMEOUT = 3.0  # seconds


class QueryClient:
    """The queries that a node sends and answers; ``timeout`` is in seconds."""

    def __init__(
        self,
        node: NodeId,
        local_clients: LocalClients,
        liveness: NodeLiveness,
        *,
        put: Callable[[Channel, Envelope], None],
        is_connected: Callable[[], bool],
        refuse: Callable[[EnvelopeError], None],
        warn: Callable[[str, str], None],
    ) -> None:
        self.pending_requests = PendingRequests()
        self.timeout = DEFAULT_TIMEOUT
        self._node = node
        self._local_clients = local_clients
        self._liveness = liveness
        self._put = put
        self._is_connected = is_connected
        self._refuse = refuse
        self._warn = warn

    async def ask_node(self, query: Query, client: ClientId) -> Any:
        """Ask the node that a client is connected to."""
        node = node_of(client)
        if node == self._node:
            return self._local_clients.tell(query, client)
        deadline = self._deadline()
        await self._liveness.discover(deadline)
        if not self._is_connected():
            raise PartialResult(None, [node])
        if node not in self._liveness.peers:
            raise UnknownClient(client)
        call = self.pending_requests.begin([node])
        question = QueryRequest(self._node, call.number, query, client)
        await self._ask(call, node_channel(node), question, deadline)
        if call.problems.get(node) is Problem.UNKNOWN_CLIENT:
            raise UnknownClient(client)
        if call.problems.get(node) is Problem.NOT_SENDABLE:
            raise EnvelopeError(
                f"the session of {client} cannot be sent to another process; the log of {node}"
                " says why"
            )
        if not (call.values or call.problems or call.missing):
            # The node has sent its goodbye meanwhile.
            raise UnknownClient(client)
        values = self._read(query, call)
        if not values:
            raise PartialResult(None, [node])
        return values[0]

    async def confirm(self, node: NodeId, pending: PendingCommand) -> None:
        """Wait until another node confirms that it has executed a command."""
        client = pending.action.client
        if not self._is_connected():
            raise ConfirmTimeout(
                f"the bus is away, and with it {node}, where {client} is connected"
            )
        call = self.pending_requests.begin([node])
        pending.call = call.number
        if pending.is_made:
            # It was published without a request id; to execute it twice changes nothing.
            self._put(node_channel(node), pending.make())
        try:
            await call.wait(self._deadline())
        finally:
            self.pending_requests.end(call)
        if node in call.missing:
            raise ConfirmTimeout(f"no answer from {node}, where {client} is connected")
        if node not in call.values:
            # The node does not know the client, or has sent its goodbye.
            raise UnknownClient(client)

    async def ask_all(
        self,
        query: Query,
        name: str,
        is_enough: Callable[[Raw], bool] | None = None,
        audience: Audience | None = None,
    ) -> tuple[list[Any], Collection[NodeId]]:
        """Ask every node; return the values, and the nodes that did not answer."""
        values = [self._local_clients.tell(query, name, audience)]
        deadline = self._deadline()
        await self._liveness.discover(deadline)
        if not self._is_connected():
            return values, self._liveness.peers.names() or (UNKNOWN_NODE,)
        call = self.pending_requests.begin(self._liveness.peers.names(), is_enough)
        question = QueryRequest(self._node, call.number, query, name, audience)
        await self._ask(call, EVERYBODY, question, deadline)
        values += self._read(query, call)
        return values, (*call.missing, *call.problems)

    async def _ask(
        self, call: PendingRequest, channel: Channel, question: QueryRequest, deadline: float
    ) -> None:
        try:
            if call.missing:
                self._put(channel, question)
                await call.wait(deadline)
        finally:
            self.pending_requests.end(call)

    def _read(self, query: Query, call: PendingRequest) -> list[Any]:
        values: list[Any] = []
        for node, parts in call.values.items():
            try:
                values += read(query, parts)
            except EnvelopeError as error:
                self._refuse(error)
                call.missing.add(node)
        return values

    def answer(self, question: QueryRequest, *, max_size: int) -> None:
        """Answer a query about the local clients."""
        channel = node_channel(question.source)
        try:
            value = self._local_clients.tell(question.query, question.name, question.audience)
        except UnknownClient:
            self._put(channel, refusal(self._node, question.call, Problem.UNKNOWN_CLIENT))
            return
        sessions = _sessions(question, value)
        parts = answers(self._node, question.call, value, max_size=max_size)
        if any(not isinstance(key, str) for _, session in sessions for key in session):
            # It can be encoded, but not decoded.
            parts = iter([refusal(self._node, question.call, Problem.NOT_SENDABLE)])
        for part in parts:
            if part.problem is Problem.NOT_SENDABLE:
                self._complain(question, sessions)
            self._put(channel, part)

    def _complain(self, question: QueryRequest, sessions: list[tuple[str, dict[Any, Any]]]) -> None:
        """Log, on the node where the session was set, what in it cannot be sent."""
        line = f"the answer about {question.name} is more than the bus can carry"
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


def _sessions(question: QueryRequest, value: Any) -> list[tuple[str, dict[Any, Any]]]:
    """Get the sessions that an answer consists of, by client id."""
    match question.query:
        case Query.SESSION:
            return [(question.name, value)]
        case Query.SESSIONS_OF_GROUP:
            return list(value)
        case _:
            return []
