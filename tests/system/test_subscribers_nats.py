"""Whether anybody subscribes, asked of real NATS servers: clusters, rights, and other clients."""

import asyncio
from pathlib import Path

import nats
import pytest

from gateman.bus import open_bus, subject

from ..bus.contract import OTHER, ROOM, ignore
from ..bus.contract_of_queries import answered, subscriber
from ..support.deadlines import TIMEOUT
from ..support.loop import on_loop
from ..support.nats import nats_cluster, nats_server

SECRET = subject("secret")

# What a service named ``test`` may do; where nobody is, and what is answered, is ours alone.
_ROOMS = '"gateman.test.group.>"'
_ALL = f'[{_ROOMS}, "gateman.test.=answers.*", "gateman.test.=nowhere"]'


@on_loop
async def test_servers_know_of_each_other(tmp_path: Path) -> None:
    """A process at another server of the cluster is there until it is killed."""
    with nats_cluster(tmp_path) as servers:
        bus = open_bus(servers[0].url)
        await bus.start()
        with subscriber(tmp_path, servers[1].url) as child:
            await answered(bus, ROOM, expected=True)
            child.freeze()
            blocked = await bus.has_subscriber(ROOM)
            child.kill()
            await answered(bus, ROOM, expected=False)
        await bus.stop()

    assert blocked is True


@on_loop
async def test_a_server_without_headers_cannot_tell(tmp_path: Path) -> None:
    """Everything else goes on, and nobody is taken for dead."""
    with nats_server(tmp_path, "no_header_support: true") as server:
        here, there = open_bus(server.url), open_bus(server.url)
        await here.start()
        await there.start()
        await there.subscribe(ROOM, ignore)
        answers = [await here.has_subscriber(ROOM), await here.has_subscriber(OTHER)]
        await here.stop()
        await there.stop()

    assert answers == [None, None]


@pytest.mark.parametrize(
    ("publish", "subscribe", "expected"),
    [
        (_ALL, _ALL, [True, False, None]),
        (_ALL, _ROOMS, [None, None, None]),
        (_ROOMS, _ALL, [None, None, None]),
    ],
)
@on_loop
async def test_without_the_permission_the_answer_is_unknown(
    tmp_path: Path, publish: str, subscribe: str, expected: list[bool | None]
) -> None:
    """What a server refuses is not taken for an answer, nor for a subscription that failed."""
    config = (
        f"authorization {{ default_permissions: {{publish: {publish}, subscribe: {subscribe}}},"
        " users: [{user: anna, password: x}] }"
    )
    with nats_server(tmp_path, config) as server:
        here, there = (open_bus(server.url, user="anna", password="x") for _ in range(2))
        await here.start()
        await there.start()
        await there.subscribe(ROOM, ignore)
        answers = []
        for one in (ROOM, OTHER, SECRET):
            asked = here.has_subscriber(one)
            await here.subscribe(subject("group", "mine"), ignore)
            answers.append(await asked)
        await here.stop()
        await there.stop()

    assert answers == expected


@on_loop
async def test_other_clients_are_seen_and_not_confused(tmp_path: Path) -> None:
    """They count; and who subscribes to everything leaves us without an answer."""
    with nats_server(tmp_path) as server:
        bus = open_bus(server.url)
        await bus.start()
        client = await nats.connect(server.place)
        everything = await client.subscribe(">")
        await client.flush()
        await client.flush()
        answers = [await bus.has_subscriber(OTHER)]
        await everything.unsubscribe()
        await client.subscribe(f"gateman.test.{ROOM}")
        await client.flush()
        await client.flush()
        answers += [await bus.has_subscriber(OTHER), await bus.has_subscriber(ROOM)]
        await client.close()
        await answered(bus, ROOM, expected=False)
        await bus.stop()

    assert answers == [None, False, True]


@on_loop
async def test_a_server_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    """After two seconds nobody can tell; when it goes on, it can be asked again."""
    with nats_server(tmp_path) as server:
        bus = open_bus(server.url)
        await bus.start()
        server.freeze()
        async with asyncio.timeout(TIMEOUT):
            answers = [await bus.has_subscriber(ROOM)]
        server.thaw()
        await answered(bus, ROOM, expected=False)
        await bus.stop()

    assert answers == [None]
