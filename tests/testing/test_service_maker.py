"""Tests run the services of production: of plain clients, and of SDK clients."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateman import BusinessWorker, ConfigError, Gateway, testing
from gateman.config.base import BaseWorker
from gateman.testing.service_maker import make_service
from tests.support.loop import on_loop

LISTEN = "websocket://127.0.0.1:1"


async def ask(client: testing.Client, **command: Any) -> Any:
    await client.send(json.dumps(command))
    return json.loads(await client.receive())


@on_loop
async def test_a_gateway_with_sdk_clients_asks_its_business_worker() -> None:
    """As in production."""
    gateway = Gateway(LISTEN, client_protocol="centrifuge")
    business = BusinessWorker()

    @business.on_rpc
    def call(client_id: str, method: str, _data: Any) -> Any:
        return [method, client_id]

    async with testing.service(gateway, business), testing.connect(gateway) as ann:
        hello = await ask(ann, id=1, connect={})
        found = await ask(ann, id=2, rpc={"method": "who"})
        assert found["rpc"]["data"] == ["who", hello["connect"]["client"]]


def test_only_workers_have_services() -> None:
    """A mistake is told as for production."""
    with pytest.raises(ConfigError, match="is not a worker"):
        make_service(BaseWorker(name="what"), Path("x.sock"))
