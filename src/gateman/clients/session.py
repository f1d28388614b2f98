"""
One client's side of the protocol: its state, what it may ask for, and what it is answered. PURE.

    NEW ── connect command ──> CONNECTING ── connected() ──> CONNECTED ── disconnect() ──> CLOSED
     ^──────────── refused() ───────┘

Each method returns actions, to be done in order. The application answers each :class:`Ask` once, at
any time and in any order. Pings are the shell's: it sends ``codec.ping``.
"""

from collections import deque
from enum import Enum

from msgspec import Struct

from ..errors import PacketError
from .codec import Codec
from .codes import (
    ERROR_MESSAGES,
    TEMPORARY_ERRORS,
    UNSUBSCRIBE_REASONS,
    DisconnectCode,
    ErrorCode,
    UnsubscribeCode,
    sdk_close,
)
from .limits import ClientLimits, Rate
from .messages import (
    Command,
    ConnectRequest,
    ConnectResult,
    Error,
    HistoryResult,
    PingRequest,
    PingResult,
    PresenceResult,
    PresenceStatsResult,
    PublishRequest,
    PublishResult,
    Push,
    RefreshRequest,
    RefreshResult,
    Reply,
    Request,
    RpcResult,
    SendRequest,
    SubRefreshRequest,
    SubRefreshResult,
    Subscribe,
    SubscribeRequest,
    SubscribeResult,
    Unsubscribe,
    UnsubscribeRequest,
    UnsubscribeResult,
)


class State(Enum):
    NEW = "new"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    CLOSED = "closed"


class Send(Struct, frozen=True, gc=False):
    """Send these bytes in one frame."""

    payload: bytes


class Close(Struct, frozen=True, gc=False):
    """Close the connection."""

    code: int
    reason: str


class Ask(Struct, frozen=True, gc=False):
    """The application is to answer; a SendRequest has ``id`` 0 and no answer."""

    id: int
    request: Request


class Unsubscribed(Struct, frozen=True, gc=False):
    """The client is no longer subscribed, so it gets no more publications of the channel."""

    channel: str
    code: int  # 0 if the client asked for it
    reason: str


Action = Send | Close | Ask | Unsubscribed

Result = PublishResult | PresenceResult | PresenceStatsResult | HistoryResult | RpcResult

# The field of the reply.
_ANSWERS: dict[type, str] = {
    PublishResult: "publish",
    PresenceResult: "presence",
    PresenceStatsResult: "presence_stats",
    HistoryResult: "history",
    RpcResult: "rpc",
}

_MAX_TTL = (1 << 32) - 1  # seconds


class Subscription(Struct, gc=False):
    """A channel of the client."""

    is_server_side: bool = False
    is_subscribed: bool = False
    """False while the application has not answered."""
    number: int = 0
    """The id of the client's command; 0 for a server-side one."""
    expires_at: float | None = None
    ended: tuple[int, str] | None = None
    """The server has unsubscribed it before its answer: the SDK knows it only afterwards."""


class ClientSession:
    """The state of one client; times are by the monotonic clock."""

    __slots__ = (
        "_asked",
        "_commands",
        "_connect_by",
        "_expires_at",
        "_held",
        "_pending",
        "_ping_interval",
        "_publishes",
        "_waiting",
        "codec",
        "limits",
        "state",
        "subscriptions",
    )

    def __init__(
        self,
        codec: Codec,
        limits: ClientLimits,
        now: float,  # the time of the 101
        *,
        ping_interval: int = 25,  # seconds between the shell's pings, for the SDK; 0 for none
    ) -> None:
        self.codec = codec
        self.limits = limits
        self.state = State.NEW
        self.subscriptions: dict[str, Subscription] = {}
        self._ping_interval = ping_interval
        self._commands = Rate(limits.max_commands_per_second)
        self._publishes = Rate(limits.max_publishes_per_second)
        # The ids of all commands without a reply.
        self._pending: set[int] = set()
        # What the application has not answered, by id.
        self._asked: dict[int, Request] = {}
        # Commands that came before the answer to connect.
        self._held: list[tuple[int, Request]] = []
        # Subscribes and unsubscribes after a subscribe to the same channel, not yet answered.
        self._waiting: dict[str, deque[tuple[int, SubscribeRequest | UnsubscribeRequest]]] = {}
        self._connect_by = now + limits.connect_timeout
        self._expires_at: float | None = None

    # Commands

    def receive(self, frame: str | bytes, now: float) -> list[Action]:
        if self.state is State.CLOSED:
            return []
        try:
            commands = self.codec.decode(frame, self.limits.max_commands_per_frame)
        except PacketError:
            return self.disconnect(DisconnectCode.BAD_REQUEST)
        actions: list[Action] = []
        for command in commands:
            if not self._commands.take(now):
                actions += self.disconnect(DisconnectCode.TOO_MANY_REQUESTS)
            else:
                actions += self._command(command, now)
            if actions and isinstance(actions[-1], Close):
                break
        return actions

    def _command(self, command: Command, now: float) -> list[Action]:
        requests = command.requests()
        if not requests and self.state is not State.NEW:
            # A pong, or a command of a later version.
            return self._error(command.id, ErrorCode.METHOD_NOT_FOUND)
        # With none, SDKs of version 1 of the protocol connect.
        request = requests[0] if len(requests) == 1 else None
        is_send = isinstance(request, SendRequest)
        is_connect = isinstance(request, ConnectRequest)
        number = 0 if is_send else command.id
        if (
            request is None
            or number in self._pending
            or not (number or is_send)
            or is_connect != (self.state is State.NEW)
        ):
            return self.disconnect(DisconnectCode.BAD_REQUEST)
        if len(self._pending) + len(self._held) >= self.limits.max_pending_commands:
            return self._error(number, ErrorCode.TOO_MANY_REQUESTS)
        if number:
            self._pending.add(number)
        if is_connect:
            self.state = State.CONNECTING
            return self._ask(number, request)
        if self.state is State.CONNECTING:
            self._held.append((number, request))
            return []
        return self._request(number, request, now)

    def _request(self, number: int, request: Request, now: float) -> list[Action]:
        if isinstance(request, SendRequest):
            return [Ask(0, request)]
        if isinstance(request, PingRequest):
            return self._reply(Reply(id=number, ping=PingResult()))
        if isinstance(request, (SubscribeRequest, UnsubscribeRequest)):
            return self._subscribe_or_unsubscribe(number, request)
        refusal = self._refusal(request, now)
        if refusal is not None:
            return self._error(number, refusal)
        return self._ask(number, request)

    def _refusal(self, request: Request, now: float) -> ErrorCode | None:
        """Return why a request does not reach the application."""
        if isinstance(request, PublishRequest):
            if not self._publishes.take(now):
                return ErrorCode.TOO_MANY_REQUESTS
            if not bytes(request.data):
                return ErrorCode.BAD_REQUEST
        if isinstance(request, SubRefreshRequest) and not self._is_own(request.channel):
            return ErrorCode.PERMISSION_DENIED
        # Of a connect, an rpc and a refresh: none.
        channel = getattr(request, "channel", None)
        if channel is not None and not self._is_name(channel):
            return ErrorCode.BAD_REQUEST
        return None

    def _ask(self, number: int, request: Request) -> list[Action]:
        self._asked[number] = request
        return [Ask(number, request)]

    def _is_name(self, channel: str) -> bool:
        return 0 < len(channel.encode()) <= self.limits.max_channel_size

    def _is_own(self, channel: str) -> bool:
        """Whether the client itself has subscribed to it, successfully."""
        subscription = self.subscriptions.get(channel)
        return (
            subscription is not None
            and subscription.is_subscribed
            and not subscription.is_server_side
        )

    def is_subscribed(self, channel: str) -> bool:
        subscription = self.subscriptions.get(channel)
        return subscription is not None and subscription.is_subscribed

    def is_subscribing(self, number: int) -> bool:
        """Whether :meth:`subscribed` will subscribe: the server may have done it meanwhile."""
        request = self._asked.get(number)
        if not isinstance(request, SubscribeRequest):
            return False
        subscription = self.subscriptions.get(request.channel)
        return subscription is not None and subscription.number == number

    def _subscribe_or_unsubscribe(
        self, number: int, request: SubscribeRequest | UnsubscribeRequest
    ) -> list[Action]:
        channel = request.channel
        if not self._is_name(channel):
            return self._error(number, ErrorCode.BAD_REQUEST)
        subscription = self.subscriptions.get(channel)
        if subscription is not None and not subscription.is_subscribed:
            self._waiting.setdefault(channel, deque()).append((number, request))
            return []
        if isinstance(request, UnsubscribeRequest):
            return self._unsubscribe(number, channel, subscription)
        if subscription is not None:
            return self._error(number, ErrorCode.ALREADY_SUBSCRIBED)
        own = sum(not one.is_server_side for one in self.subscriptions.values())
        if own >= self.limits.max_subscriptions:
            return self._error(number, ErrorCode.LIMIT_EXCEEDED)
        self.subscriptions[channel] = Subscription(number=number)
        return self._ask(number, request)

    def _unsubscribe(
        self, number: int, channel: str, subscription: Subscription | None
    ) -> list[Action]:
        if subscription is not None and subscription.is_server_side:
            # Of the application: it decides when it ends.
            return self._error(number, ErrorCode.PERMISSION_DENIED)
        reply = self._reply(Reply(id=number, unsubscribe=UnsubscribeResult()))
        if subscription is None:
            return reply
        del self.subscriptions[channel]
        return [Unsubscribed(channel, 0, "client unsubscribed"), *reply]

    def _next_of(self, channel: str) -> list[Action]:
        """Go on with what waited for the answer to a subscribe."""
        actions: list[Action] = []
        queue = self._waiting.get(channel)
        while queue and self.state is State.CONNECTED:
            subscription = self.subscriptions.get(channel)
            if subscription is not None and not subscription.is_subscribed:
                return actions
            number, request = queue.popleft()
            actions += self._subscribe_or_unsubscribe(number, request)
        self._waiting.pop(channel, None)
        return actions

    # Answers of the application

    def connected(
        self, number: int, result: ConnectResult, now: float, *, ttl: float | None = None
    ) -> list[Action]:
        """Answer a connect command; the client has to refresh within ``ttl`` seconds."""
        # The result has the application's part; the session adds what it knows itself.
        if not isinstance(self._asked.pop(number, None), ConnectRequest):
            return []
        self.state = State.CONNECTED
        result.ping, result.pong = self._ping_interval, self._ping_interval > 0
        self._expires_at, result.expires, result.ttl = _life(ttl, now)
        for channel in result.subs:
            self.subscriptions[channel] = Subscription(is_server_side=True, is_subscribed=True)
        actions = self._reply(Reply(id=number, connect=result))
        held, self._held = self._held, []
        for waiting, request in held:
            if self.state is State.CONNECTED:
                actions += self._request(waiting, request, now)
        return actions

    def subscribed(
        self, number: int, result: SubscribeResult, now: float, *, ttl: float | None = None
    ) -> list[Action]:
        """Answer a subscribe command; the client gets the channel's publications from now on."""
        is_subscribing = self.is_subscribing(number)
        request = self._asked.pop(number, None)
        if not isinstance(request, SubscribeRequest):
            return []
        channel = request.channel
        if not is_subscribing:
            # Meanwhile the server has subscribed it, and perhaps unsubscribed it again.
            is_other = channel in self.subscriptions
            code = ErrorCode.ALREADY_SUBSCRIBED if is_other else ErrorCode.PERMISSION_DENIED
            return self._error(number, code) + self._next_of(channel)
        subscription = self.subscriptions[channel]
        subscription.is_subscribed = True
        subscription.expires_at, result.expires, result.ttl = _life(ttl, now)
        actions = self._reply(Reply(id=number, subscribe=result))
        if subscription.ended is not None:
            actions += self._push_unsubscribe(channel, *subscription.ended)
        return actions + self._next_of(channel)

    def answered(self, number: int, result: Result) -> list[Action]:
        """Answer a publish, presence, presence_stats, history or rpc command."""
        if self._asked.pop(number, None) is None:
            return []
        reply = Reply(id=number)
        setattr(reply, _ANSWERS[type(result)], result)
        return self._reply(reply)

    def refreshed(self, number: int, now: float, *, ttl: float | None) -> list[Action]:
        """Answer a refresh or sub_refresh command: the connection or subscription goes on."""
        request = self._asked.pop(number, None)
        expires_at, expires, seconds = _life(ttl, now)
        if isinstance(request, RefreshRequest):
            self._expires_at = expires_at
            return self._reply(
                Reply(id=number, refresh=RefreshResult(expires=expires, ttl=seconds))
            )
        if not isinstance(request, SubRefreshRequest):
            return []
        subscription = self.subscriptions.get(request.channel)
        if subscription is None:
            return self._error(number, ErrorCode.PERMISSION_DENIED)
        subscription.expires_at = expires_at
        return self._reply(
            Reply(id=number, sub_refresh=SubRefreshResult(expires=expires, ttl=seconds))
        )

    def refused(
        self, number: int, code: int, message: str = "", *, is_temporary: bool | None = None
    ) -> list[Action]:
        """Answer a command with an error of the protocol (100 to 112), or of the application."""
        is_subscribing = self.is_subscribing(number)
        request = self._asked.pop(number, None)
        if request is None:
            return []
        actions = self._error(number, code, message, is_temporary=is_temporary)
        if isinstance(request, ConnectRequest):
            self.state = State.NEW
            held, self._held = self._held, []
            for waiting, _ in held:
                actions += self._error(waiting, ErrorCode.UNAUTHORIZED)
        elif isinstance(request, SubscribeRequest):
            if is_subscribing:
                del self.subscriptions[request.channel]
            actions += self._next_of(request.channel)
        return actions

    # What the server begins

    def push_subscribe(self, channel: str, push: Subscribe) -> list[Action]:
        """Subscribe the client to a channel; nothing is done if it is subscribed already."""
        if self.state is not State.CONNECTED or self.is_subscribed(channel):
            return []
        # If its own subscribe waits for an answer, that will be 105.
        self.subscriptions[channel] = Subscription(is_server_side=True, is_subscribed=True)
        return self._push(Push(channel=channel, subscribe=push)) + self._next_of(channel)

    def push_unsubscribe(self, channel: str, code: int, reason: str = "") -> list[Action]:
        """End a subscription; with a code from 2500 on, the SDK subscribes again and recovers."""
        subscription = self.subscriptions.get(channel)
        if subscription is None or self.state is not State.CONNECTED:
            return []
        if not subscription.is_subscribed:
            subscription.ended = (code, reason)
            return []
        return self._push_unsubscribe(channel, code, reason)

    def _push_unsubscribe(self, channel: str, code: int, reason: str) -> list[Action]:
        reason = reason or UNSUBSCRIBE_REASONS.get(code, "")  # type: ignore[call-overload]
        del self.subscriptions[channel]
        push = Push(channel=channel, unsubscribe=Unsubscribe(code=code, reason=reason))
        return [Unsubscribed(channel, code, reason), *self._push(push)]

    def disconnect(self, code: int, reason: str = "") -> list[Action]:
        """Close the connection; what is asked or held has no answer any more."""
        if self.state is State.CLOSED:
            return []
        self.closed()
        return [Close(*sdk_close(int(code), reason))]

    def closed(self) -> None:
        self.state = State.CLOSED
        self._pending.clear()
        self._asked.clear()
        self._held.clear()
        self._waiting.clear()

    # Time

    def deadline(self) -> float | None:
        """Return when :meth:`tick` has something to do; None if it never has."""
        if self.state is State.NEW:
            return self._connect_by
        if self.state is not State.CONNECTED:
            return None
        lives = [one.expires_at for one in self.subscriptions.values()]
        ends = [end for end in (self._expires_at, *lives) if end is not None]
        return min(ends) + self.limits.refresh_grace if ends else None

    def tick(self, now: float) -> list[Action]:
        """End what has lived for too long."""
        if self.state is State.NEW and now >= self._connect_by:
            return self.disconnect(DisconnectCode.STALE)
        if self.state is not State.CONNECTED:
            return []
        latest = now - self.limits.refresh_grace
        if self._expires_at is not None and self._expires_at <= latest:
            return self.disconnect(DisconnectCode.EXPIRED)
        expired = [
            channel
            for channel, one in self.subscriptions.items()
            if one.expires_at is not None and one.expires_at <= latest
        ]
        actions: list[Action] = []
        for channel in expired:
            actions += self._push_unsubscribe(channel, UnsubscribeCode.EXPIRED, "")
        return actions

    # Bytes

    def _reply(self, reply: Reply) -> list[Action]:
        self._pending.discard(reply.id)
        return [Send(self.codec.encode([reply]))]

    def _push(self, push: Push) -> list[Action]:
        if self.state is not State.CONNECTED:
            return []
        return [Send(self.codec.encode([Reply(push=push)]))]

    def _error(
        self, number: int, code: int, message: str = "", *, is_temporary: bool | None = None
    ) -> list[Action]:
        if not number:
            return []
        error = Error(
            code=code,
            message=message or ERROR_MESSAGES.get(code, ""),  # type: ignore[call-overload]
            temporary=code in TEMPORARY_ERRORS if is_temporary is None else is_temporary,
        )
        return self._reply(Reply(id=number, error=error))


def _life(ttl: float | None, now: float) -> tuple[float | None, bool, int]:
    """Return when something expires, whether it does, and the seconds for the SDK."""
    if ttl is None:
        return None, False, 0
    return now + ttl, True, max(1, min(int(ttl), _MAX_TTL))
