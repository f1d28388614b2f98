"""Many logins of one user: exactly one stays, in real processes, over real brokers."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from gateman.bus import open_bus

from ..support.cluster import node
from ..support.loop import eventually, on_loop
from ..support.master import master
from ..support.nats import nats_cluster, nats_server
from ..support.ports import free_port

WORKER = """
from gateman import Worker

worker = Worker("websocket://127.0.0.1:0", {options})

@worker.on_websocket_connect
def log_in(connection, request):
    connection.bind(request.query["uid"], only=True, code=4001, reason="another device")

Worker.run_all()
"""

GATEWAY = """
from gateman import BusinessWorker, Gateway, hub

Gateway("websocket://127.0.0.1:0", count=2)
business = BusinessWorker(count=2)

@business.on_websocket_connect
async def log_in(client_id, request):
    hub.bind_uid(client_id, request.query["uid"], only=True, code=4001, reason="another device")

Gateway.run_all()
"""

# Of one user; fifteen users after one another.
LOGINS = 15


@pytest.fixture(params=["processes", "nats", "gateways"])
def ports(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sequence[int]]:
    """Run a service: on one machine, on three nodes at three servers of NATS, with gateways."""
    with contextlib.ExitStack() as stack:
        if request.param == "gateways":
            yield [stack.enter_context(master(GATEWAY, tmp_path)).port]
        elif request.param == "processes":
            script = WORKER.format(options="count=3")
            yield [stack.enter_context(master(script, tmp_path)).port]
        else:
            found = []
            for number, server in enumerate(stack.enter_context(nats_cluster(tmp_path))):
                folder = tmp_path / f"node-{number}"
                folder.mkdir()
                script = WORKER.format(options=f"bus={server.url!r}")
                found.append(stack.enter_context(master(script, folder)).port)
            yield found


def test_exactly_one_login_stays(ports: Sequence[int]) -> None:
    """Neither nobody nor two, whoever comes where."""
    for number in range(15):
        asyncio.run(_log_in(ports, f"user-{number}"))


async def _log_in(ports: Sequence[int], uid: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        clients = await asyncio.gather(
            *(
                stack.enter_async_context(
                    connect(f"ws://127.0.0.1:{ports[number % len(ports)]}/?uid={uid}")
                )
                for number in range(LOGINS)
            )
        )
        await eventually(lambda: sum(one.close_code is None for one in clients) <= 1)
        [survivor] = [one for one in clients if one.close_code is None]
        # Whatever is still on its way to it, is before the answer.
        await (await survivor.ping())
        ends = Counter((one.close_code, one.close_reason) for one in clients)

    assert ends == {(None, None): 1, (4001, "another device"): LOGINS - 1}


class Relay:
    """What is between two servers of NATS: it can be cut, and made whole again."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Pass on what comes."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    def cut(self) -> None:
        """Pass on nothing, and take nothing."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, back}
        for source, target in ((reader, back), (there, writer)):
            task = asyncio.get_running_loop().create_task(self._copy(source, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                target.write(data)
        target.close()
        self._writers.discard(target)


@on_loop
async def test_two_parts_of_a_cluster_agree_when_they_meet_again(tmp_path: Path) -> None:
    """No bus was away: servers had lost each other, and each part had its own newest login."""
    ports = [free_port(), free_port()]
    relay = Relay(ports[1])
    await relay.start()
    begin = "cluster {{ name: test, no_advertise: true, listen: 127.0.0.1:{}{} }}"
    route = f", routes: [nats://127.0.0.1:{relay.port}]"
    async with contextlib.AsyncExitStack() as stack:
        other_server = stack.enter_context(nats_server(tmp_path, begin.format(ports[1], "")))
        # The relay has its turn while the second one starts.
        server = await asyncio.to_thread(
            stack.enter_context, nats_server(tmp_path, begin.format(ports[0], route))
        )
        one = await stack.enter_async_context(node(open_bus(server.url)))
        other = await stack.enter_async_context(node(open_bus(other_server.url)))
        await eventually(lambda: bool(one.hub.nodes and other.hub.nodes))
        here, there = await one.client(), await other.client()
        await here.connection.bind("ann", only=True)
        relay.cut()
        there.connection.bind("ann", only=True)
        await asyncio.sleep(0.5)
        assert one.server.worker.connections
        assert one.hub.is_connected
        await relay.start()
        await eventually(lambda: not one.server.worker.connections)

        assert await other.hub.clients_of_uid("ann") == [there.id]
        await eventually(lambda: here.socket.close_code == 4409)
        relay.cut()
