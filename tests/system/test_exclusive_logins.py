"""Many logins of one user at once: exactly one stays, in real processes, over real brokers."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from ..support.loop import eventually
from ..support.master import master
from ..support.nats import nats_cluster

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

@business.on_connect
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
        await eventually(lambda: sum(one.close_code is None for one in clients) <= 1, within=20)
        [survivor] = [one for one in clients if one.close_code is None]
        # Whatever is still on its way to it, is before the answer.
        await (await survivor.ping())
        ends = Counter((one.close_code, one.close_reason) for one in clients)

    assert ends == {(None, None): 1, (4001, "another device"): LOGINS - 1}
