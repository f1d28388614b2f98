"""What a process wants from the bus, because of what is done with its clients."""

import pytest

from gateman.bus.subscriptions import PendingSubscription
from gateman.cluster.channels import Channel
from gateman.cluster.envelope import (
    Bind,
    ClientAction,
    CloseClient,
    Join,
    Leave,
    SetSession,
    Target,
    Unbind,
    UpdateSession,
)
from gateman.cluster.names import ClientId, Group, Uid
from gateman.cluster.registry import Topic, TopicKind
from gateman.cluster.subscriptions import UnconfirmedSubscriptions, channel_of_topic, topic_of

CLIENT = ClientId("node-1")


def test_a_uid_and_a_group_of_one_name_have_different_channels() -> None:
    """Whoever is called as a room is not in it."""
    assert channel_of_topic(Topic(TopicKind.UID, Uid("ann"))) == Channel(Target.UIDS, "ann")
    assert channel_of_topic(Topic(TopicKind.GROUP, Group("ann"))) == Channel(Target.GROUPS, "ann")


def test_joining_and_binding_need_a_subscription() -> None:
    """Until they route here what is sent to the group or uid, it is not in effect everywhere."""
    assert topic_of(Join(CLIENT, Group("room"))) == Topic(TopicKind.GROUP, Group("room"))
    assert topic_of(Bind(CLIENT, Uid("ann"))) == Topic(TopicKind.UID, Uid("ann"))


@pytest.mark.parametrize(
    "action",
    [
        Leave(CLIENT, Group("room")),
        Unbind(CLIENT),
        CloseClient(CLIENT, 1000, ""),
        SetSession(CLIENT, {}),
        UpdateSession(CLIENT, {}),
    ],
    ids=lambda action: type(action).__name__,
)
def test_other_changes_need_no_subscription(action: ClientAction) -> None:
    """It is in effect as soon as it is done here; what still arrives finds nobody."""
    assert topic_of(action) is None


def test_a_channel_is_unconfirmed_until_the_bus_has_confirmed_it() -> None:
    one, two = Channel(Target.GROUPS, "one"), Channel(Target.UIDS, "two")
    unconfirmed = UnconfirmedSubscriptions()
    first, second = PendingSubscription(), PendingSubscription()
    unconfirmed.add(one, first)
    unconfirmed.add(two, second)
    assert (one in unconfirmed, two in unconfirmed) == (True, True)
    first.end()
    assert (one in unconfirmed, two in unconfirmed) == (False, True)
    unconfirmed.remove(two)
    assert two not in unconfirmed


def test_what_is_confirmed_is_not_kept() -> None:
    unconfirmed = UnconfirmedSubscriptions()
    for number in range(100):
        pending = PendingSubscription()
        unconfirmed.add(Channel(Target.GROUPS, str(number)), pending)
        pending.end()

    assert len(unconfirmed) == 1
