"""
A gateway process: it holds connections like a worker, and sends their events to business workers.

:class:`~.dispatch.Dispatch` decides; this module carries out its actions.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, assert_never

import msgspec

from ..cluster.membership import ConnectionMembership
from ..cluster.names import ClientId, NodeId
from ..cluster.node import Node
from ..cluster.probes import Probes, asks
from ..config.callbacks import Function
from ..config.settings import WorkerSettings
from ..connection import Connection, State
from ..connection_interfaces import PAUSED_BY_QUEUE, PAUSED_BY_QUEUES
from ..errors import GatemanError, Refuse
from ..log import logger
from ..net.connection_events import Decide
from ..runtime.worker_service import WorkerService
from ..websocket.close import INTERNAL_ERROR, UNSERVED
from . import protocol
from .actions import (
    DispatchAction,
    Log,
    Probe,
    Quarantine,
    Reply,
    ReplyToCommand,
    Resume,
    Send,
    StoreSession,
)
from .dispatch import Dispatch
from .gateway import Gateway
from .liveness import TICK_INTERVAL, grace_period
from .protocol import EVENT_OVERHEAD
from .send_window import MAX_BATCH_SIZE, GatewayClient

if TYPE_CHECKING:
    from ..runtime.measurements import Measurements

# The share of `timeouts.handshake` in which a business process must answer; then a 503 is sent.
_HANDSHAKE_SHARE = 0.8

# The least seconds that business processes have for on_close of all clients at shutdown: less than
# the master allows beyond `timeouts.shutdown`.
_MIN_SHUTDOWN_TIME = 0.5

_NO_BUSINESS = Refuse(503, "no business worker is available", {"Retry-After": "1"})

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(dict[str, Any])


_BacklogEntry = str | bytes | tuple[int, str]
"""A message, or the code and reason of the close."""


class _PendingHandshake:
    """A client whose handshake waits for an answer."""

    __slots__ = ("answer", "connection", "deadline")

    def __init__(
        self, connection: Connection, answer: Decide, deadline: asyncio.TimerHandle
    ) -> None:
        self.connection = connection
        self.answer = answer
        self.deadline = deadline


class GatewayService(WorkerService):
    """One process of a gateway; see :class:`~gateman.runtime.process.AnyService`."""

    has_commands = False
    """Whether business processes get questions about commands, and no messages."""

    def __init__(
        self,
        settings: WorkerSettings,
        functions: dict[str, Function],
        gateway: Gateway,
        connections: dict[int, Connection],
        measurements: "Measurements | None" = None,
    ) -> None:
        super().__init__(settings, functions, gateway, connections, measurements)
        forward = self._forward if gateway.protocol is None else self._forward_any
        self.deliver = self._counted(forward)
        self._can_wait = gateway.without_business == "wait"
        self._dispatch = Dispatch(grace_period=0)
        self._local_node: Node | None = None
        self._connections_by_id: dict[ClientId, Connection] = {}
        # The same connections' clients: every message is looked up here.
        self._gateway_clients: dict[Connection, GatewayClient] = {}
        self._pending: dict[ClientId, _PendingHandshake] = {}
        # Messages above a client's limit that were read already: one read may hold 50 000 of them.
        self._backlogs: dict[ClientId, deque[_BacklogEntry]] = {}
        # What ends the connections of clients that send no more, when their events are handled.
        self._half_closed: dict[ClientId, Callable[[], None]] = {}
        self._is_full = False
        self._is_scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._progress: asyncio.Event = asyncio.Event()
        self._probes = Probes(asks(None), self._probed)

    async def start(
        self, sockets: Sequence[socket.socket], membership: ConnectionMembership
    ) -> None:
        """Start like a worker, and join the business workers on the bus."""
        self._local_node = membership.local_node
        bus = membership.local_node.bus
        self._dispatch = Dispatch(
            grace_period=grace_period("local:" if bus is None else bus.url),
            has_commands=self.has_commands,
        )
        self._probes = Probes(asks(bus), self._probed)
        membership.local_node.extension = self
        self._dispatch.start()
        self._beat()
        await super().start(sockets, membership)

    async def stop(self, code: int, reason: str) -> None:
        """Stop like a worker, and wait until ``on_close`` of all clients is handled."""
        deadline = self._loop.time() + self.settings.timeouts.shutdown
        await super().stop(code, reason)
        await self._wait_until_settled(max(deadline - self._loop.time(), _MIN_SHUTDOWN_TIME))
        self._dispatch.stop()
        self._run_actions()
        if self._timer is not None:
            self._timer.cancel()
        self._probes.cancel()
        if self._local_node is not None:
            self._local_node.extension = None

    async def _wait_until_settled(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while self._waiting_count and self._dispatch.windows:
                    self._progress.clear()
                    await self._progress.wait()
        except TimeoutError:
            pass
        left = self._waiting_count
        if left:
            self.counts["events_lost"] += left
            logger.error("%s: %d events of clients were not handled", self, left)

    @property
    def problem(self) -> str:
        """As of a worker, or that no business worker is available."""
        is_unserved = self._dispatch.is_unserved(self._loop.time())
        return super().problem or ("no business worker is available" if is_unserved else "")

    @property
    def _waiting_count(self) -> int:
        return self._dispatch.pending_count + sum(map(len, self._backlogs.values()))

    # net.connection_events

    def requested(self, connection: Connection, answer: Decide) -> None:
        """Ask a business process whether to accept the client."""
        request = connection.request
        if request is None or (not self._can_wait and not self._dispatch.has_business):
            self._refuse_unserved(connection, answer, "is available")
            return
        name = ClientId(connection.client_id)
        seconds = self.settings.timeouts.handshake * _HANDSHAKE_SHARE
        deadline = self._loop.call_later(seconds, self._handshake_timed_out, name)
        self._pending[name] = _PendingHandshake(connection, answer, deadline)
        self._dispatch.connect(name, connection.remote_ip, connection.remote_port, request.head)
        self._schedule()

    def _handshake_timed_out(self, name: ClientId) -> None:
        pending = self._pending.pop(name, None)
        if pending is not None:
            self._refuse_unserved(pending.connection, pending.answer, "has answered")

    def _refuse_unserved(self, connection: Connection, answer: Decide, what: str) -> None:
        self.noticed(
            "no_business", f"{connection!r} was refused with 503: no business worker {what}"
        )
        answer(_NO_BUSINESS)

    def opened(self, connection: Connection) -> None:
        """Send the event to the client's business process."""
        super().opened(connection)
        name = ClientId(connection.client_id)
        self._connections_by_id[name] = connection
        if connection.request is None:
            if not self._can_wait and not self._dispatch.has_business:
                self.noticed("no_business", f"{connection!r} is closed: {_NO_BUSINESS.text}")
                connection.close(*UNSERVED)
                return
            self._dispatch.arrive(name, connection.remote_ip, connection.remote_port)
        else:
            self._dispatch.open(name)
        if self._is_full:
            connection.link.pause(PAUSED_BY_QUEUES)
        client = self._dispatch.clients.get(name)
        if client is not None:
            self._gateway_clients[connection] = client
            self._pause_if_due(connection, client)
        self._schedule()

    def _forward(self, connection: Connection, message: str | bytes) -> None:
        client = self._gateway_clients.get(connection)
        if client is None:
            return
        if client.is_paused or (self._backlogs and client.name in self._backlogs):
            self._backlogs.setdefault(client.name, deque()).append(message)
            self._dispatch.count_backlog(EVENT_OVERHEAD + len(message))
        else:
            if connection.stored_session or client.session:
                self._dispatch.set_session(client, self._session_of(connection))
            self._dispatch.message(client, message)
            if not self._is_scheduled:
                self._schedule()
        # At once: one turn of the loop may inflate compressed messages a thousandfold.
        if client.is_paused or self._is_full is not self._dispatch.is_full:
            self._pause_if_due(connection, client)

    def _forward_any(self, connection: Connection, message: Any) -> None:
        """Take what a protocol of the application's own has decoded."""
        if not isinstance(message, (str, bytes)):
            kind = type(message).__name__
            raise TypeError(f"a business worker is sent str and bytes, and decode returned {kind}")
        self._forward(connection, message)

    def _pause_if_due(self, connection: Connection, client: GatewayClient) -> None:
        if client.is_paused:
            connection.link.pause(PAUSED_BY_QUEUE)
        if self._is_full is not self._dispatch.is_full:
            self._pause_all(is_full=self._dispatch.is_full)

    def _pause_all(self, *, is_full: bool) -> None:
        self._is_full = is_full
        for connection in list(self._connections_by_id.values()):
            link = connection.link
            (link.pause if is_full else link.resume)(PAUSED_BY_QUEUES)

    def half_closed(self, connection: Connection, finish: Callable[[], None]) -> None:
        """End the connection when its business process has handled what arrived."""
        self._half_closed[ClientId(connection.client_id)] = finish
        self._finish_half_closed()

    def _finish_half_closed(self) -> None:
        for name, finish in list(self._half_closed.items()):
            client = self._dispatch.clients.get(name)
            if (
                client is None
                or client.window is None
                or not (client.pending or name in self._backlogs)
            ):
                # No process would answer, or the answers have come: they precede the report that
                # the events are handled.
                self._half_closed.pop(name, None)
                finish()

    def closed(self, connection: Connection, code: int, reason: str) -> None:
        """Send the event to the client's business process."""
        super().closed(connection, code, reason)
        name = ClientId(connection.client_id)
        self._half_closed.pop(name, None)
        pending = self._pending.pop(name, None)
        if pending is not None:
            pending.deadline.cancel()
        backlog = self._backlogs.get(name)
        if backlog is not None:
            backlog.append((code, reason))
        else:
            self._dispatch_close(connection, name, code, reason)

    def _dispatch_close(
        self, connection: Connection, name: ClientId, code: int, reason: str
    ) -> None:
        self._connections_by_id.pop(name, None)
        self._gateway_clients.pop(connection, None)
        self._dispatch.close(name, code, reason, self._session_of(connection))
        self._schedule()

    def _session_of(self, connection: Connection) -> bytes:
        session = connection.stored_session
        encoded = _encoder.encode(session) if session else b""
        if len(encoded) <= MAX_BATCH_SIZE:
            return encoded
        # An event that is larger than the bus carries would block its window for ever.
        if connection.state is State.OPEN:
            self.noticed(
                "session_too_big",
                f"the session of {connection!r} is larger than {MAX_BATCH_SIZE} bytes, so the"
                " client is closed with 1011: store less in a session",
            )
            connection.close(*INTERNAL_ERROR)
        client = self._dispatch.clients.get(ClientId(connection.client_id))
        return b"" if client is None else client.session

    # cluster.extension

    def take(self, source: NodeId, data: bytes) -> None:
        """Take a packet of a business process."""
        self._dispatch.receive(source, protocol.decode(data), self._loop.time())
        self._progress.set()
        if self._half_closed:
            self._finish_half_closed()
        self._schedule()

    def returned(self) -> None:
        """Take note that the bus was away, and is back."""
        self._dispatch.returned(self._loop.time())
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            # Two turns later: under load, many more events share the batch by then.
            self._loop.call_soon(self._loop.call_soon, self._run_actions)

    def _run_actions(self) -> None:
        self._is_scheduled = False
        for action in self._dispatch.take_actions():
            self._run_action(action)
        if self._is_full and not self._dispatch.is_full:
            self._pause_all(is_full=False)

    def _run_action(self, action: DispatchAction) -> None:
        match action:
            case Send(node, packet):
                if self._local_node is not None:
                    self._local_node.send_to_extension(node, protocol.encode(packet))
            case Resume(name):
                self._resume(name)
            case StoreSession(name, session):
                self._store_session(name, session)
            case Reply(name, answer):
                self._reply(name, answer)
            case ReplyToCommand(name, reply):
                self._reply_to_command(name, reply)
            case Probe(node):
                self._probes.ask(node)
            case Quarantine():
                self._quarantine(action)
            case Log(level, text):
                getattr(logger, level)("%s: %s", self, text)
            case _:
                assert_never(action)

    def _resume(self, name: ClientId) -> None:
        """Dispatch a client's backlog up to its limit, and read from it again below the limit."""
        connection, client = self._connections_by_id.get(name), self._dispatch.clients.get(name)
        if connection is None or client is None:
            return
        backlog = self._backlogs.get(name)
        while backlog and not client.is_paused:
            entry = backlog.popleft()
            if isinstance(entry, tuple):
                self._dispatch_close(connection, name, *entry)
            else:
                self._dispatch.count_backlog(-EVENT_OVERHEAD - len(entry))
                self._dispatch.set_session(client, self._session_of(connection))
                self._dispatch.message(client, entry)
        if not backlog:
            self._backlogs.pop(name, None)
        self._schedule()
        if connection.state is State.OPEN and not client.is_paused:
            connection.link.resume(PAUSED_BY_QUEUE)

    def _store_session(self, name: ClientId, session: bytes) -> None:
        connection = self._connections_by_id.get(name)
        if name in self._pending:
            connection = self._pending[name].connection
        if connection is None:
            return
        try:
            decoded = _decoder.decode(session) if session else None
        except (msgspec.MsgspecError, ValueError, RecursionError):
            self.noticed(
                "bad_session", f"a business worker sent a session of {name} that is not valid"
            )
            return
        connection.stored_session = decoded

    def _reply(self, name: ClientId, answer: protocol.HandshakeAnswer) -> None:
        pending = self._pending.pop(name, None)
        if pending is not None:
            pending.deadline.cancel()
            pending.answer(_refusal(answer))

    def _reply_to_command(self, name: ClientId, reply: bytes) -> None:
        """Do nothing: plain clients send no commands."""

    def _quarantine(self, action: Quarantine) -> None:
        self.counts["events_quarantined"] += 1
        kind = type(action.event).__name__
        logger.error(
            "%s: a %s of the client %s is quarantined: two business processes have died while they"
            " had it",
            self,
            kind,
            action.client,
        )

    def _beat(self) -> None:
        dispatch = self._dispatch
        dispatch.tick(self._loop.time())
        for name, value in (
            ("events_waiting", self._waiting_count),
            ("clients_paused", dispatch.paused_count),
            ("events_repeated", dispatch.repeated_count),
        ):
            # Counters appear in `status` when they are first above zero.
            if value or name in self.counts:
                self.counts[name] = value
        self._run_actions()
        self._timer = self._loop.call_later(TICK_INTERVAL, self._beat)

    def _probed(self, node: NodeId, is_connected: bool | None) -> None:  # noqa: FBT001 - the bus's answer
        if is_connected is not None:
            self._dispatch.probed(node, self._loop.time(), is_connected=is_connected)
            self._schedule()


def _refusal(answer: protocol.HandshakeAnswer) -> Exception | None:
    if not answer.status:
        return None
    if answer == protocol.FAILED:
        return GatemanError(answer.text)
    try:
        return Refuse(answer.status, answer.text, answer.headers)
    except ValueError:
        return Refuse(500)
