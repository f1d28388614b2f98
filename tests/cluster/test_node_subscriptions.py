"""What a node subscribes to follows its clients, and says when it holds."""

import re

import pytest

from gateman.bus.memory import MemoryBroker, MemoryBus
from gateman.cluster.channels import Channel, subject_of
from gateman.cluster.envelope import Target
from gateman.cluster.names import ClientId, Group
from gateman.cluster.node_subscriptions import NodeSubscriptions
from gateman.cluster.registry import Registry, Topic, TopicKind
from gateman.errors import ConfirmTimeout
from tests.support.loop import MS, on_loop, turns

ANN = ClientId("0123456789ab-1")
CHAT = Group("chat")
CHANNEL = Channel(Target.GROUPS, CHAT)
TOPIC = Topic(TopicKind.GROUP, CHAT)


class Parts:
    """The subscriptions, and what is around them."""

    def __init__(self, broker: MemoryBroker) -> None:
        self.bus = MemoryBus(broker=broker)
        self.other = MemoryBus(broker=broker)
        self.registry: Registry[object] = Registry()
        self.received: list[bytes] = []
        self.forgotten: list[Channel] = []
        self.subscriptions = NodeSubscriptions(
            self.bus,
            self.received.append,
            self.registry,
            forget=self.forgotten.append,
            history=lambda: None,
        )
        self.registry.add(ANN, object())

    async def start(self) -> None:
        await self.bus.start()
        await self.other.start()

    async def stop(self) -> None:
        await self.bus.stop()
        await self.other.stop()

    async def publish(self, payload: bytes, channel: Channel = CHANNEL) -> None:
        self.other.publish(subject_of(channel), payload)
        await turns()


@on_loop
async def test_a_group_is_subscribed_to_while_it_has_members() -> None:
    parts = Parts(MemoryBroker())
    await parts.start()
    await parts.publish(b"early")
    confirming = parts.subscriptions.update(parts.registry.join(ANN, CHAT))
    await parts.subscriptions.confirm(TOPIC, confirming, 1)
    assert CHANNEL not in parts.subscriptions.unconfirmed
    await parts.publish(b"while")
    parts.subscriptions.update(parts.registry.leave(ANN, CHAT))
    await parts.publish(b"late")

    assert (parts.received, parts.forgotten) == ([b"while"], [CHANNEL])
    await parts.stop()


@on_loop
async def test_a_broker_that_is_away_confirms_nothing() -> None:
    broker = MemoryBroker()
    parts = Parts(broker)
    await parts.start()
    broker.go_down()
    confirming = parts.subscriptions.update(parts.registry.join(ANN, CHAT))
    sentence = re.escape(
        "the bus has not confirmed in 0.001 seconds that what is sent to the group 'chat' elsewhere"
        " arrives here"
    )
    with pytest.raises(ConfirmTimeout, match=sentence):
        await parts.subscriptions.confirm(TOPIC, confirming, MS)
    # The second member of a group has to wait for the first one's subscription.
    with pytest.raises(ConfirmTimeout, match=sentence):
        await parts.subscriptions.confirm(TOPIC, [], MS)
    assert CHANNEL in parts.subscriptions.unconfirmed
    await parts.stop()


@on_loop
async def test_a_group_is_routed_before_its_first_member_joins() -> None:
    parts = Parts(MemoryBroker())
    await parts.start()
    assert not parts.subscriptions.is_routed(Target.GROUPS, CHAT)
    await parts.subscriptions.route(Target.GROUPS, CHAT)
    await parts.publish(b"one")
    parts.subscriptions.update(parts.registry.join(ANN, CHAT))

    assert parts.subscriptions.is_routed(Target.GROUPS, CHAT)
    assert parts.received == [b"one"]
    await parts.stop()


@on_loop
async def test_events_are_subscribed_to_by_topic() -> None:
    parts = Parts(MemoryBroker())
    await parts.start()
    events = Channel(Target.EVENTS, "orders")
    parts.subscriptions.add_events("orders")
    await parts.publish(b"one", events)
    parts.subscriptions.remove_events("orders")
    await parts.publish(b"two", events)

    assert (parts.received, parts.forgotten) == ([b"one"], [events])
    await parts.stop()
