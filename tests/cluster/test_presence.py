"""Tests of who joins and leaves channels."""

import random

import pytest

from gateman.cluster.channels import EVERYBODY, Channel, node_channel
from gateman.cluster.envelope import Joined, Left, PresenceRequest, PresenceStates, Target
from gateman.cluster.names import ClientId, Group, NodeId
from gateman.cluster.presence import Announcement, Presence, PresenceEvent, PresenceMessage
from gateman.cluster.publication import ClientInfo

from ..support.presence_simulation import DELAY, World

ROOM = Group("room")
ROOM_CHANNEL = Channel(Target.GROUPS, ROOM)


def told(node: object) -> list[tuple[str, str]]:
    return [
        ("join" if event.is_join else "leave", event.info.client)
        for event in node.events  # type: ignore[attr-defined]
    ]


def info(client: str, user: str = "") -> ClientInfo:
    return ClientInfo(ClientId(client), user)


def test_the_first_client_follows_the_channel_and_is_announced() -> None:
    presence = Presence(NodeId("a"))
    ann = info("a-1", "ann")

    outputs = presence.join(ROOM, ann, 3.0, 1.0)

    assert outputs == [
        PresenceMessage(ROOM_CHANNEL, PresenceRequest(NodeId("a"), 1, [ROOM])),
        PresenceEvent(ROOM, ann, is_join=True, is_own=True),
        Announcement(ROOM),
    ]
    changes = presence.changes(ROOM)
    assert (changes.previous, changes.number, changes.changes) == (0, 1, [Joined(ann)])


def test_a_client_that_joins_twice_is_announced_once() -> None:
    presence = Presence(NodeId("a"))
    presence.join(ROOM, info("a-1"), 3.0, 1.0)

    assert presence.join(ROOM, info("a-1"), 3.0, 1.0) == []


def test_changes_of_one_turn_share_a_message() -> None:
    presence = Presence(NodeId("a"))
    presence.join(ROOM, info("a-1"), 3.0, 1.0)

    outputs = presence.join(ROOM, info("a-2"), 3.0, 1.0) + presence.leave(
        ROOM, ClientId("a-2"), 0, 1.0
    )

    assert [type(one) for one in outputs] == [PresenceEvent, PresenceEvent]
    assert presence.changes(ROOM).changes == [
        Joined(info("a-1")),
        Joined(info("a-2")),
        Left(ClientId("a-2")),
    ]


def test_a_channel_without_clients_takes_no_memory() -> None:
    presence = Presence(NodeId("a"))
    presence.join(ROOM, info("a-1", "ann"), 3.0, 1.0)
    presence.leave(ROOM, ClientId("a-1"), 3.0, 10.0)
    presence.changes(ROOM)
    assert presence

    presence.expire(13.0)

    assert not presence
    assert not presence.is_waiting


def test_who_was_there_before_does_not_join() -> None:
    world = World(0)
    a, b = world.start(), world.start()
    world.join(a, ROOM, a.new_client("ann"))
    world.deliver()

    world.join(b, ROOM, b.new_client("bob"))
    world.deliver()

    assert told(b) == [("join", "n2-1")]
    assert told(a) == [("join", "n1-1"), ("join", "n2-1")]
    assert b.presence.members(ROOM) == {"n1-1", "n2-1"}


def test_a_leave_on_purpose_is_told_at_once() -> None:
    world = World(0)
    a, b = world.start(), world.start()
    for node in (a, b):
        world.join(node, ROOM, node.new_client(node.name))
    world.deliver()

    world.leave(a, ROOM, "n1-1")
    world.deliver()

    assert told(b)[-1] == ("leave", "n1-1")


def test_a_lost_client_whose_user_comes_back_elsewhere_leaves_after_the_join() -> None:
    world = World(0)
    a, b, c = world.start(), world.start(), world.start()
    world.join(a, ROOM, a.new_client("ann"))
    world.join(c, ROOM, c.new_client("cid"))
    world.deliver()

    world.leave(a, ROOM, "n1-1", DELAY)
    world.deliver()
    assert told(c)[-1] == ("join", "n3-1")
    world.join(b, ROOM, b.new_client("ann"))
    world.deliver()

    assert told(c)[-2:] == [("join", "n2-1"), ("leave", "n1-1")]


def test_a_lost_client_that_stays_away_leaves_after_the_delay() -> None:
    world = World(0)
    a, b = world.start(), world.start()
    world.join(a, ROOM, a.new_client("ann"))
    world.join(b, ROOM, b.new_client("bob"))
    world.deliver()

    world.leave(a, ROOM, "n1-1", DELAY)
    world.settle(DELAY - 0.5)
    assert "n1-1" in b.presence.members(ROOM)
    world.settle(1)

    assert told(b)[-1] == ("leave", "n1-1")
    assert world.own_events[ROOM, "n1-1", False] == 1


@pytest.mark.parametrize("user", ["", "bob"])
def test_a_lost_client_without_a_user_or_with_another_client_leaves_at_once(user: str) -> None:
    world = World(0)
    a, b = world.start(), world.start()
    world.join(a, ROOM, a.new_client(user))
    world.join(b, ROOM, b.new_client("bob"))
    world.deliver()

    world.leave(a, ROOM, "n1-1", DELAY)
    world.deliver()

    assert told(b)[-1] == ("leave", "n1-1")


def test_the_clients_of_a_killed_node_leave_and_one_survivor_tells_the_application() -> None:
    world = World(0)
    a, b, c = world.start(), world.start(), world.start()
    world.join(a, ROOM, a.new_client("ann"))
    world.join(a, ROOM, a.new_client(""))
    world.join(b, ROOM, b.new_client("bob"))
    world.join(c, ROOM, c.new_client("cid"))
    world.deliver()

    world.kill(a)
    world.settle()

    for node in (b, c):
        assert told(node)[-2:] == [("leave", "n1-2"), ("leave", "n1-1")]
    assert [world.own_events[ROOM, client, False] for client in ("n1-1", "n1-2")] == [1, 1]


def test_a_node_that_stops_tells_the_leaves_that_no_other_knows() -> None:
    world = World(0)
    a, _ = world.start(), world.start()
    world.join(a, ROOM, a.new_client("ann"))
    world.leave(a, ROOM, "n1-1", DELAY)

    world.stop(a)

    assert told(a) == [("join", "n1-1"), ("leave", "n1-1")]


def test_a_node_that_seemed_to_be_gone_is_back_before_anybody_was_told() -> None:
    world = World(0)
    a, b = world.start(), world.start()
    world.join(a, ROOM, a.new_client("ann"))
    world.join(b, ROOM, b.new_client("bob"))
    world.deliver()
    before = told(b)

    world.split(a, b)
    world.heal()
    world.settle()

    assert told(b) == before


def test_a_node_that_comes_back_late_has_left_and_joins() -> None:
    world = World(0)
    a, b = world.start(), world.start()
    world.join(a, ROOM, a.new_client("ann"))
    world.join(b, ROOM, b.new_client("bob"))
    world.deliver()

    world.split(a, b)
    world.settle()
    world.heal()
    world.settle()

    assert told(b)[-2:] == [("leave", "n1-1"), ("join", "n1-1")]


def test_a_missed_change_is_noticed_with_the_next_one() -> None:
    world = World(0)
    a, b = world.start(), world.start()
    world.join(b, ROOM, b.new_client("bob"))
    world.join(a, ROOM, a.new_client("ann"))
    world.deliver()
    world.join(a, ROOM, a.new_client("amy"))
    world.queues.clear()

    world.join(a, ROOM, a.new_client("abe"))
    world.deliver()

    assert b.presence.members(ROOM) == {"n1-1", "n1-2", "n1-3", "n2-1"}
    assert sorted(told(b)) == [("join", f"n{one}") for one in ("1-1", "1-2", "1-3", "2-1")]


def test_changes_that_the_bus_refuses_are_sent_when_it_is_back() -> None:
    world = World(0)
    a, b = world.start(), world.start()
    world.join(a, ROOM, a.new_client("ann"))
    world.join(b, ROOM, b.new_client("bob"))
    world.deliver()

    world.away(a)
    world.leave(a, ROOM, "n1-1")
    world.join(b, ROOM, b.new_client("bea"))
    world.restore(a)
    world.settle()

    assert b.presence.members(ROOM) == {"n2-1", "n2-2"}


def test_a_large_state_is_sent_in_parts() -> None:
    presence, other = Presence(NodeId("a")), Presence(NodeId("b"))
    infos = [
        ClientInfo(ClientId(f"a-{number}"), f"u{number}", b"i" * 500) for number in range(1000)
    ]
    for one in infos:
        presence.join(ROOM, one, 3.0, 1.0)
    presence.changes(ROOM)
    request = other.join(ROOM, info("b-1"), 3.0, 1.0)[0]
    assert isinstance(request, PresenceMessage)
    assert isinstance(request.envelope, PresenceRequest)

    answers = presence.on_request(request.envelope)

    assert len(answers) == 12
    for answer in answers:
        assert isinstance(answer, PresenceMessage)
        assert isinstance(answer.envelope, PresenceStates)
        assert answer.to == node_channel(NodeId("b"))
        assert other.on_states(answer.envelope, 0.0) == []
    assert other.members(ROOM) == {"b-1", *(one.client for one in infos)}


def test_many_channels_are_asked_for_in_several_messages() -> None:
    presence = Presence(NodeId("a"))
    for number in range(250):
        presence.join(Group(f"room {number}"), info("a-1"), 3.0, 1.0)

    outputs = presence.on_bus_restored()

    assert [
        (one.to, len(one.envelope.channels))
        for one in outputs
        if isinstance(one, PresenceMessage) and isinstance(one.envelope, PresenceRequest)
    ] == [(EVERYBODY, 100), (EVERYBODY, 100), (EVERYBODY, 50)]


def test_senders_are_the_nodes_whose_clients_are_known() -> None:
    world = World(0)
    a, b = world.start(), world.start()
    world.join(a, ROOM, a.new_client("ann"))
    world.join(b, ROOM, b.new_client("bob"))
    world.deliver()

    assert a.presence.senders() == {"n2"}


@pytest.mark.parametrize("seed", range(40))
def test_all_nodes_agree_after_deaths_outages_splits_and_reloads(seed: int) -> None:
    """Whatever happens: at the end each node knows exactly who is there, and told it in order."""
    world = World(seed)
    chance = random.Random(seed)  # noqa: S311 - a test's choices
    channels = [Group(f"room {number}") for number in range(3)]
    for _ in range(4):
        world.start()

    def one_step() -> None:
        nodes = list(world.nodes.values())
        node = chance.choice(nodes)
        channel = chance.choice(channels)
        present = sorted(node.clients[channel])
        match chance.choices(
            ["join", "leave", "lose", "kill", "stop", "start", "away", "restore", "split", "heal"],
            [40, 15, 15, 2, 2, 4, 3, 6, 2, 4],
        )[0]:
            case "join":
                world.join(node, channel, node.new_client(chance.choice(["", "ann", "bob", "cid"])))
            case "leave" if present:
                world.leave(node, channel, chance.choice(present))
            case "lose" if present:
                world.leave(node, channel, chance.choice(present), DELAY)
            case "kill" if len(nodes) > 2:
                world.kill(node)
            case "stop" if len(nodes) > 2 and not node.is_away:
                world.stop(node)
            case "start" if len(nodes) < 6 and not world.cut:
                world.start()
            case "away" if not node.is_away:
                world.away(node)
            case "restore":
                for one in nodes:
                    if one.is_away:
                        world.restore(one)
            case "split" if len(nodes) > 1:
                one, other = chance.sample(nodes, 2)
                world.split(one, other)
            case "heal":
                world.heal()

    for _ in range(300):
        one_step()
        world.deliver(chance.randrange(8))
        if chance.random() < 0.2:
            world.now += chance.random()
            for node in list(world.nodes.values()):
                world.do(node, node.presence.expire(world.now))
    world.heal()
    for node in world.nodes.values():
        if node.is_away:
            world.restore(node)
    world.settle()

    for node in world.nodes.values():
        for channel in channels:
            if node.clients[channel]:
                assert node.presence.members(channel) == world.actual(channel)
                # Who was there when the channel was entered did not join.
                assert node.seen[channel] <= world.actual(channel)
    # A join is told to the application once.
    assert {count for (*_, is_join), count in world.own_events.items() if is_join} == {1}


def test_a_node_that_came_after_a_kill_does_not_answer_for_the_killed_one() -> None:
    """It knows nothing of the killed node's clients, whatever its name."""
    for seed in range(10):
        world = World(seed)
        a, b = world.start(), world.start()
        for node in (a, b):
            world.join(node, ROOM, node.new_client(node.name))
        world.deliver()
        world.now += 1
        # Not noticed yet: what is sent to it gets nowhere.
        del world.nodes[b.name]
        c = world.start()
        world.join(c, ROOM, c.new_client("cid"))
        world.deliver()
        world.nodes[b.name] = b
        world.kill(b)
        world.settle()

        assert world.own_events[ROOM, "n2-1", False] == 1


@pytest.mark.parametrize("is_join_first", [True, False])
def test_the_last_client_of_a_node_is_left_to_the_others(is_join_first: bool) -> None:  # noqa: FBT001
    """The one node of them that has followed for the longest time tells the application, once."""
    world = World(0)
    a, b, c = world.start(), world.start(), world.start()
    for node in (a, b):
        world.join(node, ROOM, node.new_client(node.name))
        world.deliver()
        world.now += 1

    if is_join_first:
        world.join(c, ROOM, c.new_client("n1"))
        world.deliver()
    world.leave(a, ROOM, "n1-1", DELAY)
    world.deliver()
    if not is_join_first:
        world.join(c, ROOM, c.new_client("n1"))
        world.deliver()
    world.settle()

    assert world.own_events[ROOM, "n1-1", False] == 1
    assert told(b)[-2:] == [("join", "n3-1"), ("leave", "n1-1")]
