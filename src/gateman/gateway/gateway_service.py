"""
A gateway at work: the connections are a worker's, what happens to them is a business process's.

What to do is decided by :class:`~.dispatch.Dispatch`; this is the shell around it.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Sequence
from typing import Any, assert_never

import msgspec

from ..cluster.membership import ConnectionMembership
from ..cluster.names import ClientId, NodeId
from ..cluster.node import Node
from ..cluster.probes import Probes, asks
from ..config.settings import WorkerSettings
from ..connection import PAUSED_BY_QUEUE, PAUSED_BY_QUEUES, Connection, State
from ..errors import Refuse
from ..log import logger
from ..net.connection_events import Decide
from ..runtime.worker_service import WorkerService
from . import protocol
from .actions import DispatchAction, Log, Probe, Quarantine, Reply, Resume, Send, StoreSession
from .dispatch import Dispatch
from .gateway import Gateway
from .liveness import TICK_INTERVAL, grace_period
from .protocol import EVENT_OVERHEAD
from .send_window import MAX_BATCH_SIZE, GatewayClient

# Of the time that a handshake has in all, this much may be spent on its answer: then there is time
# left to say that nobody was there.
_HANDSHAKE_SHARE = 0.8

# Seconds that processes have at least, when this one stops, to handle the ends of its clients;
# within what its master grants it beyond its own deadline.
_MIN_SHUTDOWN_TIME = 0.5

_NO_BUSINESS = Refuse(503, "no business worker is there", {"Retry-After": "1"})

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(dict[str, Any])


_BacklogEntry = str | bytes | tuple[int, str]
"""A message, or the code and the reason of the end."""


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

    def __init__(
        self, settings: WorkerSettings, gateway: Gateway, connections: dict[int, Connection]
    ) -> None:
        super().__init__(settings, {}, gateway, connections)
        self.deliver = self._received
        self._can_wait = gateway.without_business == "wait"
        self._dispatch = Dispatch(grace_period=0)
        self._local_node: Node | None = None
        self._connections_by_id: dict[ClientId, Connection] = {}
        self._pending: dict[ClientId, _PendingHandshake] = {}
        # What was read behind a client's share: of tiny messages, 50 000 may come in one read.
        self._backlogs: dict[ClientId, deque[_BacklogEntry]] = {}
        self._is_full = False
        self._is_scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._progress: asyncio.Event = asyncio.Event()
        self._probes = Probes(asks(None), self._probed)

    # Its life.

    async def start(
        self, sockets: Sequence[socket.socket], membership: ConnectionMembership
    ) -> None:
        """See :meth:`gateman.runtime.worker_service.WorkerService.start`."""
        self._local_node = membership.local_node
        bus = membership.local_node.bus
        self._dispatch = Dispatch(grace_period=grace_period("local:" if bus is None else bus.url))
        self._probes = Probes(asks(bus), self._probed)
        membership.local_node.extension = self
        self._dispatch.start()
        self._tick()
        await super().start(sockets, membership)

    async def stop(self, code: int, reason: str) -> None:
        """Stop as a worker does, and wait until the ends of its clients are handled."""
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
        """See :attr:`gateman.runtime.worker_service.WorkerService.problem`."""
        is_unserved = self._dispatch.is_unserved(self._loop.time())
        return super().problem or ("no business worker is there" if is_unserved else "")

    @property
    def _waiting_count(self) -> int:
        return self._dispatch.pending_count + sum(map(len, self._backlogs.values()))

    # What happens to clients; see net.connection_events.

    def requested(self, connection: Connection, answer: Decide) -> None:
        """Ask a business process."""
        request = connection.request
        if request is None or (not self._can_wait and not self._dispatch.has_business):
            self._refuse_unserved(connection, answer, "is there")
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
        """Tell its business process."""
        super().opened(connection)
        name = ClientId(connection.client_id)
        self._connections_by_id[name] = connection
        self._dispatch.open(name)
        if self._is_full:
            connection.link.pause(PAUSED_BY_QUEUES)
        self._pause_if_due(connection, self._dispatch.clients.get(name))
        self._schedule()

    def _received(self, connection: Connection, message: str | bytes) -> None:
        name = ClientId(connection.client_id)
        client = self._dispatch.clients.get(name)
        if name in self._backlogs or (client is not None and client.is_paused):
            self._backlogs.setdefault(name, deque()).append(message)
            self._dispatch.count_backlog(EVENT_OVERHEAD + len(message))
        else:
            self._dispatch_message(connection, name, message)
        # At once: what is compressed may become a thousand times as much in one turn of the loop.
        self._pause_if_due(connection, client)

    def _pause_if_due(self, connection: Connection, client: GatewayClient | None) -> None:
        if client is not None and client.is_paused:
            connection.link.pause(PAUSED_BY_QUEUE)
        if self._is_full is not self._dispatch.is_full:
            self._pause_all(is_full=self._dispatch.is_full)

    def _pause_all(self, *, is_full: bool) -> None:
        self._is_full = is_full
        for connection in list(self._connections_by_id.values()):
            link = connection.link
            (link.pause if is_full else link.resume)(PAUSED_BY_QUEUES)

    def _dispatch_message(
        self, connection: Connection, name: ClientId, message: str | bytes
    ) -> None:
        is_text = message.__class__ is str
        payload = message.encode() if isinstance(message, str) else message
        self._dispatch.message(name, payload, self._session_of(connection), is_text=is_text)
        if not self._is_scheduled:
            self._schedule()

    def closed(self, connection: Connection, code: int, reason: str) -> None:
        """Tell its business process."""
        super().closed(connection, code, reason)
        name = ClientId(connection.client_id)
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
        self._dispatch.close(name, code, reason, self._session_of(connection))
        self._schedule()

    def _session_of(self, connection: Connection) -> bytes:
        session = connection.stored_session
        encoded = _encoder.encode(session) if session else b""
        if len(encoded) <= MAX_BATCH_SIZE:
            return encoded
        # An event with it would stay in the way of all that go to the same process.
        if connection.state is State.OPEN:
            self.noticed(
                "session_too_big",
                f"the session of {connection!r} was set to more than {MAX_BATCH_SIZE} bytes, and"
                " the client is closed for it: keep less in a session",
            )
            connection.close(1011, "internal error")
        client = self._dispatch.clients.get(ClientId(connection.client_id))
        return b"" if client is None else client.session

    # What business processes say; see cluster.extension.

    def take(self, source: NodeId, data: bytes) -> None:
        """See :meth:`gateman.cluster.extension.NodeExtension.take`."""
        self._dispatch.receive(source, protocol.decode(data), self._loop.time())
        self._progress.set()
        self._schedule()

    def returned(self) -> None:
        """See :meth:`gateman.cluster.extension.NodeExtension.returned`."""
        self._dispatch.returned(self._loop.time())
        self._schedule()

    # What is to be done.

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            # A turn later: what else has come by then travels with it, and under load that is much.
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
            case Probe(node):
                self._probes.ask(node)
            case Quarantine():
                self._quarantine(action)
            case Log(level, text):
                getattr(logger, level)("%s: %s", self, text)
            case _:
                assert_never(action)

    def _resume(self, name: ClientId) -> None:
        """Take from a client what was read already, and read on if that is not too much."""
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
                self._dispatch_message(connection, name, entry)
        if not backlog:
            self._backlogs.pop(name, None)
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
            self.noticed("bad_session", f"what was said to be the session of {name} is none")
            return
        connection.stored_session = decoded

    def _reply(self, name: ClientId, answer: protocol.HandshakeAnswer) -> None:
        pending = self._pending.pop(name, None)
        if pending is not None:
            pending.deadline.cancel()
            pending.answer(_refusal(answer))

    def _quarantine(self, action: Quarantine) -> None:
        self.counts["events_quarantined"] += 1
        kind = type(action.event).__name__
        logger.error(
            "%s: a %s of the client %s is set aside: two business processes have died with it",
            self,
            kind,
            action.client,
        )

    # Time.

    def _tick(self) -> None:
        dispatch = self._dispatch
        dispatch.tick(self._loop.time())
        for name, value in (
            ("events_waiting", self._waiting_count),
            ("clients_paused", dispatch.paused_count),
            ("events_repeated", dispatch.repeated_count),
        ):
            # What never happened is not in the counts.
            if value or name in self.counts:
                self.counts[name] = value
        self._run_actions()
        self._timer = self._loop.call_later(TICK_INTERVAL, self._tick)

    def _probed(self, node: NodeId, is_connected: bool | None) -> None:  # noqa: FBT001 - the bus's answer
        if is_connected is not None:
            self._dispatch.probed(node, self._loop.time(), is_connected=is_connected)
            self._schedule()


def _refusal(answer: protocol.HandshakeAnswer) -> Exception | None:
    if not answer.status:
        return None
    try:
        return Refuse(answer.status, answer.text, answer.headers)
    except ValueError:
        return Refuse(500)
