"""The hub's verbs that do something, with clients at real sockets, alone and among others."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateman.bus import Cause, Gap
from gateman.bus.local import local_bus
from gateman.bus.memory import MemoryBroker, MemoryBus
from gateman.bus.nats import nats_bus
from gateman.bus.router_wire import HELLO
from gateman.cluster.hub import Hub, hub
from gateman.errors import (
    BusError,
    ConfigError,
    HubError,
    UnknownClient,
)

from ..support.cluster import alone, cluster, node
from ..support.deadlines import TIMEOUT
from ..support.loop import eventually, on_loop
from ..support.nats import nats_server

END = "end"


@on_loop
async def test_a_message_to_all_is_for_all() -> None:
    """Everywhere, as text or as bytes, and not for those who are excluded."""
    async with cluster(2) as [one, other]:
        here, there, sender = [await one.client(), await other.client(), await one.client()]
        one.hub.send_to_all("text")
        one.hub.send_to_all(bytearray(b"\x00"))
        one.hub.send_to_all("not for the sender", exclude=sender.id)
        one.hub.send_to_all("for here only", exclude=[sender.id, there.id])
        one.hub.send_to_all(END)

        common: list[str | bytes] = ["text", b"\x00"]
        assert await here.read_to(END) == [*common, "not for the sender", "for here only"]
        assert await there.read_to(END) == [*common, "not for the sender"]
        assert await sender.read_to(END) == common


@on_loop
async def test_a_message_to_a_group_is_for_its_members() -> None:
    """Wherever they are, and for nobody else."""
    async with cluster(2) as [one, other]:
        here, there, elsewhere = [
            await one.client("room"),
            await other.client("room"),
            await other.client("hall"),
        ]
        one.hub.send_to_group("room", "1")
        other.hub.send_to_group("room", "2", exclude=there.id)
        one.hub.send_to_group("nobody is here", "3")
        one.hub.send_to_all(END)

        assert sorted(map(str, await here.read(3))) == ["1", "2", END]
        assert await there.read_to(END) == ["1"]
        assert await elsewhere.read_to(END) == []


@on_loop
async def test_a_member_of_two_groups_gets_one_message() -> None:
    """Here and elsewhere; and no groups are nobody."""
    async with cluster(2) as [one, other]:
        clients = [await node.client("room", "hall") for node in (one, other)]
        one.hub.send_to_group(["room", "hall", "room"], "once")
        one.hub.send_to_group([], "never")
        one.hub.send_to_group(END, "in no group")
        one.hub.send_to_all(END)

        assert [await client.read_to(END) for client in clients] == [["once"], ["once"]]


@on_loop
async def test_a_message_to_a_user_is_for_all_of_its_clients() -> None:
    """On the phone and on the laptop, and to several users at once."""
    async with cluster(2) as [one, other]:
        phone, laptop, bob = [
            await one.client(uid="ann"),
            await other.client(uid="ann"),
            await other.client(uid="bob"),
        ]
        one.hub.send_to_uid("ann", "to ann")
        one.hub.send_to_uid(["ann", "bob", "eve"], "to both")
        one.hub.send_to_uid(["bob"], "to bob", exclude=[phone.id])
        one.hub.send_to_uid((), "to nobody")
        one.hub.send_to_all(END)

        assert await phone.read_to(END) == ["to ann", "to both"]
        assert await laptop.read_to(END) == ["to ann", "to both"]
        assert await bob.read_to(END) == ["to both", "to bob"]


@on_loop
async def test_a_message_to_a_client_is_for_it_alone() -> None:
    """Its id says where it is; who is not there is counted."""
    async with cluster(2) as [one, other]:
        here, there, third = [await one.client(), await other.client(), await other.client()]
        one.hub.send_to_client(here.id, "1")
        one.hub.send_to_client(there.id, "2")
        one.hub.send_to_clients([here.id, there.id, third.id, here.id], "3")
        one.hub.send_to_clients([], "to nobody")
        one.hub.send_to_client(f"{one.hub.node}-99", "nobody here")
        one.hub.send_to_client(f"{other.hub.node}-99", "nobody there")
        one.hub.send_to_all(END)

        assert await here.read_to(END) == ["1", "3"]
        assert await there.read_to(END) == ["2", "3"]
        assert await third.read_to(END) == ["3"]
        assert (one.hub.counts["unknown_client"], other.hub.counts["unknown_client"]) == (1, 1)


@on_loop
async def test_awaiting_raises_for_unknown_clients() -> None:
    """And counted for who does not."""
    async with cluster(2) as [one, other]:
        await one.hub.count_clients()  # By then every node is known.
        for client in (f"{one.hub.node}-99", f"{other.hub.node}-99", "nowhere-1"):
            with pytest.raises(UnknownClient) as caught:
                await one.hub.join_group(client, "room")
            assert caught.value.client_id == client
        one.hub.send_to_client("nowhere-1", "x")
        one.hub.leave_group(f"{one.hub.node}-99", "room")
        await eventually(lambda: other.hub.counts["unknown_client"] == 1)

        assert one.hub.counts["unknown_client"] == 4


BAD: list[tuple[str, tuple[Any, ...]]] = [
    ("send_to_group", ("", "x")),
    ("send_to_group", (["room", 7], "x")),
    ("send_to_uid", (42, "x")),
    ("send_to_uid", ("x" * 256, "x")),
    ("send_to_client", ("ann", "x")),
    ("send_to_clients", (["n-1", "ann"], "x")),
    ("close_client", ("ann",)),
    ("bind_uid", ("n-1", "")),
    ("bind_uid", ("ann", "42")),
    ("unbind_uid", ("ann",)),
    ("join_group", ("n-1", None)),
    ("leave_group", ("n-1", "")),
    ("dissolve_group", ("",)),
    ("set_session", ("ann", {})),
    ("update_session", ("ann",)),
]


@on_loop
async def test_invalid_names_are_refused_at_once() -> None:
    """No verb sends anything anywhere then."""
    async with alone() as node:
        for verb, arguments in BAD:
            with pytest.raises(ConfigError):
                getattr(node.hub, verb)(*arguments)
        with pytest.raises(ConfigError):
            node.hub.send_to_all("x", exclude=["ann"])
        with pytest.raises(TypeError):
            node.hub.send_to_all(object())  # type: ignore[arg-type]


@on_loop
async def test_a_hub_that_does_not_run_says_so() -> None:
    """Before on_worker_start and after on_worker_stop."""
    idle = Hub()
    for verb, arguments in [("send_to_all", ("x",)), ("join_group", ("n-1", "room"))]:
        with pytest.raises(HubError) as caught:
            getattr(idle, verb)(*arguments)
        assert str(caught.value) == (
            "the hub does not run: in a process of a service it does from on_worker_start to"
            " on_worker_stop; a program that is none, such as a web application, connects its own,"
            " with SyncHub or Hub.connect."
        )
    await idle.stop()
    await idle.start(None)
    with pytest.raises(HubError, match="the hub runs already"):
        await idle.start(None)
    assert (idle.is_connected, idle.nodes, idle.counts) == (True, (), {})
    await idle.stop()
    with pytest.raises(HubError):
        idle.send_to_all("x")


OTHER_LOOP = (
    "the hub belongs to an event loop that has ended, or to the process that forked this one:"
    " connect another hub, or use SyncHub."
)


def test_a_hub_does_not_outlive_its_event_loop() -> None:
    """What it would send on another one never leaves, so it is refused, and not counted."""
    one = Hub()
    asyncio.run(one.start(None))

    async def use() -> None:
        for verb, arguments in [("send_to_all", ("x",)), ("join_group", ("n-1", "room"))]:
            with pytest.raises(HubError) as caught:
                getattr(one, verb)(*arguments)
            assert str(caught.value) == OTHER_LOOP
        with pytest.raises(HubError, match="event loop that has ended"):
            await one.count_clients()
        await one.stop()
        await one.start(None)
        one.send_to_all("x")
        await one.stop()

    asyncio.run(use())


FORKED = """
import asyncio, os
from gateman import Hub, HubError

async def main():
    hub = Hub()
    await hub.start(None)
    child = os.fork()
    if not child:
        try:
            hub.send_to_all("x")
        except HubError as error:
            print(error, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    hub.send_to_all("x")
    await hub.stop()

asyncio.run(main())
"""


def test_a_hub_is_not_its_child_s() -> None:
    """A forked process that sends with it is told so."""
    ended = subprocess.run(
        [sys.executable, "-c", FORKED], capture_output=True, text=True, check=False, timeout=TIMEOUT
    )

    assert (ended.stdout, ended.stderr) == (f"{OTHER_LOOP}\n", "")


@on_loop
async def test_a_program_starts_with_its_bus_or_not_at_all() -> None:
    """Who cannot be reached is told at the start, and it may be tried again."""
    broker = MemoryBroker()
    broker.go_down()
    lonely = Hub()
    with pytest.raises(BusError):
        await lonely.start(MemoryBus(broker=broker), has_clients=False, needs_bus=True)
    broker.come_up()
    await lonely.start(MemoryBus(broker=broker), has_clients=False, needs_bus=True)
    assert lonely.is_connected
    await lonely.stop()


@on_loop
async def test_a_process_of_a_service_starts_without_its_bus() -> None:
    """One without clients too: it is there when the bus is."""
    broker = MemoryBroker()
    broker.go_down()
    patient = Hub()
    await patient.start(MemoryBus(broker=broker), has_clients=False)
    before = patient.is_connected
    broker.come_up()
    await eventually(lambda: patient.is_connected)

    assert not before
    await patient.stop()


@on_loop
async def test_clients_are_served_before_the_bus_is_connected() -> None:
    """Their process starts without it, and hears of the others when it comes."""
    broker = MemoryBroker()
    broker.go_down()
    gaps: list[Gap] = []
    async with cluster(1, lambda: MemoryBus(broker=broker)) as [one]:
        one.hub.on_gap = gaps.append
        client = await one.client()
        client.connection.join("room")
        one.hub.send_to_group("room", "here")
        assert await client.read() == ["here"]
        assert not one.hub.is_connected
        broker.come_up()
        async with node(MemoryBus(broker=broker)) as other:
            await eventually(lambda: one.hub.nodes == (other.hub.node,))
            other.hub.send_to_group("room", "there")
            assert await client.read() == ["there"]
    assert [(gap.cause, gap.unsent) for gap in gaps] == [(Cause.DISCONNECTED, 1)]


@on_loop
async def test_a_program_takes_part_without_clients() -> None:
    """It sends, asks and changes like any node, and is none of them."""
    async with cluster(2, lambda: MemoryBus("outside")) as [one, other]:
        clients = [await one.client("room"), await other.client(uid="ann")]
        async with await Hub.connect("memory://outside") as outside:
            outside.send_to_all("1")
            outside.send_to_uid("ann", "2")
            await outside.join_group(clients[1].id, "room")
            outside.send_to_group("room", "3")
            assert await clients[0].read(2) == ["1", "3"]
            assert await clients[1].read(3) == ["1", "2", "3"]
            assert await outside.count_clients() == 2
            assert set(outside.nodes) == {one.hub.node, other.hub.node}
            assert one.hub.nodes == (other.hub.node,)


@on_loop
async def test_invalid_urls_are_refused_at_once() -> None:
    """Nothing is connected anywhere."""
    for url in ("", "redis://host", "nats://", "local://relative"):
        with pytest.raises(ConfigError):
            await Hub.connect(url)
    with pytest.raises(BusError):
        await Hub.connect("local:///nobody/listens/here")


@on_loop
async def test_the_patience_for_answers_is_checked() -> None:
    """It is a positive number of seconds, also while the hub runs."""
    patient = Hub()
    for seconds in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ConfigError):
            patient.answer_timeout = seconds
    patient.answer_timeout = 7
    await patient.start(None)
    assert patient.local_node.query_client.timeout == 7
    patient.answer_timeout = 8
    assert (patient.local_node.query_client.timeout, patient.answer_timeout) == (8, 8)
    await patient.stop()


def test_a_process_has_one_hub() -> None:
    """It is what everybody imports."""
    import gateman

    assert gateman.hub is hub


@on_loop
async def test_a_start_that_is_cancelled_leaves_no_connection(tmp_path: Path) -> None:
    """
    It has connected, and waits for its first subscriptions.

    A process that got its SIGTERM then ended with the connection to its router open.
    """
    path = tmp_path / "router.sock"
    ended = asyncio.Event()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HELLO)
        await reader.read()
        ended.set()
        writer.close()

    router = await asyncio.start_unix_server(greet, path)
    bus = local_bus(str(path))
    starting = asyncio.ensure_future(Hub().start(bus))
    await eventually(lambda: bus.is_connected)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting

    assert not bus.is_connected
    await ended.wait()
    router.close()


@on_loop
async def test_a_start_that_is_refused_leaves_no_connection(tmp_path: Path) -> None:
    """Whatever it wants to hear: a program that tries again would collect connections."""
    config = (
        'authorization { default_permissions: {subscribe: "nothing"},'
        " users: [{user: anna, password: x}] }"
    )
    with nats_server(tmp_path, config) as server:
        bus = nats_bus(server.url, user="anna", password="x")
        with pytest.raises(BusError, match="it refuses: Permissions Violation"):
            await Hub().start(bus, needs_bus=True)

        assert not bus.is_connected


def test_a_hub_takes_no_url_and_no_names_of_its_users() -> None:
    with pytest.raises(ConfigError, match=r"^Hub\(\) got a URL: write await Hub\.connect\(url\)"):
        Hub("nats://127.0.0.1:1?name=chat")  # type: ignore[arg-type]
    with pytest.raises(AttributeError, match="on_gapp"):
        hub.on_gapp = print  # type: ignore[attr-defined]


def test_errors_of_calls_name_the_hub() -> None:
    """And not the class that a method is written in, which callers do not know."""
    with pytest.raises(TypeError, match=r"^Hub\.update_session\(\) takes 2 "):
        hub.update_session("n-1", {"a": 1})  # type: ignore[call-arg]
    question: Any = hub.is_uid_online("ann")
    question.close()
    assert question.__qualname__ == "Hub.is_uid_online"
