"""What a node subscribes to on its bus: channels of its clients' groups and users, and events."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from ..bus import Bus
from ..errors import ConfirmTimeout
from .channels import Channel, subject_of
from .envelope import Target
from .registry import Change, Registry, Topic, TopicKind
from .subscriptions import UnconfirmedSubscriptions, channel_of_topic

if TYPE_CHECKING:
    from .history_channels import HistoryChannels

# Seconds that a subscription waits for the bus; then it is answered, and takes effect later.
_ROUTE_TIMEOUT = 2.0


class NodeSubscriptions:
    """The subscriptions of one node; without a bus, every message is here already."""

    def __init__(
        self,
        bus: Bus | None,
        receive: Callable[[bytes], None],
        registry: Registry[Any],
        *,
        forget: Callable[[Channel], object],
        history: "Callable[[], HistoryChannels | None]",
    ) -> None:
        self.unconfirmed = UnconfirmedSubscriptions()
        self._bus = bus
        self._receive = receive
        self._registry = registry
        self._forget = forget
        self._history = history

    def update(self, change: Change) -> list[Awaitable[None]]:
        """Subscribe and unsubscribe after a change; return what confirms the new ones."""
        history = self._history()
        if history is not None:
            for topic in change.lost:
                history.left(channel_of_topic(topic).target, topic.name)
            for topic in change.gained:
                history.gained(channel_of_topic(topic).target, topic.name)
        if self._bus is None:
            return []
        for topic in change.lost:
            channel = channel_of_topic(topic)
            self._bus.unsubscribe(subject_of(channel))
            self.unconfirmed.remove(channel)
            self._forget(channel)
        return [self._add(self._bus, topic) for topic in change.gained]

    def _add(self, bus: Bus, topic: Topic) -> Awaitable[None]:
        channel = channel_of_topic(topic)
        pending = bus.subscribe(subject_of(channel), self._receive)
        self.unconfirmed.add(channel, pending)
        return pending

    def add_events(self, topic: str) -> None:
        if self._bus is not None:
            self._bus.subscribe(subject_of(Channel(Target.EVENTS, topic)), self._receive)

    def remove_events(self, topic: str) -> None:
        channel = Channel(Target.EVENTS, topic)
        self._forget(channel)
        if self._bus is not None:
            self._bus.unsubscribe(subject_of(channel))

    def is_routed(self, target: Target, name: str) -> bool:
        """Tell whether a group or a user has a member here, or there is no bus."""
        registry = self._registry
        names = registry.uids() if target is Target.UIDS else registry.groups()
        return self._bus is None or name in names

    async def route(self, target: Target, name: str) -> None:
        """Wait until the bus routes what is sent to a group or a user here, if it can."""
        if self._bus is None or self.is_routed(target, name):
            return
        subject = subject_of(Channel(target, name))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ROUTE_TIMEOUT):
                await self._bus.subscribe(subject, self._receive)
        # A client that has gone meanwhile leaves nothing behind.
        asyncio.get_running_loop().call_later(_ROUTE_TIMEOUT, self._unroute, target, name)

    def _unroute(self, target: Target, name: str) -> None:
        if self._bus is not None and not self.is_routed(target, name):
            self._bus.unsubscribe(subject_of(Channel(target, name)))

    async def confirm(
        self, topic: Topic, subscribing: list[Awaitable[None]], seconds: float
    ) -> None:
        """Wait until the bus has confirmed the subscription to a topic; else ConfirmTimeout."""
        names = self._registry.uids() if topic.kind is TopicKind.UID else self._registry.groups()
        if self._bus is not None and not subscribing and topic.name in names:
            # Another client was the first; its subscription may not be confirmed yet.
            subscribing = [self._add(self._bus, topic)]
        try:
            async with asyncio.timeout(seconds):
                for one in subscribing:
                    await one
        except TimeoutError:
            raise ConfirmTimeout(
                f"the bus has not confirmed in {seconds:g} seconds that what is sent to the"
                f" {topic.kind} {topic.name!r} elsewhere arrives here"
            ) from None
