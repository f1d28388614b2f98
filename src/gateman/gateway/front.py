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

from ..cluster.here import Here
from ..cluster.names import ClientId, NodeId
from ..cluster.probes import Probes, asks
from ..cluster.station import Station
from ..connection import PAUSED_BY_QUEUE, PAUSED_BY_QUEUES, Connection, State
from ..errors import Refuse
from ..log import logger
from ..net.events import Answer
from ..service import Service
from ..settings import Settings
from . import parcels
from .actions import Action, Keep, Probe, Reply, Resume, Say, Send, SetAside
from .dispatch import Dispatch
from .gateway import Gateway
from .link import MAX_BATCH_SIZE, Client
from .parcels import EVENT_OVERHEAD
from .signs import STEP, patience

# Of the time that a handshake has in all, this much may be spent on its answer: then there is time
# left to say that nobody was there.
_SHARE_OF_HANDSHAKE = 0.8

# Seconds that processes have at least, when this one stops, to handle the ends of its clients;
# within what its master grants it beyond its own deadline.
_LAST_SECONDS = 0.5

_NOBODY = Refuse(503, "no business worker is there", {"Retry-After": "1"})

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(dict[str, Any])


_Letter = str | bytes | tuple[int, str]
"""A message, or the code and the reason of the end."""


class _Visitor:
    """A client whose handshake waits for an answer."""

    __slots__ = ("answer", "connection", "deadline")

    def __init__(
        self, connection: Connection, answer: Answer, deadline: asyncio.TimerHandle
    ) -> None:
        self.connection = connection
        self.answer = answer
        self.deadline = deadline


class GatewayService(Service):
    """One process of a gateway; see :class:`~gateman.process.AnyService`."""

    def __init__(
        self, settings: Settings, gateway: Gateway, connections: dict[int, Connection]
    ) -> None:
        """
        Prepare to serve.

        Args:
            settings: What was declared.
            gateway: What was declared.
            connections: Is kept filled with the open connections, by their id.
        """
        super().__init__(settings, {}, gateway, connections)
        self.deliver = self._message
        self._can_wait = gateway.without_business == "wait"
        self._dispatch = Dispatch(patience=0)
        self._station: Station | None = None
        self._names: dict[ClientId, Connection] = {}
        self._visitors: dict[ClientId, _Visitor] = {}
        # What was read behind a client's share: of tiny messages, 50 000 may come in one read.
        self._backlogs: dict[ClientId, deque[_Letter]] = {}
        self._is_full = False
        self._is_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._settled: asyncio.Event = asyncio.Event()
        self._probes = Probes(asks(None), self._probed)

    # Its life.

    async def start(self, sockets: Sequence[socket.socket], here: Here) -> None:
        """See :meth:`gateman.service.Service.start`."""
        self._station = here.station
        bus = here.station.bus
        self._dispatch = Dispatch(patience=patience("local:" if bus is None else bus.url))
        self._probes = Probes(asks(bus), self._probed)
        here.station.tenant = self
        self._dispatch.start()
        self._tick()
        await super().start(sockets, here)

    async def stop(self, code: int, reason: str) -> None:
        """See :meth:`gateman.service.Service.stop`; the ends of clients are handled, too."""
        deadline = self._loop.time() + self.settings.timeouts.shutdown
        await super().stop(code, reason)
        await self._wait_until_settled(max(deadline - self._loop.time(), _LAST_SECONDS))
        self._dispatch.stop()
        self._act()
        if self._timer is not None:
            self._timer.cancel()
        self._probes.cancel()
        if self._station is not None:
            self._station.tenant = None

    async def _wait_until_settled(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while self._waiting_count and self._dispatch.links:
                    self._settled.clear()
                    await self._settled.wait()
        except TimeoutError:
            pass
        left = self._waiting_count
        if left:
            self.counts["events_lost"] += left
            logger.error("%s: %d events of clients were not handled", self, left)

    @property
    def problem(self) -> str:
        """See :attr:`gateman.service.Service.problem`."""
        is_deserted = self._dispatch.is_deserted(self._loop.time())
        return super().problem or ("no business worker is there" if is_deserted else "")

    @property
    def _waiting_count(self) -> int:
        return self._dispatch.pending_count + sum(map(len, self._backlogs.values()))

    # What happens to clients; see net.events.

    def requested(self, connection: Connection, answer: Answer) -> None:
        """Ask a business process."""
        request = connection.request
        if request is None or (not self._can_wait and not self._dispatch.has_business):
            self._nobody(connection, answer, "is there")
            return
        name = ClientId(connection.client_id)
        seconds = self.settings.timeouts.handshake * _SHARE_OF_HANDSHAKE
        deadline = self._loop.call_later(seconds, self._expired, name)
        self._visitors[name] = _Visitor(connection, answer, deadline)
        self._dispatch.connect(name, connection.remote_ip, connection.remote_port, request.head)
        self._touch()

    def _expired(self, name: ClientId) -> None:
        visitor = self._visitors.pop(name, None)
        if visitor is not None:
            self._nobody(visitor.connection, visitor.answer, "has answered")

    def _nobody(self, connection: Connection, answer: Answer, what: str) -> None:
        self.noticed(
            "no_business", f"{connection!r} was refused with 503: no business worker {what}"
        )
        answer(_NOBODY)

    def opened(self, connection: Connection) -> None:
        """Tell its business process."""
        super().opened(connection)
        name = ClientId(connection.client_id)
        self._names[name] = connection
        self._dispatch.open(name)
        if self._is_full:
            connection._link.pause(PAUSED_BY_QUEUES)  # noqa: SLF001 - the row below's own
        self._pause_if_due(connection, self._dispatch.clients.get(name))
        self._touch()

    def _message(self, connection: Connection, message: str | bytes) -> None:
        name = ClientId(connection.client_id)
        client = self._dispatch.clients.get(name)
        if name in self._backlogs or (client is not None and client.is_paused):
            self._backlogs.setdefault(name, deque()).append(message)
            self._dispatch.set_back(EVENT_OVERHEAD + len(message))
        else:
            self._say(connection, name, message)
        # At once: what is compressed may become a thousand times as much in one turn of the loop.
        self._pause_if_due(connection, client)

    def _pause_if_due(self, connection: Connection, client: Client | None) -> None:
        if client is not None and client.is_paused:
            connection._link.pause(PAUSED_BY_QUEUE)  # noqa: SLF001 - the row below's own
        if self._is_full is not self._dispatch.is_full:
            self._pause_all(is_full=self._dispatch.is_full)

    def _pause_all(self, *, is_full: bool) -> None:
        self._is_full = is_full
        for connection in list(self._names.values()):
            link = connection._link  # noqa: SLF001 - the row below's own
            (link.pause if is_full else link.resume)(PAUSED_BY_QUEUES)

    def _say(self, connection: Connection, name: ClientId, message: str | bytes) -> None:
        is_text = message.__class__ is str
        payload = message.encode() if isinstance(message, str) else message
        self._dispatch.message(name, payload, self._session_of(connection), is_text=is_text)
        if not self._is_due:
            self._touch()

    def closed(self, connection: Connection, code: int, reason: str) -> None:
        """Tell its business process."""
        super().closed(connection, code, reason)
        name = ClientId(connection.client_id)
        visitor = self._visitors.pop(name, None)
        if visitor is not None:
            visitor.deadline.cancel()
        backlog = self._backlogs.get(name)
        if backlog is not None:
            backlog.append((code, reason))
        else:
            self._end(connection, name, code, reason)

    def _end(self, connection: Connection, name: ClientId, code: int, reason: str) -> None:
        self._names.pop(name, None)
        self._dispatch.close(name, code, reason, self._session_of(connection))
        self._touch()

    def _session_of(self, connection: Connection) -> bytes:
        session = connection._session  # noqa: SLF001 - an empty one need not be made
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

    # What business processes say; see cluster.tenant.

    def take(self, source: NodeId, data: bytes) -> None:
        """See :meth:`gateman.cluster.tenant.Tenant.take`."""
        self._dispatch.heard(source, parcels.decode(data), self._loop.time())
        self._settled.set()
        self._touch()

    def returned(self) -> None:
        """See :meth:`gateman.cluster.tenant.Tenant.returned`."""
        self._dispatch.returned(self._loop.time())
        self._touch()

    # What is to be done.

    def _touch(self) -> None:
        if not self._is_due:
            self._is_due = True
            # A turn later: what else has come by then travels with it, and under load that is much.
            self._loop.call_soon(self._loop.call_soon, self._act)

    def _act(self) -> None:
        self._is_due = False
        for action in self._dispatch.take():
            self._do(action)
        if self._is_full and not self._dispatch.is_full:
            self._pause_all(is_full=False)

    def _do(self, action: Action) -> None:
        match action:
            case Send(node, parcel):
                if self._station is not None:
                    self._station.send_parcel(node, parcels.encode(parcel))
            case Resume(name):
                self._resume(name)
            case Keep(name, session):
                self._keep(name, session)
            case Reply(name, answer):
                self._reply(name, answer)
            case Probe(node):
                self._probes.ask(node)
            case SetAside():
                self._set_aside(action)
            case Say(level, text):
                getattr(logger, level)("%s: %s", self, text)
            case _:
                assert_never(action)

    def _resume(self, name: ClientId) -> None:
        """Take from a client what was read already, and read on if that is not too much."""
        connection, client = self._names.get(name), self._dispatch.clients.get(name)
        if connection is None or client is None:
            return
        backlog = self._backlogs.get(name)
        while backlog and not client.is_paused:
            letter = backlog.popleft()
            if isinstance(letter, tuple):
                self._end(connection, name, *letter)
            else:
                self._dispatch.set_back(-EVENT_OVERHEAD - len(letter))
                self._say(connection, name, letter)
        if not backlog:
            self._backlogs.pop(name, None)
        if connection.state is State.OPEN and not client.is_paused:
            connection._link.resume(PAUSED_BY_QUEUE)  # noqa: SLF001 - as above

    def _keep(self, name: ClientId, session: bytes) -> None:
        connection = self._names.get(name)
        if name in self._visitors:
            connection = self._visitors[name].connection
        if connection is None:
            return
        try:
            decoded = _decoder.decode(session) if session else None
        except (msgspec.MsgspecError, ValueError, RecursionError):
            self.noticed("bad_session", f"what was said to be the session of {name} is none")
            return
        connection._session = decoded  # noqa: SLF001 - the row below's own

    def _reply(self, name: ClientId, answer: parcels.Answer) -> None:
        visitor = self._visitors.pop(name, None)
        if visitor is not None:
            visitor.deadline.cancel()
            visitor.answer(_refusal(answer))

    def _set_aside(self, action: SetAside) -> None:
        self.counts["events_set_aside"] += 1
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
        self._act()
        self._timer = self._loop.call_later(STEP, self._tick)

    def _probed(self, node: NodeId, is_there: bool | None) -> None:  # noqa: FBT001 - the bus's answer
        if is_there is not None:
            self._dispatch.probed(node, self._loop.time(), is_there=is_there)
            self._touch()


def _refusal(answer: parcels.Answer) -> Exception | None:
    if not answer.status:
        return None
    try:
        return Refuse(answer.status, answer.text, answer.headers)
    except ValueError:
        return Refuse(500)
