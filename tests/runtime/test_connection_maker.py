"""What the connections of a worker share, by the worker's options."""

import asyncio
import time
from typing import Any

import pytest

from gateman import Worker
from gateman.config.worker import settings_of
from gateman.net.admission import Admission
from gateman.runtime.arrival_watch import ArrivalWatch
from gateman.runtime.connection_maker import ConnectionMaker
from gateman.runtime.plain_answers import PlainAnswers
from gateman.runtime.worker_service import WorkerService
from tests.support.loop import on_loop

PINGED = {"ping_interval": 20, "pong": 5}


def made(listen: str, timeouts: dict[str, Any]) -> ConnectionMaker:
    worker = Worker(listen, timeouts=timeouts)
    settings = settings_of(worker, now=time.time())
    return ConnectionMaker(
        settings,
        worker,
        WorkerService(settings, {}, worker, worker.connections),
        admission=Admission(settings.limits, 10),
        arrival_watch=ArrivalWatch(asyncio.get_running_loop()),
        plain_answers=PlainAnswers(settings, problem=str, answered=None),
        application=None,
        measurements=None,
        of_connections={},
        of_handshakes={},
    )


@pytest.mark.parametrize(
    ("listen", "timeouts", "has_heartbeat", "keepalive", "user_timeout"),
    [
        ("websocket://127.0.0.1:1", PINGED, True, None, 25),
        ("websocket://127.0.0.1:1", {"ping_interval": None}, False, None, None),
        ("text://127.0.0.1:1", PINGED, True, 20, 25),
        ("text://127.0.0.1:1", {**PINGED, "idle": None}, False, 20, 25),
    ],
)
@on_loop
async def test_who_looks_for_clients_that_are_gone(
    listen: str,
    timeouts: dict[str, Any],
    has_heartbeat: bool,  # noqa: FBT001
    keepalive: float | None,
    user_timeout: float | None,
) -> None:
    """Pings do on a WebSocket, TCP itself elsewhere; and the heartbeat for silent clients."""
    maker = made(listen, timeouts)
    found = maker.accept_config
    maker.stop()

    assert (maker.heartbeat is not None) is has_heartbeat
    assert (found.keepalive, found.user_timeout) == (keepalive, user_timeout)
    assert found.speaks_http is (maker.config is not None)
    assert found.speaks_http is listen.startswith("websocket")
