"""Readiness, as the application says it, and what health checks are told."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from gateman import ConfigError, Worker, testing
from gateman.options import Timeouts
from gateman.runtime.health import Health
from tests.support.loop import on_loop
from tests.support.raw import request
from tests.support.server import serve


def health_of(function: Callable[[Any], Any], counts: Counter[str] | None = None) -> Health:
    return Health(
        function,
        "the worker",
        name="chat",
        timeouts=Timeouts(health=2, health_interval=5),
        counts=Counter() if counts is None else counts,
    )


@pytest.mark.parametrize(("result", "problem"), [(None, ""), (True, ""), (False, "not ready")])
@pytest.mark.parametrize("is_async", [False, True])
@on_loop
async def test_what_a_result_says(result: object, problem: str, *, is_async: bool) -> None:
    async def check(worker: object) -> object:
        assert worker == "the worker"
        return result

    health = health_of(check if is_async else lambda _worker: result)
    assert health.problem == "not ready"
    await health.start()

    assert health.problem == problem
    await health.stop()


@on_loop
async def test_it_is_called_at_an_interval_however_often_one_asks() -> None:
    calls: list[object] = []
    health = health_of(calls.append)
    await health.start()
    await testing.advance(4.9)
    assert {health.problem for _ in range(1000)} == {""}
    assert len(calls) == 1
    await testing.advance(11)
    await health.stop()
    await testing.advance(10)

    assert len(calls) == 4


@on_loop
async def test_errors_are_counted_and_logged_and_peers_do_not_see_them() -> None:
    counts: Counter[str] = Counter()
    fails = True

    def check(_worker: object) -> None:
        if fails:
            raise OSError("password of the database")

    health = health_of(check, counts)
    with testing.expected(OSError) as raised:
        await health.start()
    assert (health.problem, counts["health_failed"], len(raised.errors)) == ("not ready", 1, 1)
    fails = False
    await testing.advance(6)
    assert health.problem == ""
    await health.stop()


@on_loop
async def test_a_check_that_hangs_fails_and_the_next_one_is_made() -> None:
    answered = asyncio.Event()
    health = health_of(lambda _worker: answered.wait())
    begun = asyncio.ensure_future(health.start())
    with testing.expected(TimeoutError) as raised:
        await testing.advance(3)
        await begun
    assert "timeouts.health, 2 s" in str(raised.errors[0])
    assert health.problem == "not ready"
    answered.set()
    await testing.advance(6)

    assert health.problem == ""
    await health.stop()


@on_loop
async def test_a_check_that_is_cancelled_by_the_application_fails() -> None:
    async def check(_worker: object) -> None:
        raise asyncio.CancelledError

    health = health_of(check)
    with testing.expected(RuntimeError):
        await health.start()
    assert health.problem == "not ready"
    await health.stop()


@on_loop
async def test_a_result_that_says_nothing_is_an_error() -> None:
    health = health_of(lambda _worker: {"database": "ok"})
    with testing.expected(ConfigError) as raised:
        await health.start()
    await health.stop()

    assert health.problem == "not ready"
    assert "on_health returned a dict" in str(raised.errors[0])


@on_loop
async def test_health_checks_get_it_and_checks_of_life_do_not() -> None:
    is_ready = True
    async with serve(
        on_health=lambda _worker: is_ready, timeouts={"health_interval": 0.01}
    ) as server:
        assert (await server.ask(request("GET /healthz HTTP/1.0"))).status == 200
        is_ready = False
        await testing.advance(1)
        for line, status, body in (
            ("GET /healthz HTTP/1.0", 503, b"not ready\n"),
            ("OPTIONS * HTTP/1.0", 503, b"not ready\n"),
            ("GET /livez HTTP/1.0", 200, b"ok\n"),
            ("GET / HTTP/1.0", 426, None),
        ):
            answer = await server.ask(request(line))
            assert answer.status == status
            assert body in (None, answer.body)


@on_loop
async def test_the_path_of_life_may_be_another_or_none() -> None:
    for path, status in ((None, 426), ("/alive", 200)):
        async with serve(live_path=path) as server:
            assert (await server.ask(request("GET /alive HTTP/1.0"))).status == status
            assert (await server.ask(request("GET /livez HTTP/1.0"))).status == 426


@on_loop
async def test_it_is_a_callback_as_others() -> None:
    worker = Worker("websocket://127.0.0.1:1", name="chat")

    @worker.on_health
    async def check(own: Worker) -> None:
        raise ValueError(own.name)

    async def run() -> None:
        async with testing.connect(worker) as client:
            await client.receive_nothing()

    with pytest.raises(AssertionError, match=r"chat: on_health failed: ValueError"):
        await run()
