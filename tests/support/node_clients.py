"""Clients of several nodes that send numbers, and the account of every message."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from .deadlines import TIMEOUT

NODE = """
import json
from gateman import Worker, hub

worker = Worker("websocket://127.0.0.1:0", name="node", {options})
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


class NodeClient:
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
        async with asyncio.timeout(TIMEOUT):
            return await self._answers.get()

    async def end(self) -> None:
        """Go."""
        await self._socket.close()
        await self._listening

    @property
    def listening(self) -> bool:
        """Whether it is connected."""
        return not self._listening.done()


def script(options: str) -> str:
    """Write the script of a node, whose clients are all in one room."""
    return NODE.format(options=options)


async def connect_to_node(port: int) -> NodeClient:
    """Connect a client."""
    socket = await connect(f"ws://127.0.0.1:{port}")
    return NodeClient(socket, str(await socket.recv()))


@asynccontextmanager
async def node_clients(*ports: int) -> AsyncIterator[list[NodeClient]]:
    """Connect a client to each of several nodes, who know each other."""
    async with contextlib.AsyncExitStack() as stack:
        made: list[NodeClient] = []
        for port in ports:
            one = await connect_to_node(port)
            while one.node in {other.node for other in made}:
                await one.end()
                one = await connect_to_node(port)
            stack.push_async_callback(one.end)
            made.append(one)
        while not all(state["nodes"] for state in [await one.ask() for one in made]):
            pass
        yield made


async def send_numbers(both: Sequence[NodeClient], seconds: float) -> None:
    """Let each client send numbers for some seconds."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while loop.time() < until:
        for one in both:
            await one.say()
        await asyncio.sleep(0.001)


async def account(both: Sequence[NodeClient]) -> list[dict[str, Any]]:
    """Check that every message that either sent is heard, or counted by its cause, in the end."""
    deadline = asyncio.get_running_loop().time() + TIMEOUT
    while True:
        try:
            return await _account(both)
        except AssertionError:
            # What is on its way is not heard yet.
            if asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(0.1)


async def _account(both: Sequence[NodeClient]) -> list[dict[str, Any]]:
    states = [await one.ask() for one in both]
    for one, peer, state, peer_state in zip(
        both, reversed(both), states, reversed(states), strict=True
    ):
        counts = state["counts"]
        here, there = one.heard[one.node], peer.heard[one.node]
        # Its own client has heard everything, whatever became of the bus.
        assert here == list(range(one.sent))
        # The other's has heard part of it, in order, once.
        assert there == sorted(set(there))
        # What is missing is counted: not sent, or lost on the way.
        unsent, lost = counts.get("unsent", 0), peer_state["counts"].get("lost", 0)
        assert one.sent == len(there) + unsent + lost
        assert counts["published"] == len(there) + lost
        # And told: how many of ours were not sent.
        assert sum(told for _, _, told in state["gaps"]) == unsent
    return states
