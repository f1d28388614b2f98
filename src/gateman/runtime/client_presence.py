"""
Tells SDK clients, and the application, who joins and leaves channels, and who is in one.

:mod:`gateman.cluster.presence` decides what is told, and in which order.
"""

from collections.abc import Callable, Collection
from typing import Any

from msgspec import msgpack

from ..clients.channel import ChannelRules
from ..clients.codec import Codec
from ..clients.codes import sdk_close_code
from ..clients.messages import Join as JoinPart
from ..clients.messages import Leave as LeavePart
from ..clients.messages import (
    PresenceRequest,
    PresenceResult,
    PresenceStatsRequest,
    PresenceStatsResult,
    Push,
    Reply,
)
from ..cluster.events import EventHandler
from ..cluster.hub import Hub
from ..cluster.names import ClientId, Group, node_of
from ..cluster.node import Node
from ..cluster.presence import PresenceEvent
from ..cluster.publication import ClientInfo
from ..config.callbacks import Function
from ..errors import HubError, PartialResult
from ..log import RateLimitedLogger
from ..websocket.close import CloseCode
from .client import Client
from .client_callbacks import INTERNAL, Refused
from .client_send_buffer import part_of

# Events that wait for the application: of a process with 100 000 clients that was killed.
_MAX_WAITING = 100_000
_MAX_WAITING_SIZE = 64 << 20  # bytes


class ClientPresence:
    """The presence of the SDK clients of a worker in one process."""

    def __init__(self, node: Node, rules: ChannelRules, clients: dict[ClientId, Client]) -> None:
        self._node = node
        self._hub = Hub(node)
        self._rules = rules
        self._clients = clients
        # The channels in which others are told of a client.
        self._joined: dict[ClientId, set[str]] = {}
        self._handler: EventHandler | None = None
        self._info_of_others = node.local_clients.client_info

    def start(self, functions: dict[str, Function]) -> None:
        """Listen to what happens in channels; the application may, too."""
        self._node.local_clients.client_info = self._client_info
        if not self._rules.has_join_leave:
            return
        self._node.presence.listen(self._on_event)
        if not {"on_join", "on_leave"}.isdisjoint(functions):
            # One handler, so that they run in one order.
            self._handler = EventHandler(
                "on_join, on_leave",
                _caller(functions),
                counts=self._node.counts,
                rate_limited=RateLimitedLogger(),
                max_waiting=_MAX_WAITING,
                max_waiting_size=_MAX_WAITING_SIZE,
            )

    async def finish(self, seconds: float, *, is_reload: bool) -> None:
        """Have the application know of all leaves, before ``on_worker_stop``."""
        if self._rules.has_join_leave:
            if is_reload:
                # Clients that were alone in a channel are about to join in the new process.
                await self._node.presence.wait(seconds)
            self._node.presence.stop()
        if self._handler is not None:
            await self._handler.drain(seconds)
            handler, self._handler = self._handler, None
            await handler.finish(0)

    def joined(self, client: Client, channel: str) -> None:
        """Tell others that a client is subscribed, and then the client itself."""
        options = self._rules.options_of(channel)
        if not options.join_leave or not client.session.is_subscribed(channel):
            return
        client.told_of.add(channel)
        self._joined.setdefault(client.id, set()).add(channel)
        info = client.publisher(channel)
        self._node.presence.join(Group(channel), info, options.leave_delay)
        client.send_buffer.send_encoded(
            _encode(PresenceEvent(Group(channel), info, True, True), client.session.codec)  # noqa: FBT003
        )

    def left(self, client: Client, channel: str) -> None:
        """Tell others that a client is not subscribed any more."""
        client.told_of.discard(channel)
        channels = self._joined.get(client.id)
        if channels is not None and channel in channels:
            channels.discard(channel)
            if not channels:
                del self._joined[client.id]
            self._node.presence.leave(Group(channel), client.id)

    def closed(self, client: ClientId, code: int) -> None:
        """Tell others that a client has disconnected, unless it is back soon."""
        comes_back = _comes_back(code)
        for channel in self._joined.pop(client, ()):
            delay = self._rules.options_of(channel).leave_delay if comes_back else 0.0
            self._node.presence.leave(Group(channel), client, delay)

    async def answer(
        self, request: PresenceRequest | PresenceStatsRequest
    ) -> PresenceResult | PresenceStatsResult | Refused:
        """Answer who is in a channel, or how many are."""
        try:
            if isinstance(request, PresenceStatsRequest):
                clients, users = await self._hub.presence_stats(request.channel)
                return PresenceStatsResult(num_clients=clients, num_users=users)
            infos = await self._hub.presence(request.channel)
        except (PartialResult, HubError):
            # A process is blocked, or the bus is away: a part would look like all of it.
            return INTERNAL
        return PresenceResult(presence={name: part_of(info) for name, info in infos.items()})

    def _client_info(self, name: ClientId, channel: Group) -> tuple[bytes, bytes]:
        client = self._clients.get(name)
        if client is None:
            return self._info_of_others(name, channel)
        return client.info, client.channel_info(channel)

    def _on_event(self, event: PresenceEvent) -> None:
        self._tell(event, self._node.local_clients.registry.clients_of_group(event.channel))
        is_of_another_worker = (
            event.is_join
            and node_of(event.info.client) == self._node.id
            and event.info.client not in self._clients
        )
        if event.is_own and self._handler is not None and not is_of_another_worker:
            self._handler.put(msgpack.encode((event.is_join, event.channel, event.info)))

    def _tell(self, event: PresenceEvent, names: Collection[ClientId]) -> None:
        encoded: dict[str, bytes] = {}
        for name in names:
            client = self._clients.get(name)
            if client is None or event.channel not in client.told_of or name == event.info.client:
                continue
            codec = client.session.codec
            if codec.form not in encoded:
                encoded[codec.form] = _encode(event, codec)
            client.send_buffer.send_encoded(encoded[codec.form])


def _comes_back(code: int) -> bool:
    """Whether an SDK whose connection ended with a code connects again by itself."""
    # An SDK that is told to disconnect closes without a code, or with 1000.
    if code in {CloseCode.NORMAL_CLOSURE, CloseCode.NO_STATUS_RECEIVED}:
        return False
    code = sdk_close_code(code)
    return not (3500 <= code < 4000 or 4500 <= code < 5000)


def _encode(event: PresenceEvent, codec: Codec) -> bytes:
    info = part_of(event.info)
    push = Push(channel=event.channel)
    if event.is_join:
        push.join = JoinPart(info=info)
    else:
        push.leave = LeavePart(info=info)
    return codec.encode([Reply(push=push)])


def _caller(functions: dict[str, Function]) -> Callable[[Any], Any]:
    """Make a function that calls ``on_join`` or ``on_leave`` with an event."""
    on_join, on_leave = functions.get("on_join"), functions.get("on_leave")

    def call(event: Any) -> Any:
        is_join, channel, info = event
        function = on_join if is_join else on_leave
        return None if function is None else function(channel, ClientInfo(*info))

    call.__qualname__ = "on_join or on_leave"
    return call
