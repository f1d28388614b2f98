"""
Serves a worker whose clients are SDKs of the Centrifuge client protocol.

A :class:`~gateman.clients.session.ClientSession` says what each frame of a client means. What it
asks is answered here: by the options of channels, and by the application's callbacks.
"""

import asyncio
import dataclasses
import socket
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import Raw
from msgspec.structs import replace

from ..clients.allow import Allow
from ..clients.channel import EVERYONE, SUBSCRIBERS, Channel, ChannelRules, is_personal
from ..clients.codes import ErrorCode, sdk_close
from ..clients.limits import ClientLimits
from ..clients.messages import (
    ConnectRequest,
    ConnectResult,
    HistoryRequest,
    HistoryResult,
    PresenceRequest,
    PresenceStatsRequest,
    Publication,
    PublishRequest,
    PublishResult,
    RefreshRequest,
    RpcRequest,
    RpcResult,
    SendRequest,
    SubRefreshRequest,
    SubscribeRequest,
    raw,
)
from ..clients.session import Action, Ask, ClientSession, Close, Send, Unsubscribed
from ..cluster.envelope import Bind, BindOnly, ClientAction
from ..cluster.membership import ConnectionMembership
from ..cluster.names import ClientId
from ..cluster.node import Node
from ..cluster.publication import (
    PACKED,
    PackedPublication,
    as_json,
    as_message,
    pack,
    unpack,
)
from ..cluster.publication import (
    Publication as Published,
)
from ..config.callbacks import Function
from ..config.settings import WorkerSettings
from ..connection import Connection, State
from ..errors import BusError, ConfigError, EnvelopeError, HubError
from ..history.base import Position
from ..options import SlowConsumer
from .client import Client
from .client_callbacks import (
    DENIED,
    INTERNAL,
    ClientCallbacks,
    Disconnected,
    Refusal,
    Refused,
)
from .client_presence import ClientPresence
from .client_send_buffer import (
    PROTOBUF_SUBPROTOCOL,
    ClientSendBuffer,
    MeasuredClientSendBuffer,
    data_of,
    info_of,
)
from .client_subscriptions import ClientSubscriptions, Connecting, target_of
from .worker_service import WorkerService

if TYPE_CHECKING:
    from ..clients.tokens import ConnectionClaims, Tokens
    from .client_token_checks import TokenChecks
    from .measurements import Measurements

Granted = Callable[[Allow], None]


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
            now=self._loop.time,
        )
        node.subscribers.append(self._subscriptions)
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
                    self._ask(client, number, request)
                case Unsubscribed():
                    assert self._subscriptions is not None
                    self._subscriptions.ended(client, action)
                case Close(code, reason):
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

    def _refuse(self, client: Client, number: int, refusal: Refusal) -> None:
        if isinstance(refusal, Disconnected):
            self._act(client, client.session.disconnect(refusal.code, refusal.reason))
        else:
            self._act(
                client,
                client.session.refused(
                    number, refusal.code, refusal.message, is_temporary=refusal.is_temporary
                ),
            )

    def _decide(
        self,
        name: str,
        client: Client,
        number: int,
        *args: Any,
        is_allowed: bool,
        then: Granted,
    ) -> None:
        """Ask a callback; go on with ``then`` if the command is allowed."""

        def answered(verdict: Allow | Refusal) -> None:
            if not isinstance(verdict, Allow):
                self._refuse(client, number, verdict)
                return
            try:
                then(verdict)
            except TypeError as error:
                # What it has returned cannot be written for this client.
                self._callback_runner.note(name, client.connection, error)
                self._refuse(client, number, INTERNAL)

        self._callbacks.decide(name, client.connection, *args, is_allowed=is_allowed, then=answered)

    def _ask(self, client: Client, number: int, request: Any) -> None:
        """Answer a command."""
        match request:
            case ConnectRequest():
                self._connect(client, number, request)
            case SubscribeRequest():
                self._subscribe(client, number, request)
            case PublishRequest():
                self._publish(client, number, request)
            case RpcRequest():
                self._call(client, number, request)
            case SendRequest():
                self._callbacks.call(
                    "on_message", client.connection, client.read(request.data), then=_ignore
                )
            case HistoryRequest():
                self._history(client, number, request)
            case PresenceRequest() | PresenceStatsRequest():
                self._ask_presence(client, number, request)
            case RefreshRequest(token):
                self._refresh(client, number, "on_refresh", token)
            case SubRefreshRequest(channel, token):
                self._refresh(client, number, "on_sub_refresh", channel, token)
            case _:
                self._refuse(client, number, Refused(ErrorCode.NOT_AVAILABLE))

    # The commands.

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        assert self._subscriptions is not None
        self._subscriptions.spawn(coroutine)

    def _connect(self, client: Client, number: int, request: ConnectRequest) -> None:
        if self._tokens is not None and request.token:
            self._spawn(self._connect_by_token(self._tokens, client, number, request))
        else:
            self._ask_about_connect(client, number, request, None)

    async def _connect_by_token(
        self, tokens: "TokenChecks", client: Client, number: int, request: ConnectRequest
    ) -> None:
        claims = await tokens.connection(request.token)
        if client.connection.state is not State.OPEN:
            return
        if isinstance(claims, Refusal):
            self._refuse(client, number, claims)
            return
        if claims.user:
            client.connection.bind(claims.user)
        for channel, subscription in claims.subs.items():
            # The user's own comes with the user.
            if not is_personal(channel):
                client.connection.join(channel)
            if subscription.info:
                client.allowed[channel] = Allow(info=client.read(Raw(subscription.info)))
        self._ask_about_connect(client, number, request, claims)

    def _ask_about_connect(
        self,
        client: Client,
        number: int,
        request: ConnectRequest,
        claims: "ConnectionClaims | None",
    ) -> None:
        def accept(allowed: Allow) -> None:
            assert self._subscriptions is not None
            if claims is not None and self._tokens is not None:
                allowed = self._tokens.merge(allowed, claims.expires_at, claims.info)
            client.info = b"" if allowed.info is None else as_json(allowed.info)
            result = ConnectResult(client=client.id, version=VERSION)
            result.data = raw(b"" if allowed.data is None else client.write(allowed.data))
            early = self._node.local_clients.early_actions(client.id)
            client.uid = _uid_of(early)
            connecting = Connecting(
                number,
                result,
                early,
                request.subs,
                {} if claims is None else {name: sub.data for name, sub in claims.subs.items()},
                lambda: self._admit(client),
                allowed.expires_in,
            )
            self._subscriptions.connect(client, connecting)

        self._decide(
            "on_client_connect",
            client,
            number,
            request.token,
            client.read(request.data),
            is_allowed=True,
            then=accept,
        )

    def _admit(self, client: Client) -> None:
        """Make a client known to the hub: it has its answer."""
        assert self._membership is not None
        self._clients[client.id] = client
        self._node.local_clients.add(client.id, client.connection)
        client.send_buffer.release()

    def _subscribe(self, client: Client, number: int, request: SubscribeRequest) -> None:
        channel = request.channel
        if is_personal(channel):
            self._refuse(client, number, DENIED)
            return
        if self._tokens is not None and request.token:
            self._spawn(self._subscribe_by_token(self._tokens, client, number, request))
        else:
            is_allowed = self._options(channel).subscribe
            self._ask_about_subscribe(client, number, request, Allow() if is_allowed else None)

    async def _subscribe_by_token(
        self, tokens: "TokenChecks", client: Client, number: int, request: SubscribeRequest
    ) -> None:
        allowed = await tokens.subscription(client, request.channel, request.token)
        if isinstance(allowed, Allow):
            self._ask_about_subscribe(client, number, request, allowed)
        else:
            self._refuse(client, number, allowed)

    def _ask_about_subscribe(
        self, client: Client, number: int, request: SubscribeRequest, known: Allow | None
    ) -> None:
        def accept(allowed: Allow) -> None:
            assert self._subscriptions is not None
            if known is not None:
                allowed = _merged(allowed, known)
            self._subscriptions.subscribe(client, number, request, allowed)

        self._decide(
            "on_subscribe",
            client,
            number,
            request.channel,
            client.read(request.data),
            is_allowed=known is not None,
            then=accept,
        )

    def _options(self, channel: str) -> Channel:
        return self._rules.options_of(channel)

    def _may(self, client: Client, channel: str, what: str) -> bool:
        """Tell whether a client may publish, or read the history or the presence of a channel."""
        allowed = client.allowed.get(channel)
        own = None if allowed is None else getattr(allowed, what)
        is_subscribed = client.session.is_subscribed(channel)
        if own is not None:
            return bool(own) and is_subscribed
        permission = getattr(self._options(channel), what)
        return permission == EVERYONE or (permission == SUBSCRIBERS and is_subscribed)

    def _publish(self, client: Client, number: int, request: PublishRequest) -> None:
        channel = request.channel
        may = self._may(client, channel, "publish")
        if is_personal(channel) and not may:
            self._refuse(client, number, DENIED)
            return

        def accept(allowed: Allow) -> None:
            kind, data = (
                client.message(request.data) if allowed.data is None else as_message(allowed.data)
            )
            packed = PackedPublication(kind, data, client.publisher(channel))
            target, name = target_of(channel)
            try:
                appended = self._node.send(target, (name,), PACKED, pack(packed))
            except (HubError, ConfigError):
                self._refuse(client, number, Refused(ErrorCode.LIMIT_EXCEEDED))
                return
            if appended:
                self._spawn(self._published(client, number, appended[0]))
            else:
                self._act(client, client.session.answered(number, PublishResult()))

        self._decide(
            "on_publish",
            client,
            number,
            channel,
            client.read(request.data),
            is_allowed=may,
            then=accept,
        )

    async def _published(
        self, client: Client, number: int, appended: "asyncio.Future[Position | None]"
    ) -> None:
        try:
            await asyncio.shield(appended)
        except BusError:
            self._refuse(client, number, INTERNAL)
        else:
            self._act(client, client.session.answered(number, PublishResult()))

    def _call(self, client: Client, number: int, request: RpcRequest) -> None:
        if "on_rpc" not in self._callbacks:
            self._refuse(client, number, Refused(ErrorCode.METHOD_NOT_FOUND))
            return

        def reply(result: Any) -> None:
            if isinstance(result, Refusal):
                self._refuse(client, number, result)
                return
            value = result.data if isinstance(result, Allow) else result
            try:
                data = client.write(value)
            except TypeError as error:
                self._callback_runner.note("on_rpc", client.connection, error)
                self._refuse(client, number, INTERNAL)
            else:
                self._act(client, client.session.answered(number, RpcResult(data=raw(data))))

        self._callbacks.call(
            "on_rpc", client.connection, request.method, client.read(request.data), then=reply
        )

    def _history(self, client: Client, number: int, request: HistoryRequest) -> None:
        channels = self._node.channels.history
        if channels is None or channels.limits(*target_of(request.channel)) is None:
            self._refuse(client, number, Refused(ErrorCode.NOT_AVAILABLE))
        elif not self._may(client, request.channel, "history"):
            self._refuse(client, number, DENIED)
        else:
            self._spawn(self._read(client, number, request))

    async def _read(self, client: Client, number: int, request: HistoryRequest) -> None:
        channels = self._node.channels.history
        assert channels is not None
        most = self._limits.max_history_publications
        limit = most if request.limit < 0 else min(request.limit, most)
        since = None if request.since is None else Position(
            request.since.epoch, request.since.offset
        )  # fmt: skip
        try:
            page = await channels.store.read(
                request.channel, limit=limit, since=since, is_reverse=request.reverse
            )
        except BusError:
            self._refuse(client, number, INTERNAL)
            return
        if since is not None and since.epoch and since.epoch != page.position.epoch:
            self._refuse(client, number, Refused(ErrorCode.UNRECOVERABLE_POSITION))
            return
        publications: list[Publication] = []
        for message in page.messages:
            try:
                made = Published.of_packed(unpack(message.payload), request.channel, message.offset)
            except EnvelopeError:
                continue
            data = data_of(made.kind, bytes(made), client.session.codec)
            if data is not None:
                publications.append(
                    Publication(
                        data=raw(data),
                        info=info_of(made.info),
                        offset=made.offset,
                        tags=made.tags,
                    )
                )
        epoch, offset = page.position
        result = HistoryResult(publications=publications, epoch=epoch, offset=offset)
        self._act(client, client.session.answered(number, result))

    def _ask_presence(
        self, client: Client, number: int, request: PresenceRequest | PresenceStatsRequest
    ) -> None:
        if not self._options(request.channel).presence:
            self._refuse(client, number, Refused(ErrorCode.NOT_AVAILABLE))
        elif not self._may(client, request.channel, "presence"):
            self._refuse(client, number, DENIED)
        else:
            assert self._subscriptions is not None
            self._subscriptions.spawn(self._answer_presence(client, number, request))

    async def _answer_presence(
        self, client: Client, number: int, request: PresenceRequest | PresenceStatsRequest
    ) -> None:
        assert self._presence is not None
        answer = await self._presence.answer(request)
        if isinstance(answer, Refused):
            self._refuse(client, number, answer)
        else:
            self._act(client, client.session.answered(number, answer))

    def _refresh(self, client: Client, number: int, name: str, *args: str) -> None:
        if self._tokens is not None:
            self._spawn(self._refresh_by_token(self._tokens, client, number, name, args))
        elif name in self._callbacks:
            self._ask_about_refresh(client, number, name, args, None)
        else:
            self._refuse(client, number, Refused(ErrorCode.NOT_AVAILABLE))

    async def _refresh_by_token(
        self,
        tokens: "TokenChecks",
        client: Client,
        number: int,
        name: str,
        args: tuple[str, ...],
    ) -> None:
        allowed = await (
            tokens.refresh(client, *args)
            if name == "on_refresh"
            else tokens.subscription(client, *args)
        )
        if isinstance(allowed, Allow):
            self._ask_about_refresh(client, number, name, args, allowed)
        else:
            self._refuse(client, number, allowed)

    def _ask_about_refresh(
        self, client: Client, number: int, name: str, args: tuple[str, ...], known: Allow | None
    ) -> None:
        def accept(allowed: Allow) -> None:
            ttl = allowed.expires_in
            if ttl is None and known is not None:
                ttl = known.expires_in
            self._act(client, client.session.refreshed(number, self._loop.time(), ttl=ttl))

        self._decide(name, client, number, *args, is_allowed=known is not None, then=accept)


VERSION = "gateman"


def _token_checks(tokens: "Tokens | None", max_size: int) -> "TokenChecks | None":
    if tokens is None:
        return None
    # Imported here, with PyJWT: not all services have tokens.
    from .client_token_checks import TokenChecks
    from .client_tokens import ClientTokens

    return TokenChecks(ClientTokens(tokens, max_size))


def _ignore(_result: object) -> None:
    """Take the result of a callback that has no answer."""


def _merged(allowed: Allow, known: Allow) -> Allow:
    """Add what a token says to what a callback said, which comes first."""
    if allowed.expires_in is None and known.expires_in is not None:
        allowed = dataclasses.replace(allowed, expires_in=known.expires_in)
    if allowed.info is None and known.info is not None:
        allowed = dataclasses.replace(allowed, info=known.info)
    return allowed


def _uid_of(early: Sequence[ClientAction]) -> str:
    uids = [one.uid for one in early if isinstance(one, (Bind, BindOnly))]
    return uids[-1] if uids else ""
