"""SDK clients in tests of handlers: their frames are JSON, as those of an SDK."""

import json
from typing import Any

from gateman import Channel, Connection, Worker, hub, testing
from tests.support.loop import on_loop

LISTEN = "websocket://127.0.0.1:1"
CHANNELS = {"room": Channel(subscribe=True, history_size=10)}


async def ask(client: testing.Client, **command: Any) -> Any:
    await client.send(json.dumps(command))
    return json.loads(await client.receive())


@on_loop
async def test_a_worker_with_sdk_clients_is_tested_as_any_other() -> None:
    """Its processes share a history, also after one of them was killed."""
    worker = Worker(LISTEN, client_protocol="centrifuge", channels=CHANNELS, count=2)

    @worker.on_rpc
    def call(_connection: Connection, method: str, data: Any) -> Any:
        return {method: data}

    async with testing.service(worker) as service, testing.connect(worker) as ann:
        hello = await ask(ann, id=1, connect={})
        assert "client" in hello["connect"]
        assert await ask(ann, id=2, rpc={"method": "sum", "data": 1}) == {
            "id": 2,
            "rpc": {"data": {"sum": 1}},
        }
        await hub.send_to_group("room", "one")
        for process in service.processes(worker)[1:]:
            await process.kill()
        async with testing.connect(worker) as bob:
            await ask(bob, id=1, connect={})
            epoch = (await ask(bob, id=2, subscribe={"channel": "room"}))["subscribe"]["epoch"]
            position = {"recover": True, "epoch": epoch, "offset": 0}
            await ask(bob, id=3, unsubscribe={"channel": "room"})
            found = await ask(bob, id=4, subscribe={"channel": "room", **position})
            assert [one["data"] for one in found["subscribe"]["publications"]] == ["one"]
