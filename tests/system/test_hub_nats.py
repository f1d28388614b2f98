"""The hub over a real NATS: one server, three of them, and none for half a minute."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from gateman.bus import open_bus
from gateman.cluster.hub import Hub

from ..support.cluster import cluster, node
from ..support.loop import eventually, on_loop
from ..support.master import Master, master
from ..support.nats import nats_cluster, nats_server

END = "end"


@on_loop
async def test_nodes_of_one_server(tmp_path: Path) -> None:
    """Messages, commands and questions go from node to node, whatever the names are made of."""
    with nats_server(tmp_path) as server:
        async with cluster(2, lambda: open_bus(server.url)) as [one, other]:
            for name in ("room", "a.b.*.>", " \r\nPUB x 0", "房间", "x" * 255):
                client = await other.client(name, uid=name)
                one.hub.send_to_group(name, "group")
                one.hub.send_to_uid(name, b"\x00uid")
                one.hub.send_to_client(client.id, "client")
                assert await client.read(3) == ["group", b"\x00uid", "client"]
                assert await one.hub.clients_of_group(name) == [client.id]
                await one.hub.close_client(client.id)
            assert one.hub.counts["lost"] == other.hub.counts["lost"] == 0
            async with await Hub.connect(server.url) as outside:
                assert set(outside.nodes) <= {one.hub.node, other.hub.node}
                assert await outside.count_clients() == 0


@on_loop
async def test_nodes_of_three_servers(tmp_path: Path) -> None:
    """A cluster of servers is one bus, also for joining that is awaited."""
    with nats_cluster(tmp_path) as servers:
        async with contextlib.AsyncExitStack() as stack:
            nodes = [
                await stack.enter_async_context(node(open_bus(server.url))) for server in servers
            ]
            for one in nodes:
                await eventually(lambda one=one: len(one.hub.nodes) == 2)  # type: ignore[misc]
            clients = [await one.client() for one in nodes]
            for number, one in enumerate(nodes):
                await one.hub.join_group(clients[number - 1].id, f"room {number}")
                one.hub.send_to_group(f"room {number}", f"from {number}")
                one.hub.send_to_all(END)
            for number, client in enumerate(clients):
                expected = {f"from {(number + 1) % 3}", END}
                assert set(await client.read(4)) == expected
            assert [await one.hub.count_clients() for one in nodes] == [3, 3, 3]


NODE = """
import json
from gateman import Worker, hub

worker = Worker("websocket://127.0.0.1:0", name="node", bus={url!r}, test_page=False)
gaps = []

@worker.on_worker_start
def watch(_):
    hub.on_gap = lambda gap: gaps.append([gap.cause, gap.until - gap.since, gap.unsent])

@worker.on_open
async def join(connection):
    await connection.join("room")
    connection.send(hub.node)

@worker.on_message
def say(connection, message):
    if message == "?":
        connection.send(json.dumps({{
            "counts": hub.counts, "gaps": gaps, "nodes": hub.nodes, "connected": hub.is_connected,
        }}))
    else:
        hub.send_to_group("room", f"{{hub.node}} {{message}}")

Worker.run_all()
"""


class Talker:
    """
    A client of one node that talks, and takes note of what it hears.

    Attributes:
        node: The node.
        sent: How many messages it has sent.
        heard: The numbers that it has heard, by the node that they came from.
    """

    def __init__(self, socket: ClientConnection, node: str) -> None:
        self.node = node
        self.sent = 0
        self.heard: dict[str, list[int]] = {}
        self._socket = socket
        self._answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._listening = asyncio.ensure_future(self._listen())

    async def _listen(self) -> None:
        async for message in self._socket:
            text = str(message)
            if text.startswith("{"):
                self._answers.put_nowait(json.loads(text))
            else:
                node, number = text.split()
                self.heard.setdefault(node, []).append(int(number))

    async def say(self) -> None:
        """Say the next number."""
        await self._socket.send(str(self.sent))
        self.sent += 1

    async def ask(self) -> dict[str, Any]:
        """Ask the node how it is."""
        await self._socket.send("?")
        async with asyncio.timeout(10):
            return await self._answers.get()

    async def end(self) -> None:
        """Go."""
        await self._socket.close()
        await self._listening


@asynccontextmanager
async def talkers(*services: Master) -> AsyncIterator[list[Talker]]:
    """Connect a client to each node."""
    made = []
    for service in services:
        socket = await connect(f"ws://127.0.0.1:{service.port}")
        made.append(Talker(socket, str(await socket.recv())))
    try:
        yield made
    finally:
        for talker in made:
            await talker.end()


async def account_for_everything(folder: Path, *, away: float) -> None:
    """
    Kill NATS under load, and account for every message that either node sent.

    Args:
        folder: Where files go.
        away: For how long NATS is dead, in seconds.
    """
    loop = asyncio.get_running_loop()
    (folder / "one").mkdir()
    (folder / "other").mkdir()
    with (
        nats_server(folder) as server,
        master(NODE.format(url=server.url), folder / "one") as one,
        master(NODE.format(url=server.url), folder / "other") as other,
    ):
        async with talkers(one, other) as both:
            states = [await talker.ask() for talker in both]
            while not all(state["nodes"] for state in states):
                states = [await talker.ask() for talker in both]

            async def talk(seconds: float) -> None:
                until = loop.time() + seconds
                while loop.time() < until:
                    for talker in both:
                        await talker.say()
                    await asyncio.sleep(0.001)

            await talk(1.0)
            server.kill()
            await talk(away)
            await asyncio.to_thread(server.start)
            states = [await talker.ask() for talker in both]
            while not all(state["gaps"] and state["connected"] for state in states):
                await talk(0.1)
                states = [await talker.ask() for talker in both]
            await talk(1.0)
            before = -1
            while (heard := sum(len(n) for t in both for n in t.heard.values())) != before:
                before = heard
                await asyncio.sleep(0.5)
            states = [await talker.ask() for talker in both]

            for talker, peer, state, peer_state in zip(
                both, reversed(both), states, reversed(states), strict=True
            ):
                counts, peer_counts = state["counts"], peer_state["counts"]
                here, there = talker.heard[talker.node], peer.heard[talker.node]
                # Its own client has heard everything, whatever became of the bus.
                assert here == list(range(talker.sent))
                # The other's has heard part of it, in order, once.
                assert there == sorted(set(there))
                # What is missing is counted: not sent, or lost on the way.
                unsent, lost = counts["unsent"], peer_counts.get("lost", 0)
                assert unsent > 0
                assert talker.sent == len(there) + unsent + lost
                assert counts["published"] == len(there) + lost
                # And told: since when, and how many of ours.
                [[cause, seconds, told]] = state["gaps"]
                assert (cause, told) == ("disconnected", unsent)
                assert away - 1 < seconds < away + 10


def test_nats_may_die_for_half_a_minute(tmp_path: Path) -> None:
    """Every message that was sent meanwhile is delivered, or counted, by its cause."""
    asyncio.run(account_for_everything(tmp_path, away=30.0))
