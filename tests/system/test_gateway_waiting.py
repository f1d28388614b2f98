"""What waits between gateways and business processes: how much, and what becomes of it."""

import asyncio

import pytest

from gateman.cluster.hub import Hub
from gateman.cluster.names import ClientId
from tests.support.gateways import read, site
from tests.support.loop import eventually, on_loop


@pytest.mark.parametrize(("count", "size"), [(1500, 4096), (20_000, 5)], ids=["large", "tiny"])
def test_who_floods_waits_for_itself(count: int, size: int) -> None:
    """It is not read from while its share is under way; others go on, and nothing is lost."""
    on_loop(_flood)([f"{number:0{size}}" for number in range(count)])


async def _flood(said: list[str]) -> None:
    may_go_on = asyncio.Event()
    hub = Hub()

    async def hear(client_id: ClientId, message: str) -> None:
        there.journal.note(client_id, message)
        if len(message) > 1:
            await may_go_on.wait()
        else:
            hub.send_to_client(client_id, message)

    async def talk() -> None:
        for message in said:
            await flooder.send(message)
        await flooder.close(4001, "enough")

    async with site() as there:
        await there.business(hub, on_message=hear)
        front = await there.gateway()
        [flooder, name], other = await front.newcomer(), await front.client()
        talking = asyncio.ensure_future(talk())
        await eventually(lambda: front.service.counts["clients_paused"] == 1)
        for number in range(10):
            await other.send(f"{number}")
            assert await read(other) == [f"{number}"]
        assert len(front.service._dispatch.clients[name].pending) == 32  # noqa: SLF001
        # What was read with the last of them.
        assert front.service.counts["events_waiting"] * len(said[0]) < 1 << 20
        may_go_on.set()
        await talking
        await there.journal.until("close", name, 4001, "enough")
        await front.settle()
        await eventually(lambda: not front.service.counts["events_waiting"])

        assert there.journal.of(name) == [(message,) for message in said]
        assert front.service.counts["clients_paused"] == 0


@on_loop
async def test_what_is_said_while_nobody_is_there_waits() -> None:
    """Those who are in stay in, are not read from, and are handled by whoever comes."""
    said = [f"{number:08192}" for number in range(200)]
    async with site() as there:
        first = await there.business()
        front = await there.gateway()
        client, name = await front.newcomer()
        await front.settle()
        await first.stop()

        async def talk() -> None:
            for message in said:
                await client.send(message)
            await client.close()

        talking = asyncio.ensure_future(talk())
        await eventually(lambda: front.service.counts["clients_paused"] == 1)
        second = await there.business()
        await talking
        await second.journal.until("close")
        await front.settle()

        assert first.journal.of("message") == []
        assert second.journal.of("message") == [(name, message) for message in said]
        assert second.journal.of("close") == [(name, 1000, "")]
        assert front.service.counts["events_repeated"] == 0
        await front.stop()
