"""A clock that tests move."""

import asyncio
from typing import Any

import pytest

from gateman import ConfigError, Connection, Timer, Worker, testing
from tests.support.loop import on_loop


def test_time_is_moved() -> None:
    """On a loop without a deadline of its own, which would move as well."""
    asyncio.run(_test_time())


async def _test_time() -> None:
    worker = Worker("websocket://127.0.0.1:1", timeouts={"ping_interval": 20, "pong": 10})
    ran: list[str] = []

    @worker.every(60)
    def clean() -> None:
        ran.append("every")

    @worker.on_open
    def begin(connection: Connection) -> None:
        connection.after(30, connection.send, "half a minute")
        Timer.add(300, lambda: ran.append("Timer"), persistent=False)

    @worker.on_message
    async def wait(connection: Connection, message: str) -> None:
        await asyncio.sleep(3600)
        connection.send(message)

    async with testing.connect(worker) as client:
        await testing.advance(29)
        await client.receive_nothing()
        await testing.advance(2)
        assert await client.receive() == "half a minute"
        await client.send("late")
        await client.receive_nothing()
        await testing.advance(3600)
        assert await client.receive() == "late"
        assert ran.count("Timer") == 1
        assert ran.count("every") == 60


@on_loop
async def test_a_client_that_does_not_answer_pings_is_closed() -> None:
    worker = Worker("websocket://127.0.0.1:1", timeouts={"ping_interval": 20, "pong": 10})
    codes: list[int] = []
    worker.on_close = lambda _connection, code, _reason: codes.append(code)
    async with testing.connect(worker) as client:
        client.stop_reading()
        await testing.advance(60)

        assert codes == [1006]
        client.go_on_reading()
        assert (await client.wait_closed()).code == 1006


def test_the_time_that_a_test_takes_does_not_count() -> None:
    async def measure() -> float:
        loop = asyncio.get_running_loop()
        # Debug mode takes longest, and warns of callbacks that seem to.
        loop.set_debug(True)
        begun_at = loop.time()
        await testing.advance(59.9)
        return loop.time() - begun_at

    assert 59.9 <= asyncio.run(measure()) < 60


@on_loop
async def test_what_was_begun_sets_its_timers_before_the_clock_moves() -> None:
    loop = asyncio.get_running_loop()
    woken_at: list[float] = []

    async def sleep_often() -> None:
        for _ in range(3):
            await asyncio.sleep(5)
            woken_at.append(round(loop.time() - begun_at, 1))

    sleeping = asyncio.create_task(sleep_often())
    begun_at = loop.time()
    await testing.advance(14)
    await testing.advance(2)

    assert woken_at == [5, 10, 15]
    await sleeping


@on_loop
async def test_two_tasks_that_move_the_clock() -> None:
    with pytest.raises(RuntimeError, match="is running already"):
        await asyncio.gather(testing.advance(1), testing.advance(1))


def test_an_event_loop_whose_clock_cannot_be_moved() -> None:
    uvloop = pytest.importorskip("uvloop")
    with (
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        pytest.raises(ConfigError, match=r"cannot move the clock of uvloop\.Loop"),
    ):
        runner.run(testing.advance(1))


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf"), "5", None])
@on_loop
async def test_a_span_of_time_that_is_none(seconds: Any) -> None:
    with pytest.raises(ValueError, match="is not a span of time"):
        await testing.advance(seconds)


@on_loop
async def test_an_error_of_a_timer_fails_the_test() -> None:
    worker = Worker("websocket://127.0.0.1:1")

    async def crash() -> None:
        async with testing.connect(worker):
            Timer.add(10, lambda: 1 / 0)
            await testing.advance(11)

    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        await crash()
