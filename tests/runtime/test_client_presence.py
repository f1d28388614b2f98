"""Who is in a channel, who joins and who leaves it, as SDK clients and the application see it."""

import asyncio
from typing import Any

import pytest

from gateman import Allow, Channel, ConfigError, Connection, Worker
from gateman.cluster.publication import ClientInfo
from gateman.config.worker import settings_of
from gateman.runtime.client_presence import _comes_back

from ..support.client_talk import DENIED, Talk, error, service
from ..support.loop import eventually, on_loop

ROOM = Channel(subscribe=True, presence=True, join_leave=True, leave_delay=0.3)
SOUGHT = Channel(subscribe=True, presence="everyone")
HIDDEN = Channel(subscribe=True, presence="server")
CHANNELS = {"room": ROOM, "sought": SOUGHT, "hidden": HIDDEN, "plain": Channel(subscribe=True)}


def on_client_connect(connection: Connection, token: str, _data: Any) -> Allow:
    if token:
        connection.bind(token)
    return Allow(info={"name": token.title()})


def on_subscribe(_connection: Connection, _channel: str, data: Any) -> Allow | None:
    return Allow(info=data) if data else None


def people(answer: Any) -> dict[str, Any]:
    """Return who is in a channel, by user."""
    presence = answer["presence"]["presence"]
    assert all(name == one["client"] for name, one in presence.items())
    return {one.get("user", ""): one for one in presence.values()}


def told(push: Any) -> tuple[str, str, str]:
    """Shorten a push: what happened, where, and to whom."""
    [kind] = push.keys() - {"channel"}
    return kind, push["channel"], push[kind]["info"].get("user", "")


async def enter(client: Talk, channel: str = "room", **fields: Any) -> Any:
    return await client.ask(subscribe={"channel": channel, **fields})


@on_loop
async def test_presence_names_the_clients_with_their_data() -> None:
    async with service(on_client_connect, on_subscribe, channels=CHANNELS) as connect:
        ann, bob = await connect(token="ann"), await connect(token="bob")
        await enter(ann)
        await enter(bob, data={"seat": 4})

        found = people(await ann.ask(presence={"channel": "room"}))
        stats = await bob.ask(presence_stats={"channel": "room"})

        assert found == {
            "ann": {
                "client": ann.hello["connect"]["client"],
                "user": "ann",
                "conn_info": {"name": "Ann"},
            },
            "bob": {
                "client": bob.hello["connect"]["client"],
                "user": "bob",
                "conn_info": {"name": "Bob"},
                "chan_info": {"seat": 4},
            },
        }
        assert stats == {"presence_stats": {"num_clients": 2, "num_users": 2}}


@on_loop
async def test_who_may_ask_is_what_the_pattern_or_the_callback_says() -> None:
    def on_subscribe(_connection: Connection, _channel: str, data: Any) -> Allow | None:
        return Allow(presence=data) if isinstance(data, bool) else None

    async with service(on_subscribe, channels=CHANNELS) as connect:
        member, other = await connect(), await connect()
        for channel in CHANNELS:
            await enter(member, channel)
        answers = {
            (channel, kind): await client.ask(**{kind: {"channel": channel}})
            for channel in CHANNELS
            for kind, client in (("presence", member), ("presence_stats", other))
        }
        await enter(other, data=False)
        refused = await other.ask(presence={"channel": "room"})

    allowed = {where for where, answer in answers.items() if "error" not in answer}
    assert allowed == {("room", "presence"), ("sought", "presence"), ("sought", "presence_stats")}
    assert answers["room", "presence_stats"] == DENIED
    assert answers["hidden", "presence"] == DENIED
    assert answers["plain", "presence"] == error(108, "not available")
    assert refused == DENIED


@on_loop
async def test_joins_and_leaves_are_told_to_subscribers() -> None:
    async with service(on_client_connect, channels=CHANNELS) as connect:
        ann, bob, other = [await connect(token=name) for name in ("ann", "bob", "other")]
        await enter(ann)
        await enter(bob)
        await bob.ask(unsubscribe={"channel": "room"})

        assert [told(await ann.push()) for _ in range(3)] == [
            ("join", "room", "ann"),
            ("join", "room", "bob"),
            ("leave", "room", "bob"),
        ]
        assert told(await bob.push()) == ("join", "room", "bob")
        await other.ask(rpc={"method": "x"})
        assert other.pushes == []


@on_loop
async def test_a_client_that_closes_leaves_at_once_and_a_lost_one_after_a_while() -> None:
    async with service(on_client_connect, channels=CHANNELS) as connect:
        ann, bob, cid = [await connect(token=name) for name in ("ann", "bob", "cid")]
        for client in (ann, bob, cid):
            await enter(client)
        joins = [told(await ann.push())[0] for _ in range(3)]
        cid.abort()
        await eventually_lost(ann, 2)
        await bob.leave()

        assert joins == ["join"] * 3
        assert told(await ann.push()) == ("leave", "room", "bob")
        assert told(await ann.push()) == ("leave", "room", "cid")


async def eventually_lost(client: Talk, count: int) -> None:
    """Wait until so many clients are in the room."""
    while True:
        stats = await client.ask(presence_stats={"channel": "room"})
        if stats["presence_stats"]["num_clients"] == count:
            return


@on_loop
async def test_a_user_who_comes_back_is_never_gone() -> None:
    slow = {"room": Channel(subscribe=True, join_leave=True, leave_delay=60)}
    async with service(on_client_connect, channels=slow) as connect:
        ann, bob = await connect(token="ann"), await connect(token="bob")
        await enter(ann)
        await enter(bob)
        bob.abort()
        again = await connect(token="bob")
        await enter(again)

        found = [told(await ann.push()) for _ in range(4)]

    assert found == [
        ("join", "room", "ann"),
        ("join", "room", "bob"),
        ("join", "room", "bob"),
        ("leave", "room", "bob"),
    ]


@on_loop
async def test_the_application_is_told_in_order() -> None:
    seen: list[tuple[str, str, str, bytes]] = []

    def on_join(channel: str, info: ClientInfo) -> None:
        seen.append(("join", channel, info.user, info.connection_info))

    async def on_leave(channel: str, info: ClientInfo) -> None:
        await asyncio.sleep(0)
        seen.append(("leave", channel, info.user, info.connection_info))

    async with service(on_client_connect, on_join, on_leave, channels=CHANNELS) as connect:
        ann, bob = await connect(token="ann"), await connect(token="bob")
        await enter(ann)
        await enter(ann, "plain")
        await ann.ask(unsubscribe={"channel": "room"})
        await enter(bob)
        bob.abort()
        await eventually(lambda: len(seen) == 4)

    assert seen == [
        ("join", "room", "ann", b'{"name":"Ann"}'),
        ("leave", "room", "ann", b'{"name":"Ann"}'),
        ("join", "room", "bob", b'{"name":"Bob"}'),
        ("leave", "room", "bob", b'{"name":"Bob"}'),
    ]


@on_loop
async def test_all_leaves_are_told_before_the_process_stops() -> None:
    seen: list[str] = []

    async def on_leave(_channel: str, info: ClientInfo) -> None:
        await asyncio.sleep(0.01)
        seen.append(info.user)

    def on_worker_stop(_worker: object) -> None:
        seen.append("stop")

    slow = {"room": Channel(subscribe=True, join_leave=True, leave_delay=60)}
    async with service(on_client_connect, on_leave, on_worker_stop, channels=slow) as connect:
        for name in ("ann", "bob"):
            client = await connect(token=name)
            await enter(client)

    assert seen == ["ann", "bob", "stop"]


@on_loop
async def test_channels_that_the_server_chooses_have_joins_too() -> None:
    def on_client_connect(connection: Connection, token: str, _data: Any) -> None:
        connection.bind(token)
        connection.join("room")

    def on_rpc(connection: Connection, method: str, _data: Any) -> None:
        getattr(connection, method)("room")

    async with service(on_client_connect, on_rpc, channels=CHANNELS) as connect:
        ann, bob = await connect(token="ann"), await connect(token="bob")
        await bob.ask(rpc={"method": "leave"})
        await bob.ask(rpc={"method": "join"})

        assert [told(await ann.push()) for _ in range(4)] == [
            ("join", "room", "ann"),
            ("join", "room", "bob"),
            ("leave", "room", "bob"),
            ("join", "room", "bob"),
        ]


def test_on_join_without_a_channel_that_calls_it_is_refused() -> None:
    worker = Worker(
        "websocket://127.0.0.1:0", client_protocol="centrifuge", channels={"a": Channel()}
    )
    worker.on_join(print)

    with pytest.raises(ConfigError) as caught:
        settings_of(worker, now=0.0)

    assert caught.value.problem == "worker 'worker' has on_join, and no channel with join_leave"


@pytest.mark.parametrize(
    ("code", "comes_back"),
    [
        (1000, False), (1005, False), (1001, True), (1006, True), (1008, False), (1012, True),
        (1013, True), (3001, True), (3503, False), (4000, True), (4409, False), (4500, False),
    ],
)  # fmt: skip
def test_close_codes_say_whether_a_client_comes_back(code: int, comes_back: bool) -> None:  # noqa: FBT001
    assert _comes_back(code) is comes_back
