"""What serves what was declared, by its kind."""

import pytest

from gateman import BusinessWorker, ConfigError, Gateway, Worker
from gateman.config.base import BaseWorker
from gateman.gateway.business_service import BusinessService
from gateman.gateway.factory import service_maker
from gateman.gateway.gateway_service import GatewayService
from gateman.runtime.timer import timers
from gateman.runtime.worker_service import WorkerService
from tests.support.loop import on_loop

NOW = 1.8e9


@on_loop
async def test_each_kind_has_its_service() -> None:
    """Named as it was declared."""
    made = [
        service_maker(declared, now=NOW)()
        for declared in (
            Worker("websocket://127.0.0.1:0", name="chat"),
            Gateway("websocket://127.0.0.1:0"),
            BusinessWorker(),
        )
    ]

    assert [type(one) for one in made] == [WorkerService, GatewayService, BusinessService]
    assert list(map(str, made)) == ["chat", "gateway", "business"]
    assert [one.contexts for one in made] == [None, None, None]


@on_loop
async def test_what_a_business_worker_does_now_and_then_becomes_timers() -> None:
    """When it is made, on the event loop, and not before."""
    business = BusinessWorker()
    business.every(60)(dir)
    make = service_maker(business, now=NOW)
    before = timers.count
    make()
    after = timers.count
    timers.start()
    await timers.stop()

    assert (before, after) == (0, 1)


def test_a_gateway_is_checked_as_a_worker_is() -> None:
    """Before an event loop is made."""
    with pytest.raises(ConfigError, match="'gateway' has transport='ssl', but no certificate"):
        service_maker(Gateway("wss://127.0.0.1:0"), now=NOW)


def test_nothing_serves_what_is_of_no_kind() -> None:
    """There are three."""
    with pytest.raises(TypeError, match="nothing serves a BaseWorker"):
        service_maker(BaseWorker(name="what"), now=NOW)
