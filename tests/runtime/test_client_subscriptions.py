"""Subscriptions of SDK clients: what a client missed, and what the hub does with it."""

import asyncio
import json
from typing import Any

import pytest

from gateman import Channel, ConfigError, Connection, hub
from gateman.clients.channel import ChannelRules
from gateman.clients.json_codec import JSON
from gateman.clients.limits import ClientLimits
from gateman.clients.session import Action, ClientSession, Send
from gateman.cluster.envelope import Join
from gateman.cluster.names import ClientId, Group
from gateman.cluster.node import Node
from gateman.runtime.client import Client
from gateman.runtime.client_presence import ClientPresence
from gateman.runtime.client_subscriptions import ClientSubscriptions
from tests.support.client_talk import DENIED, KEPT, error, service
from tests.support.loop import eventually, on_loop, turns
from tests.support.members import FakeLink, connection


@on_loop
async def test_what_a_client_missed_is_in_the_answer_to_its_subscribe() -> None:
    """Exactly that, in order; and nothing if it missed nothing, or had seen no message."""
    async with service(channels={"room": KEPT}) as client:
        ann, bob = await client(), await client()
        empty = (await ann.ask(subscribe={"channel": "room"}))["subscribe"]
        assert empty.get("offset", 0) == 0
        await bob.ask(subscribe={"channel": "room"})
        for number in range(3):
            await bob.ask(publish={"channel": "room", "data": number})
        offsets = [(await ann.push())["pub"]["offset"] for _ in range(3)]
        assert offsets == sorted(offsets)

        for known, missed in ((0, [0, 1, 2]), (offsets[1], [2]), (offsets[2], [])):
            dan = await client()
            position = {"epoch": empty["epoch"], "offset": known}
            answer = await dan.ask(subscribe={"channel": "room", "recover": True, **position})
            found = answer["subscribe"]
            assert [one["data"] for one in found.get("publications", [])] == missed
            assert (found["recovered"], found["was_recovering"]) == (True, True)
            assert found["offset"] == offsets[2]


@on_loop
async def test_a_recovery_that_is_not_complete_says_so() -> None:
    """Also in another epoch; a client that asks for all or nothing gets an error."""
    async with service(channels={"room": Channel(subscribe=True, history_size=2)}) as client:
        ann = await client()
        epoch = (await ann.ask(subscribe={"channel": "room"}))["subscribe"]["epoch"]
        for number in range(4):
            await hub.send_to_group("room", number)

        for position in ({"epoch": epoch, "offset": 1}, {"epoch": "another", "offset": 4}):
            bob = await client()
            asked = {"channel": "room", "recover": True, **position}
            found = (await bob.ask(subscribe=asked))["subscribe"]
            assert found["was_recovering"]
            assert "recovered" not in found
            assert "publications" not in found
            cid = await client()
            assert (await cid.ask(subscribe={**asked, "flag": 2}))["error"]["code"] == 112


@on_loop
async def test_a_client_recovers_what_was_sent_to_its_user() -> None:
    """While it was away; with its connect command."""

    def on_client_connect(connection: Connection, _token: str, _data: Any) -> None:
        connection.bind("ann")

    async with service(on_client_connect) as client:
        ann = await client()
        position = ann.hello["connect"]["subs"]["#ann"]
        await ann.leave()
        for number in range(3):
            await hub.send_to_uid("ann", number)
        known = {"recover": True, "epoch": position["epoch"], "offset": position.get("offset", 0)}
        again = await client(subs={"#ann": known})

        found = again.hello["connect"]["subs"]["#ann"]
        assert [one["data"] for one in found["publications"]] == [0, 1, 2]
        assert found["recovered"]


@on_loop
async def test_a_client_is_joined_and_taken_out_while_it_is_connected() -> None:
    """It is told by pushes."""
    async with service() as client:
        ann = await client()
        name = ann.hello["connect"]["client"]
        await hub.join_group(name, "news")
        assert await ann.push() == {"channel": "news", "subscribe": {}}
        await hub.send_to_group("news", 1)
        assert await ann.push() == {"channel": "news", "pub": {"data": 1}}
        await hub.leave_group(name, "news")
        gone = await ann.push()
        assert (gone["channel"], gone["unsubscribe"]["code"]) == ("news", 2000)
        await hub.bind_uid(name, "42")
        bound = await ann.push()
        assert (bound["channel"], bound["subscribe"]["recoverable"]) == ("#42", True)
        assert await hub.uid_of_client(name) == "42"
        await hub.unbind_uid(name)
        assert (await ann.push())["channel"] == "#42"
        assert await hub.uid_of_client(name) is None
        await hub.join_group(name, "room")
        await ann.push()
        await hub.dissolve_group("room")
        assert (await ann.push())["unsubscribe"]["code"] == 2000
        assert await hub.count_group("room") == 0


@on_loop
async def test_the_application_overtakes_the_client_s_own_subscribe() -> None:
    """What it has joined and left meanwhile stays as it is: the client is no member."""
    may_answer = asyncio.Event()
    connections: list[Connection] = []

    async def on_subscribe(connection: Connection, _channel: str, _data: Any) -> bool:
        connections.append(connection)
        await may_answer.wait()
        return True

    async with service(on_subscribe) as client:
        talk = await client()
        number = await talk.send(subscribe={"channel": "a"})
        await eventually(lambda: bool(connections))
        await connections[0].join("a")
        await connections[0].leave("a")
        may_answer.set()

        assert await talk.answer(number) == DENIED
        hub.send_to_group("a", "nobody gets this")
        assert [(await talk.push()).keys() - {"channel"} for _ in range(2)] == [
            {"subscribe"},
            {"unsubscribe"},
        ]
        assert await hub.count_group("a") == 0


@on_loop
async def test_personal_channels_are_no_groups(caplog: pytest.LogCaptureFixture) -> None:
    """A client that joined one would be told that it is subscribed, and get nothing."""

    def on_rpc(connection: Connection, _method: str, data: Any) -> str:
        try:
            connection.join(data)
        except ConfigError as error:
            return str(error)
        return "joined"

    async with service(on_rpc) as client:
        ann = await client()
        assert await ann.ask(rpc={"method": "join", "data": "#tom"}) == {
            "rpc": {
                "data": "'#tom' is a user's personal channel and not a group: use the uid 'tom'"
                " with bind() or send_to_uid(), or give the group a name without #."
            }
        }
        client_id = ann.hello["connect"]["client"]
        refused = pytest.raises(ConfigError, match="is a user's personal channel and not a group")
        with refused:
            hub.join_group(client_id, "#tom")
        with refused:
            hub.send_to_group("#tom", "hello")
        # Other processes check as well; what they send all the same is ignored, and told.
        hub.local_node.actions.do(Join(client_id, Group("#tom")))
        assert [one.message for one in caplog.records] == [
            "a client cannot join the group '#tom', as names with '#' are users' personal channels:"
            " bind it to the user instead"
        ]
        await ann.ask(rpc={"method": "join", "data": "tom"})
        assert (await ann.push())["channel"] == "tom"


@on_loop
async def test_a_channel_that_is_joined_late_is_recovered() -> None:
    """An application may bind and join after the connect command, also when a client is back."""

    def on_rpc(connection: Connection, _method: str, _data: Any) -> None:
        connection.bind("ann")
        connection.join("room")

    async with service(on_rpc, channels={"room": KEPT}) as client:
        ann = await client()
        await ann.ask(rpc={"method": "enter"})
        known = {}
        for _ in range(2):
            push = await ann.push()
            position = {"epoch": push["subscribe"]["epoch"], "offset": 0}
            known[push["channel"]] = {"recover": True, **position}
        await ann.leave()
        for message in (1, 2):
            await hub.send_to_uid("ann", message)
            await hub.send_to_group("room", message)
        ann = await client(subs=known)
        await ann.ask(rpc={"method": "enter"})
        for channel in known:
            assert (await ann.push())["channel"] == channel
            pubs = [(await ann.push())["pub"]["data"] for _ in range(2)]
            assert pubs == [1, 2]
        await hub.send_to_group("room", 3)
        assert (await ann.push())["pub"]["data"] == 3


@on_loop
async def test_a_recovery_leaves_room_for_live_messages() -> None:
    """What would fill half of the send buffer is not recovered: it would be asked for again."""

    def on_client_connect(connection: Connection, _token: str, _data: Any) -> None:
        connection.join("room")
        connection.join("hall")

    channels = {"*": Channel(subscribe=True, history_size=10)}
    limits = {"max_send_buffer_size": 4000}
    async with service(on_client_connect, channels=channels, limits=limits) as client:
        ann = await client()
        begun = ann.hello["connect"]["subs"]
        await ann.leave()
        for channel in ("room", "hall"):
            await hub.send_to_group(channel, "x" * 1200)
        known = {
            channel: {"recover": True, "epoch": one["epoch"], "offset": one.get("offset", 0)}
            for channel, one in begun.items()
        }
        again = await client(subs=known)

        found = again.hello["connect"]["subs"]
        assert [one.get("recovered", False) for one in found.values()] == [True, False]
        assert [len(one.get("publications", ())) for one in found.values()] == [1, 0]
        alone = (await (await client()).ask(subscribe={"channel": "other"}))["subscribe"]
        assert "offset" not in alone


@on_loop
async def test_a_command_that_fails_unexpectedly_is_answered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With an error, after which the SDK tries again; the log has the place."""
    node = Node(None, has_clients=True)
    clients: dict[ClientId, Client] = {}
    sent: list[Action] = []
    rules = ChannelRules()
    subscriptions = ClientSubscriptions(
        node,
        rules,
        clients,
        lambda _client, actions: sent.extend(actions),
        ClientPresence(node, rules, clients),
        max_recovered=1,
        max_unsent=1,
        now=lambda: 0.0,
    )
    session = ClientSession(JSON, ClientLimits(), 0.0, ping_interval=0)
    client = Client(connection(1, FakeLink()), ClientId("0123456789ab-1"), session)
    session.receive('{"id": 1, "connect": {}}', 0.0)

    async def fail() -> None:
        raise LookupError("nobody expected this")

    await asyncio.wait([subscriptions.spawn(fail(), client, 1)])
    await turns()

    assert [json.loads(one.payload) for one in sent if isinstance(one, Send)] == [
        {"id": 1, **error(100, "internal server error", temporary=True)}
    ]
    assert "a command of an SDK client failed" in caplog.text
    assert "nobody expected this" in caplog.text
