"""Messages to code, in the processes of a service: workers and business workers, and their end."""

import asyncio
from pathlib import Path

from websockets.asyncio.client import connect

from ..support.deadlines import TIMEOUT
from ..support.master import master

SCRIPT = """
import asyncio, sys
from gateman import BusinessWorker, Worker, hub

worker = Worker("websocket://127.0.0.1:0", count=2)
business = BusinessWorker(count=2)

@worker.on_message
def publish(connection, message):
    hub.send_event("prices", {"gold": int(message)})

@worker.on_event("prices")
def show(prices):
    for connection in worker.connections.values():
        connection.send(f"worker {worker.id} {prices}")

@business.on_event("prices")
async def count(prices):
    await asyncio.sleep(0.01)
    hub.send_to_all(f"business {business.id} {prices}")
    if prices["gold"] == 3:
        print("handled", file=sys.stderr, flush=True)
        await asyncio.sleep(0.3)
        print("done", file=sys.stderr, flush=True)

@business.on_worker_stop
def stop(business):
    print("stopped", file=sys.stderr, flush=True)

Worker.run_all()
"""


def test_code_hears_events_in_all_processes(tmp_path: Path) -> None:
    """Once in each of a worker's, in order; and what runs at a stop has its time."""
    # Its print writes a line in two pieces.
    with master(SCRIPT, tmp_path, environment={"PYTHONUNBUFFERED": "1"}) as service:
        asyncio.run(_tell(service.port))
        service.wait_for("handled")
        assert service.command("stop").returncode == 0
        service.wait()
        said = [line for line in service.stderr.splitlines() if line in {"done", "stopped"}]

        assert sorted(said) == ["done", "done", "stopped", "stopped"]
        assert said[0] == "done"


async def _tell(port: int) -> None:
    async with (
        connect(f"ws://127.0.0.1:{port}") as one,
        connect(f"ws://127.0.0.1:{port}") as other,
        asyncio.timeout(TIMEOUT),
    ):
        for number in range(4):
            await one.send(str(number))
        for client in (one, other):
            heard = [str(await client.recv()) for _ in range(12)]
            whose = {line.rpartition(" {")[0] for line in heard}
            assert {name for name in whose if "business" in name} == {"business 0", "business 1"}
            assert len(whose) == 3
            for name in whose:
                assert [line for line in heard if line.startswith(name)] == [
                    f"{name} {{'gold': {number}}}" for number in range(4)
                ]
