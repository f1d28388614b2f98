"""What a process sends to clients of all processes, and how many get it."""

import pytest

from gateman.bus import subject
from gateman.bus.memory import MemoryBroker, MemoryBus
from gateman.errors import (
    HubError,
    PartialResult,
)

from ..support.cluster import alone, cluster
from ..support.loop import on_loop

END = "end"


@on_loop
async def test_sending_can_return_the_number_of_clients() -> None:
    """In all processes, without those who are excluded; each once, and nobody is a number too."""
    async with cluster(2) as [one, other]:
        here, there = await one.client("room", uid="42"), await other.client("room", uid="42")
        third = await other.client("room", "hall", uid="7")
        hub = one.hub
        numbers = [
            await hub.send_to_all("x"),
            await hub.send_to_all("x", exclude=[here.id, third.id, "nobody-1"]),
            await hub.send_to_uid("42", "x"),
            await hub.send_to_uid("42", "x", exclude=there.id),
            await hub.send_to_uid(["42", "7", "42"], "x"),
            await hub.send_to_uid("nobody", "x"),
            await hub.send_to_uid([], "x"),
            await hub.send_to_group("room", "x"),
            await hub.send_to_group(["room", "hall"], "x"),
            await hub.send_to_group("empty", "x"),
            await hub.send_to_client(here.id, "x"),
            await hub.send_to_client(there.id, "x"),
            await hub.send_to_client("nobody-1", "x"),
            await hub.send_to_clients([here.id, there.id, third.id, f"{other.hub.node}-9"], "x"),
            await hub.send_to_clients([], "x"),
        ]
        sending = hub.send_to_uid("42", "last")
        assert await here.read_to("last") == ["x"] * 8
        assert [await sending, await sending] == [2, 2]

    assert numbers == [3, 1, 2, 1, 3, 0, 0, 3, 3, 0, 1, 1, 0, 3, 0]


@on_loop
async def test_a_process_that_does_not_answer_makes_the_count_partial() -> None:
    """The others' number is there, and the process that may have more is named."""
    async with cluster(2) as [one, other]:
        await one.client(uid="42")
        assert other.bus is not None
        other.bus.unsubscribe(subject("all"))
        one.hub.answer_timeout = 0.1
        with pytest.raises(PartialResult) as caught:
            await one.hub.send_to_uid("42", "x")
        assert (caught.value.value, caught.value.missing) == (1, (other.hub.node,))


@on_loop
async def test_a_direct_message_comes_behind_those_of_the_hub() -> None:
    """Whatever is sent to a client comes out in the order in which it was sent."""
    async with alone() as node:
        client = await node.client("room")
        node.hub.send_to_group("room", "1")
        client.connection.send("2")
        node.hub.send_to_all("3")
        node.hub.send_to_client(client.id, "4")
        client.connection.send("5")
        await client.connection.drain()
        client.connection.send("6")

        assert await client.read(6) == ["1", "2", "3", "4", "5", "6"]


@on_loop
async def test_a_message_too_big_for_the_bus_is_sent_to_no_client() -> None:
    """Not to some: who sends is told, and may send less."""
    broker = MemoryBroker()
    async with cluster(2, lambda: MemoryBus(broker=broker, max_payload_size=2000)) as [one, other]:
        here, there = [await one.client("room"), await other.client()]
        too_big = "a message of 2000 bytes cannot go to other"
        with pytest.raises(HubError, match=too_big):
            one.hub.send_to_all("x" * 2000)
        with pytest.raises(HubError, match=too_big):
            one.hub.send_to_group("room", b"x" * 2000)
        with pytest.raises(HubError, match=too_big):
            one.hub.send_to_clients([here.id, there.id], "x" * 2000)
        one.hub.send_to_client(here.id, "x" * 2000)
        one.hub.send_to_all(END)

        assert await here.read_to(END) == ["x" * 2000]
        assert await there.read_to(END) == []


@on_loop
async def test_without_a_bus_there_is_no_such_limit() -> None:
    """What goes nowhere else is only limited by what clients take."""
    async with alone() as node:
        client = await node.client()
        node.hub.send_to_all("x" * 900_000)

        assert [len(message) for message in await client.read()] == [900_000]
