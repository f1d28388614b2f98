"""What is measured while a service shows metrics."""

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import pytest

from gateman import Refuse
from gateman.config.callbacks import is_async, label
from gateman.runtime.measurements import Distribution, Measurements, Sampling
from tests.support.loop import on_loop
from tests.support.raw import TEXT, frame, handshake, request
from tests.support.server import Journal, serve


def count(kept: Distribution) -> int:
    return int(sum(kept.numbers[:-1]))


def test_distribution() -> None:
    """A value at a bound belongs below it, as `le` says."""
    kept = Distribution("gateman_event_loop_lag_seconds")
    for value in (0, 0.001, 0.0011, 99):
        kept.observe(value)
    kept.observe(2, weight=3)

    assert kept.numbers[:3] == [2, 1, 0]
    assert (kept.numbers[kept.bounds.index(2.5)], kept.numbers[-2]) == (3, 1)
    assert kept.numbers[-1] == pytest.approx(105.0021)


def test_a_quiet_service_measures_all_and_a_busy_one_samples() -> None:
    sampling = Sampling()
    weights = [sampling.next() for _ in range(22)]
    sampling.begin()

    assert weights == [1] * 20 + [16, 16]
    assert sampling.next() == 1


def test_samples_count_for_those_between_them() -> None:
    """20 are measured, and then one of 16 for all of them."""
    measured, calls = Measurements(), 0

    def take(_client: object, _message: str) -> None:
        nonlocal calls
        calls += 1

    function = measured.measured({"on_message": take})["on_message"]
    for _ in range(20 + 16 * 50):
        function(None, "ä")

    assert calls == count(measured.callbacks["on_message"]) == 820
    assert measured.received_size == 1640


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (1000, "1000"),
        (1015, "1015"),
        (1016, "other"),
        (3000, "3xxx"),
        (4999, "4xxx"),
        (5000, "other"),
        (0, "other"),
    ],
)
def test_close_codes_are_few(code: int, name: str) -> None:
    """Clients and applications choose among thousands."""
    measured = Measurements()
    measured.websocket_closed(code)

    assert measured.closed == {name: 1}


class _Callable:
    async def __call__(self, _connection: object) -> None:
        """Do nothing."""


async def _later(_connection: object) -> str:
    await asyncio.sleep(0)
    return "later"


@pytest.mark.parametrize(
    ("function", "is_later"),
    [
        (lambda _connection: "now", False),
        (_later, True),
        (functools.partial(_later), True),
        (_Callable(), True),
    ],
)
def test_a_measured_callback_is_of_the_same_kind(
    function: Callable[..., Any], *, is_later: bool
) -> None:
    measured = Measurements()
    made = measured.measured({"on_open": function})["on_open"]

    assert is_async(made) is is_later
    assert label(made)


@on_loop
async def test_async_callbacks_are_measured_with_what_they_await() -> None:
    measured = Measurements()
    call = measured.measured({"on_open": _later})["on_open"]

    assert await call(None) == "later"
    assert count(measured.callbacks["on_open"]) == 1


def test_a_callback_that_raises_is_measured() -> None:
    measured = Measurements()

    def fail(_connection: object) -> None:
        raise Refuse(403)

    with pytest.raises(Refuse):
        measured.measured({"on_open": fail})["on_open"](None)
    assert count(measured.callbacks["on_open"]) == 1


def test_start_and_stop_are_not_measured() -> None:
    functions = {"on_worker_start": print, "on_worker_stop": print}

    assert Measurements().measured(functions) == functions


@on_loop
async def test_a_worker_reports_what_happens_to_it() -> None:
    measured, journal = Measurements(), Journal()

    def decide(_connection: object, request: Any) -> None:
        if request.path == "/no":
            raise Refuse(403)

    async with serve(
        measurements=measured, **journal.callbacks(on_websocket_connect=decide)
    ) as server:
        client = await server.open()
        await client.send(frame(TEXT, b"hello"))
        await journal.until("on_message", "hello")
        await client.send_close(4001)
        await journal.until("on_close", 4001, "")
        for head in (handshake("/no"), request("GET / HTTP/1.1", "Host: a"), b"GARBAGE\r\n\r\n"):
            refused = await server.connect()
            await refused.send(head)
            await refused.read_end()
        plain = await server.ask(request("GET /healthz HTTP/1.1", "Host: a"))
        server.lines()

    assert plain.status
    assert measured.accepted_count == count(measured.handshakes) == 1
    assert 0 < measured.handshakes.numbers[-1] < 10
    assert measured.refused == {"403": 1, "400": 1}
    assert sum(measured.answered.values()) == 2
    assert measured.closed == {"4xxx": 1}
    assert count(measured.callbacks["on_message"]) == 1
    assert measured.received_size == 5


@on_loop
async def test_bytes_are_counted_without_a_handler() -> None:
    measured = Measurements()
    async with serve(measurements=measured) as server:
        client = await server.open()
        await client.send(frame(TEXT, b"hello"))
        await client.send_close()
        await client.read_close()

    assert measured.received_size == 5
