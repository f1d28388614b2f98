"""
Serves a worker whose clients are SDKs of the Centrifuge client protocol.

A :class:`~gateman.clients.session.ClientSession` says what each frame of a client means. What it
asks is answered here: by the options of channels, and by the application's callbacks.
"""

import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from ..clients.channel import ChannelRules
from ..clients.codes import DisconnectCode, sdk_close
from ..clients.limits import ClientLimits
from ..clients.session import Action, Ask, ClientSession, Close, Send, Unsubscribed
from ..cluster.membership import ConnectionMembership
from ..cluster.names import ClientId
from ..cluster.node import Node
from ..config.callbacks import Function
from ..config.settings import WorkerSettings
from ..connection import Connection, State
from ..net.handshake_config import PROTOBUF_SUBPROTOCOL
from ..options import SlowConsumer
from .client import Client
from .client_callbacks import (
    ClientCallbacks,
)
from .client_commands import ClientCommands
from .client_presence import ClientPresence
from .client_send_buffer import (
    ClientSendBuffer,
    MeasuredClientSendBuffer,
)
from .client_subscriptions import ClientSubscriptions
from .worker_service import WorkerService

if TYPE_CHECKING:
    from ..clients.tokens import Tokens
    from .client_token_checks import TokenChecks
    from .measurements import Measurements


class ClientService(WorkerService):
    """Serves one worker with SDK clients."""

    has_text_messages = False

    def __init__(
        self,
        settings: WorkerSettings,
        functions: dict[str, Function],
        worker: object,
        connections: dict[int, Connection],
        measurements: "Measurements | None" = None,
    ) -> None:
        settings = replace(
            settings,
            subprotocols=(PROTOBUF_SUBPROTOCOL, *settings.subprotocols),
            # A message that is dropped would be missing without notice; a client that is
            # disconnected comes back, and recovers it.
            slow_consumer=SlowConsumer.CLOSE,
        )
        super().__init__(settings, functions, worker, connections, measurements)
        self.deliver = self._counted(self._received)
        self._rules = ChannelRules(settings.channels)
        self._limits = limits = settings.client_limits or ClientLimits()
        self._tokens = _token_checks(settings.tokens, limits.max_token_size)
        self._callbacks = self._make_callbacks()
        self._clients: dict[ClientId, Client] = {}
        # From the 101 on; a connection that is closing has none.
        self._client_of: dict[Connection, Client] = {}
        self._subscriptions: ClientSubscriptions | None = None
        self._presence: ClientPresence | None = None
        self._commands: ClientCommands | None = None
        self._is_replaced = False

    def _make_callbacks(self) -> ClientCallbacks:
        return ClientCallbacks(self._functions, self._callback_runner)

    @property
    def _node(self) -> Node:
        assert self._membership is not None
        return self._membership.local_node

    async def start(
        self, sockets: Sequence[socket.socket], membership: ConnectionMembership
    ) -> None:
        """Run ``on_worker_start``, and then accept."""
        node = membership.local_node
        node.local_clients.has_channels = True
        self._presence = ClientPresence(node, self._rules, self._clients)
        self._subscriptions = ClientSubscriptions(
            node,
            self._rules,
            self._clients,
            self._act,
            self._presence,
            max_recovered=self._limits.max_recovered_publications,
            max_unsent=self.settings.limits.max_send_buffer_size,
            now=self._loop.time,
        )
        self._commands = ClientCommands(
            node,
            self._rules,
            self._limits,
            callbacks=self._callbacks,
            tokens=self._tokens,
            subscriptions=self._subscriptions,
            presence=self._presence,
            act=self._act,
            admit=self._admit,
            note=self._callback_runner.note,
            now=self._loop.time,
        )
        node.actions.subscribers.append(self._subscriptions)
        if node.channels.history is not None:
            node.channels.history.on_lost.append(self._subscriptions.lost)
        await super().start(sockets, membership)
        # Behind `on_worker_start`, whose context the application's functions get.
        self._presence.start(self._functions)

    async def drain(
        self, code: int, reason: str, *, window: float, may_stay: Callable[[], bool] = bool
    ) -> None:
        """Refuse handshakes, and close the connections in steps: another process has begun."""
        self._is_replaced = True
        await super().drain(code, reason, window=window, may_stay=may_stay)

    async def _finish_events(self, deadline: float) -> None:
        if self._presence is not None:
            seconds = deadline - self._loop.time()
            await self._presence.finish(seconds, is_reload=self._is_replaced)
        await super()._finish_events(deadline)

    async def stop(self, code: int, reason: str) -> None:
        """Close all connections, then run ``on_worker_stop``, all within ``timeouts.shutdown``."""
        await super().stop(code, reason)
        if self._subscriptions is not None:
            self._subscriptions.stop()

    def _of_handshakes(self) -> dict[str, Any]:
        made = super()._of_handshakes()
        if self.measurements is None:
            made["make_send_buffer"] = partial(ClientSendBuffer, counts=self._node.counts)
        else:
            made["make_send_buffer"] = partial(
                MeasuredClientSendBuffer,
                traffic=self.measurements.traffic,
                counts=self._node.counts,
            )
        return made

    def _of_connections(self) -> dict[str, Any]:
        return {"close_for_client": sdk_close}

    # The life of a connection.

    def _add_member(self, connection: Connection) -> None:
        """Wait for the connect command; until then the hub does not know the client."""
        assert self._membership is not None
        interval = self.settings.timeouts.ping_interval
        send_buffer = connection.send_buffer
        assert isinstance(send_buffer, (ClientSendBuffer, MeasuredClientSendBuffer))
        session = ClientSession(
            send_buffer.codec,
            self._limits,
            self._loop.time(),
            ping_interval=0 if interval is None else max(1, round(interval)),
        )
        client = Client(connection, ClientId(self._membership.client_id(connection)), session)
        self._client_of[connection] = client
        self._set_timer(client)

    def _admit(self, client: Client) -> None:
        """Make a client known to the hub: it has its answer."""
        assert self._membership is not None
        self._clients[client.id] = client
        self._node.local_clients.add(client.id, client.connection)
        client.send_buffer.release()

    def closing(self, connection: Connection) -> None:
        """Deliver no more commands, not even those that wait for a callback."""
        self._forget(connection)
        super().closing(connection)

    def closed(self, connection: Connection, code: int, reason: str) -> None:
        """Remove an open connection, and call ``on_close``."""
        self._forget(connection)
        super().closed(connection, code, reason)
        if self._presence is not None and self._membership is not None:
            self._presence.closed(self._membership.client_id(connection), code)

    def _forget(self, connection: Connection) -> None:
        client = self._client_of.pop(connection, None)
        if client is None:
            return
        client.session.closed()
        self._clients.pop(client.id, None)
        if client.timer is not None:
            client.timer.cancel()
            client.timer = None

    # Frames, and what sessions make of them.

    def _received(self, connection: Connection, message: str | bytes) -> None:
        client = self._client_of.get(connection)
        if client is not None:
            self._act(client, client.session.receive(message, self._loop.time()))

    def _act(self, client: Client, actions: Sequence[Action]) -> None:
        """Carry out what a session says."""
        for action in actions:
            if client.connection.state is not State.OPEN:
                return
            match action:
                case Send(payload):
                    client.send_buffer.send_encoded(payload)
                case Ask(number, request):
                    assert self._commands is not None
                    self._commands.ask(client, number, request)
                case Unsubscribed():
                    assert self._subscriptions is not None
                    self._subscriptions.ended(client, action)
                case Close(code, reason):
                    if code == DisconnectCode.BAD_REQUEST:
                        self._rate_limited.warning(
                            "bad request",
                            f"{self}: {client.connection} is closed with {code}: it sent what is"
                            " not a command of the client protocol; clients without an SDK need a"
                            " worker without client_protocol, and SDKs have to speak version 2 of"
                            " the protocol, as centrifuge for JavaScript does from 3.0 on",
                            self._loop.time(),
                        )
                    client.connection.close(code, reason)
        if actions:
            self._set_timer(client)

    def _set_timer(self, client: Client) -> None:
        at = client.session.deadline()
        timer = client.timer
        if timer is not None:
            if at == timer.when():
                return
            timer.cancel()
        client.timer = None if at is None else self._loop.call_at(at, self._tick, client)

    def _tick(self, client: Client) -> None:
        client.timer = None
        actions = client.session.tick(self._loop.time())
        if actions:
            self._act(client, actions)
        else:
            self._set_timer(client)


def _token_checks(tokens: "Tokens | None", max_size: int) -> "TokenChecks | None":
    if tokens is None:
        return None
    # Imported here, with PyJWT: not all services have tokens.
    from .client_token_checks import TokenChecks
    from .client_tokens import ClientTokens

    return TokenChecks(ClientTokens(tokens, max_size))
