"""
Answers the commands of SDK clients: by the options of channels, tokens and callbacks.

Each answer is a call of the client's session, whose actions are carried out by the service.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from ..clients.allow import Allow, merged
from ..clients.channel import EVERYONE, SUBSCRIBERS, Channel, ChannelRules, is_personal
from ..clients.codes import ErrorCode
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
from ..clients.session import Action
from ..cluster.envelope import Bind, BindOnly, ClientAction
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
from ..connection import Connection, State
from ..errors import BusError, ConfigError, EnvelopeError, HubError
from ..history.base import Position
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
    data_of,
    info_of,
)
from .client_subscriptions import ClientSubscriptions, Connecting, target_of

if TYPE_CHECKING:
    from ..clients.tokens import ConnectionClaims
    from .client_token_checks import TokenChecks

VERSION = "gateman"

Granted = Callable[[Allow], None]


class ClientCommands:
    """The commands of all SDK clients of a worker in one process."""

    def __init__(
        self,
        node: Node,
        rules: ChannelRules,
        limits: ClientLimits,
        *,
        callbacks: ClientCallbacks,
        tokens: "TokenChecks | None",
        subscriptions: ClientSubscriptions,
        presence: ClientPresence,
        act: Callable[[Client, Sequence[Action]], None],
        admit: Callable[[Client], None],
        note: Callable[[str, Connection, Exception], object],
        now: Callable[[], float],
    ) -> None:
        self._node = node
        self._rules = rules
        self._limits = limits
        self._callbacks = callbacks
        self._tokens = tokens
        self._subscriptions = subscriptions
        self._presence = presence
        self._act = act
        self._admit = admit
        self._note = note
        self._now = now

    def ask(self, client: Client, number: int, request: Any) -> None:
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
            except (TypeError, ValueError) as error:
                self._returned_wrong(name, client, number, f"what cannot be sent: {error}")

        self._callbacks.decide(name, client.connection, *args, is_allowed=is_allowed, then=answered)

    def _returned_wrong(self, name: str, client: Client, number: int, problem: str) -> None:
        self._note(name, client.connection, TypeError(f"{name} returned {problem}"))
        self._refuse(client, number, INTERNAL)

    def _connect(self, client: Client, number: int, request: ConnectRequest) -> None:
        if self._tokens is not None and request.token:
            checking = self._connect_by_token(self._tokens, client, number, request)
            self._subscriptions.spawn(checking, client, number)
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
            if claims is not None and self._tokens is not None:
                allowed = merged(allowed, self._tokens.allow(claims.expires_at, claims.info))
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

    def _subscribe(self, client: Client, number: int, request: SubscribeRequest) -> None:
        channel = request.channel
        if is_personal(channel):
            self._refuse(client, number, DENIED)
            return
        if self._tokens is not None and request.token:
            checking = self._subscribe_by_token(self._tokens, client, number, request)
            self._subscriptions.spawn(checking, client, number)
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
            if known is not None:
                allowed = merged(allowed, known)
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
                appended = self._node.sender.send(target, (name,), PACKED, pack(packed))
            except (HubError, ConfigError):
                self._refuse(client, number, Refused(ErrorCode.LIMIT_EXCEEDED))
                return
            if appended:
                publishing = self._published(client, number, appended[0])
                self._subscriptions.spawn(publishing, client, number)
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
                self._returned_wrong("on_rpc", client, number, f"what cannot be sent: {error}")
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
            self._subscriptions.spawn(self._read(client, number, request), client, number)

    async def _read(self, client: Client, number: int, request: HistoryRequest) -> None:
        # One page at a time: a client may ask for hundreds at once, and each has megabytes.
        if client.reading is None:
            client.reading = asyncio.Lock()
        async with client.reading:
            if client.connection.state is State.OPEN:
                await self._read_page(client, number, request)

    async def _read_page(self, client: Client, number: int, request: HistoryRequest) -> None:
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
            answering = self._answer_presence(client, number, request)
            self._subscriptions.spawn(answering, client, number)

    async def _answer_presence(
        self, client: Client, number: int, request: PresenceRequest | PresenceStatsRequest
    ) -> None:
        answer = await self._presence.answer(request)
        if isinstance(answer, Refused):
            self._refuse(client, number, answer)
        else:
            self._act(client, client.session.answered(number, answer))

    def _refresh(self, client: Client, number: int, name: str, *args: str) -> None:
        if self._tokens is not None:
            checking = self._refresh_by_token(self._tokens, client, number, name, args)
            self._subscriptions.spawn(checking, client, number)
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
            if allowed.data is not None and allowed.expires_in is None:
                # Mostly a number of seconds: taken for a yes, it would prolong without an end.
                problem = "data, which no refresh has: return Allow(expires_in=…), True or False"
                self._returned_wrong(name, client, number, problem)
                return
            if known is not None:
                allowed = merged(allowed, known)
            actions = client.session.refreshed(number, self._now(), ttl=allowed.expires_in)
            self._act(client, actions)

        self._decide(name, client, number, *args, is_allowed=known is not None, then=accept)


def _ignore(_result: object) -> None:
    """Take the result of a callback that has no answer."""


def _uid_of(early: Sequence[ClientAction]) -> str:
    uids = [one.uid for one in early if isinstance(one, (Bind, BindOnly))]
    return uids[-1] if uids else ""
