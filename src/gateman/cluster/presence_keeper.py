"""Sends and receives what :mod:`.presence` decides, for one node, and passes the events on."""

import asyncio
import time
from collections.abc import Callable, Iterable
from functools import partial

from .channels import Channel
from .envelope import Envelope, Hello, PresenceChanges, PresenceRequest, PresenceStates, Target
from .names import ClientId, Group, NodeId
from .presence import Announcement, Output, Presence, PresenceEvent, PresenceMessage
from .publication import ClientInfo

_INTERVAL = 0.25  # seconds between two looks at leaves that wait

_Publish = Callable[[Channel, Callable[[], Envelope], Callable[[bool], object]], None]
"""Publishes what a function makes at the end of the turn, and reports whether the bus took it."""

Listener = Callable[[PresenceEvent], object]


class PresenceKeeper:
    """Who joins and leaves the channels of a node; the events of a channel are in one order."""

    def __init__(self, node: NodeId, publish: _Publish, *, known: Iterable[NodeId]) -> None:
        self._presence = Presence(node)
        for one in known:
            self._presence.on_hello(one, is_new=True, was_away=False)
        self._publish = publish
        self._listeners: list[Listener] = []
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._is_stopped = False
        self._quiet: asyncio.Future[None] | None = None

    def listen(self, listener: Listener) -> None:
        """Call a function with each event of a channel that has clients here; it must not raise."""
        self._listeners.append(listener)

    def join(self, channel: Group, info: ClientInfo, delay: float) -> None:
        """Announce a client of this node; if others vanish, ``delay`` is what their leaves wait."""
        self._do(self._presence.join(channel, info, delay, time.time()))

    def leave(self, channel: Group, client: ClientId, delay: float = 0.0) -> None:
        """Announce that a client of this node has left, unless its user is back in time."""
        self._do(self._presence.leave(channel, client, delay, self._loop.time()))

    def members(self, channel: Group) -> set[ClientId]:
        """List the clients whose join was announced here, and whose leave was not."""
        return self._presence.members(channel)

    def senders(self) -> set[NodeId]:
        return self._presence.senders()

    def on_message(self, message: PresenceChanges | PresenceRequest | PresenceStates) -> None:
        match message:
            case PresenceChanges():
                outputs = self._presence.on_changes(message, self._loop.time())
            case PresenceRequest():
                outputs = self._presence.on_request(message)
            case PresenceStates():
                outputs = self._presence.on_states(message, self._loop.time())
        self._do(outputs)

    def on_hello(self, hello: Hello) -> None:
        self._do(
            self._presence.on_hello(hello.source, is_new=hello.is_new, was_away=hello.was_away)
        )

    def on_gone(self, node: NodeId) -> None:
        """Note that a node has ended, or does not answer."""
        self._do(self._presence.on_gone(node, self._loop.time()))

    def on_bus_gap(self) -> None:
        """Note that the bus has lost something, and works again."""
        self._do(self._presence.on_bus_restored())

    async def wait(self, seconds: float) -> None:
        """Wait until no leave waits for its user, but not longer than this."""
        if self._presence.is_waiting:
            self._quiet = self._loop.create_future()
            await asyncio.wait([self._quiet], timeout=max(seconds, 0))

    def stop(self) -> None:
        """Tell the leaves that no other node will tell; idempotent."""
        if not self._is_stopped:
            self._is_stopped = True
            if self._timer is not None:
                self._timer.cancel()
            self._do(self._presence.last_leaves())

    def _do(self, outputs: Iterable[Output]) -> None:
        for output in outputs:
            match output:
                case PresenceEvent():
                    for listener in self._listeners:
                        listener(output)
                case Announcement(channel):
                    self._announce(channel)
                case PresenceMessage(to, envelope):
                    self._publish(to, partial(_same, envelope), _ignore)
        if self._timer is None and self._presence.is_waiting and not self._is_stopped:
            self._timer = self._loop.call_later(_INTERVAL, self._tick)

    def _announce(self, channel: Group) -> None:
        def sent(was_taken: bool) -> None:  # noqa: FBT001 - the bus's answer
            if not was_taken:
                self._presence.not_sent(channel)

        self._publish(
            Channel(Target.GROUPS, channel), lambda: self._presence.changes(channel), sent
        )

    def _tick(self) -> None:
        self._timer = None
        self._do(self._presence.expire(self._loop.time()))
        if self._quiet is not None and not self._quiet.done() and not self._presence.is_waiting:
            self._quiet.set_result(None)


def _same(envelope: Envelope) -> Envelope:
    return envelope


def _ignore(_: object) -> None:
    """Ignore whether an envelope was sent: what was lost is asked for when the bus is back."""
