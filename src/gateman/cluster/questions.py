"""Questions about clients, wherever they are: who is asked, how long, and what the answers say."""

import asyncio
from collections.abc import Callable, Collection
from typing import Any

from msgspec import Raw

from ..errors import EnvelopeError, Partial, Unconfirmed, UnknownClient
from .calls import Call, Calls
from .channels import EVERYBODY, Channel, node_channel
from .deeds import Order
from .envelope import Audience, Envelope, Problem, Question, What, unsendable
from .local import Local
from .names import ClientId, NodeId, node_of
from .presence import Presence
from .replies import answers, read, refusal

# Who could not be asked, when nobody knows who there is.
UNKNOWN_NODE = NodeId("?")

# Precedent: GatewayWorker's 5 s for any question. An answer takes milliseconds.
DEFAULT_TIMEOUT = 3.0  # seconds


class Questions:
    """
    What one process asks and is asked.

    Attributes:
        calls: What it waits for.
        timeout: How long, in seconds.
    """

    def __init__(
        self,
        node: NodeId,
        local: Local,
        presence: Presence,
        *,
        put: Callable[[Channel, Envelope], None],
        is_connected: Callable[[], bool],
        refuse: Callable[[EnvelopeError], None],
        warn: Callable[[str, str], None],
    ) -> None:
        """
        Begin with no questions.

        Args:
            node: Who this is.
            local: The clients here.
            presence: Who else there is.
            put: Publishes.
            is_connected: Tells whether the others can be reached.
            refuse: Takes note of an answer that makes no sense.
            warn: Writes a line to the log, by its cause.
        """
        self.calls = Calls()
        self.timeout = DEFAULT_TIMEOUT
        self._node = node
        self._local = local
        self._presence = presence
        self._put = put
        self._is_connected = is_connected
        self._refuse = refuse
        self._warn = warn

    async def ask_node(self, what: What, client: ClientId) -> Any:
        """
        Ask the process that a client is connected to.

        Args:
            what: What.
            client: About whom.

        Returns:
            The answer.

        Raises:
            UnknownClient: The client is not there.
            EnvelopeError: The answer cannot be sent.
            Partial: The process did not answer in time, or the bus is away.
        """
        node = node_of(client)
        if node == self._node:
            return self._local.tell(what, client)
        deadline = self._deadline()
        await self._presence.discover(deadline)
        if not self._is_connected():
            raise Partial(None, [node])
        if node not in self._presence.nodes:
            raise UnknownClient(client)
        call = self.calls.begin([node])
        question = Question(self._node, call.number, what, client)
        await self._ask(call, node_channel(node), question, deadline)
        if call.problems.get(node) is Problem.UNKNOWN_CLIENT:
            raise UnknownClient(client)
        if call.problems.get(node) is Problem.NOT_SENDABLE:
            raise EnvelopeError(
                f"the session of {client} cannot be sent to another process; the log of {node}"
                " says why"
            )
        if not (call.values or call.problems or call.missing):
            # The process has said good-bye meanwhile.
            raise UnknownClient(client)
        values = self._read(what, call)
        if not values:
            raise Partial(None, [node])
        return values[0]

    async def confirm(self, node: NodeId, order: Order) -> None:
        """
        Wait until another process says that it has done something.

        Args:
            node: Which.
            order: What; it is on its way already, or about to be.

        Raises:
            UnknownClient: The client is not there.
            Unconfirmed: The process did not answer in time, or the bus is away.
        """
        client = order.action.client
        if not self._is_connected():
            raise Unconfirmed(f"the bus is away, and with it {node}, where {client} is connected")
        call = self.calls.begin([node])
        order.call = call.number
        if order.is_made:
            # It is on its way without a call: the same again does nothing more.
            self._put(node_channel(node), order.make())
        try:
            await call.wait(self._deadline())
        finally:
            self.calls.end(call)
        if node in call.missing:
            raise Unconfirmed(f"no answer from {node}, where {client} is connected")
        if node not in call.values:
            # It says that it has no such client, or has said good-bye.
            raise UnknownClient(client)

    async def ask_all(
        self,
        what: What,
        name: str,
        is_enough: Callable[[Raw], bool] | None = None,
        audience: Audience | None = None,
    ) -> tuple[list[Any], Collection[NodeId]]:
        """
        Ask every process.

        Args:
            what: What.
            name: About whom; may be empty.
            is_enough: Tells of one answer whether it says it all.
            audience: Who is to be counted, for that question.

        Returns:
            The answers, this process's first, and who did not answer in time.
        """
        values = [self._local.tell(what, name, audience)]
        deadline = self._deadline()
        await self._presence.discover(deadline)
        if not self._is_connected():
            return values, self._presence.nodes.names() or (UNKNOWN_NODE,)
        call = self.calls.begin(self._presence.nodes.names(), is_enough)
        question = Question(self._node, call.number, what, name, audience)
        await self._ask(call, EVERYBODY, question, deadline)
        values += self._read(what, call)
        return values, (*call.missing, *call.problems)

    async def _ask(self, call: Call, channel: Channel, question: Question, deadline: float) -> None:
        try:
            if call.missing:
                self._put(channel, question)
                await call.wait(deadline)
        finally:
            self.calls.end(call)

    def _read(self, what: What, call: Call) -> list[Any]:
        values: list[Any] = []
        for node, parts in call.values.items():
            try:
                values += read(what, parts)
            except EnvelopeError as error:
                self._refuse(error)
                call.missing.add(node)
        return values

    def answer(self, question: Question, *, max_size: int) -> None:
        """
        Answer a question about the clients here.

        Args:
            question: It.
            max_size: Of a payload, in bytes.
        """
        channel = node_channel(question.source)
        try:
            value = self._local.tell(question.what, question.name, question.audience)
        except UnknownClient:
            self._put(channel, refusal(self._node, question.call, Problem.UNKNOWN_CLIENT))
            return
        sessions = _sessions(question, value)
        parts = answers(self._node, question.call, value, max_size=max_size)
        if any(not isinstance(key, str) for _, session in sessions for key in session):
            # It could be written, but not read.
            parts = iter([refusal(self._node, question.call, Problem.NOT_SENDABLE)])
        for part in parts:
            if part.problem is Problem.NOT_SENDABLE:
                self._complain(question, sessions)
            self._put(channel, part)

    def _complain(self, question: Question, sessions: list[tuple[str, dict[Any, Any]]]) -> None:
        """Say here, where sessions are set, what of one cannot be sent."""
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


def _sessions(question: Question, value: Any) -> list[tuple[str, dict[Any, Any]]]:
    """Give the sessions that an answer is made of, by the client's id."""
    match question.what:
        case What.SESSION:
            return [(question.name, value)]
        case What.SESSIONS_OF_GROUP:
            return list(value)
        case _:
            return []
