"""What timers and jobs may be given, and when jobs are due."""

import functools
import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateman import Timer, Worker
from gateman.config.schedule import Interval, Schedule, cron
from gateman.errors import ConfigError


async def _tick() -> None:
    """Do nothing, as a timer."""


def _generator() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize("seconds", [0, -1, -0.5, math.inf, math.nan, True, "5", None])
def test_an_interval_has_to_be_positive(seconds: object) -> None:
    """Values that are not positive numbers are refused at once."""
    with pytest.raises(ConfigError) as refused:
        Timer.add(seconds, print)  # type: ignore[arg-type]

    assert (
        str(refused.value)
        == f"a timer of {seconds!r} seconds would never run: give it a positive number."
    )


def test_an_interval_of_the_whole_service_is_a_millisecond_or_more() -> None:
    """Whole numbers of shorter ones since 1970 are not exact, and no next one would be found."""
    worker = Worker("websocket://127.0.0.1:1")
    with pytest.raises(ConfigError, match=r"every 1e-09 seconds: give it 0\.001 seconds or more"):
        worker.every(1e-9, once=True)
    worker.every(1e-9)(print)
    now = 1.8e9
    assert now < Interval(0.001).following(now) < now + 0.002


def test_a_call_is_not_a_function() -> None:
    """``Timer.add(1, tick())`` is refused, ``Timer.add(1, tick)`` is not; no warning is left."""
    with pytest.raises(ConfigError) as refused:
        Timer.add(1, _tick())  # type: ignore[arg-type]

    assert str(refused.value) == (
        "a timer runs its function more than once, but _tick() is called already: give it the"
        " function: Timer.add(seconds, _tick)."
    )


def test_what_cannot_run_is_refused() -> None:
    """No function, a generator, and arguments that do not fit are one sentence each."""
    sentences = []
    for function, args in ((5, ()), (_generator, ()), (_tick, ("x",)), (lambda _: None, ())):
        with pytest.raises(ConfigError) as refused:
            Timer.add(1, function, *args)  # type: ignore[arg-type]
        sentences.append(str(refused.value).partition(" at 0x")[0])

    assert sentences == [
        "a timer cannot call 5: give it a function, and its arguments after it.",
        "a timer would never run <function _generator",
        "a timer would call a function that takes () -> None with 'x': pass its arguments after"
        " it: Timer.add(seconds, function, 1, 2).",
        "a timer would call a function that takes (_) with nothing: let it take no arguments, or"
        " pass its arguments after it:"
        " Timer.add(seconds, function, 1, 2).",
    ]


def test_every_refuses_what_timers_refuse() -> None:
    """The decorator looks at the interval before the function, and at the function."""
    worker = Worker("websocket://127.0.0.1:0")

    with pytest.raises(ConfigError, match="positive"):
        worker.every(0)
    with pytest.raises(ConfigError, match="takes"):
        worker.every(1)(lambda _worker: None)  # type: ignore[type-var]
    assert worker.schedule == []


def test_built_in_functions_and_partials_are_functions() -> None:
    """What has no signature is tried."""
    ids = [Timer.add(1, functools.partial(print, "x")), Timer.add(1, max, 1, 2)]

    assert [Timer.delete(one) for one in ids] == [True, True]


def moments(schedule: Schedule, after: str, count: int = 3) -> list[str]:
    """Return the next times of a schedule, as UTC."""
    at = datetime.fromisoformat(f"2026-{after}.5+00:00").timestamp()
    found = []
    for _ in range(count):
        at = schedule.following(at)
        found.append(datetime.fromtimestamp(at, UTC).strftime("%d %H:%M:%S"))
    return found


BERLIN, SHANGHAI = "Europe/Berlin", "Asia/Shanghai"


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        (Interval(20.0), "11-30 03:00:01", "30 03:00:20, 30 03:00:40, 30 03:01:00"),
        (Interval(7200.0), "11-30 03:00:01", "30 04:00:00, 30 06:00:00, 30 08:00:00"),
        (cron("*/5 * * * *", "UTC"), "11-30 03:00:00", "30 03:05:00, 30 03:10:00, 30 03:15:00"),
        (cron("*/20 * * * * *", "UTC"), "11-30 03:00:01", "30 03:00:20, 30 03:00:40, 30 03:01:00"),
        (cron("0 3 * * *", SHANGHAI), "11-30 03:00:00", "30 19:00:00, 01 19:00:00, 02 19:00:00"),
        # The hour from two to three does not exist on March 29.
        (cron("30 2 * * *", BERLIN), "03-28 12:00:00", "29 01:00:00, 30 00:30:00, 31 00:30:00"),
        # On October 25 there are two of them; the last but one begins in the second.
        (cron("30 2 * * *", BERLIN), "10-24 12:00:00", "25 00:30:00, 26 01:30:00, 27 01:30:00"),
        (cron("30 2 * * *", BERLIN), "10-25 01:10:00", "26 01:30:00, 27 01:30:00, 28 01:30:00"),
        (cron("*/30 * * * *", BERLIN), "10-25 00:10:00", "25 00:30:00, 25 01:00:00, 25 01:30:00"),
    ],
)  # fmt: skip
def test_schedules_by_the_clock_on_the_wall(schedule: Schedule, after: str, expected: str) -> None:
    assert moments(schedule, after) == expected.split(", ")


@given(st.floats(0.001, 1e6), st.floats(0, 4e9))
def test_the_next_time_of_an_interval_is_always_later(seconds: float, after: float) -> None:
    following = Interval(seconds).following(after)
    assert after < following <= after + seconds * 1.001 + 1e-5


@pytest.mark.parametrize(
    ("expression", "timezone", "sentence"),
    [
        ("* * *", "UTC", "cron: '* * *' is not a cron expression (Wrong number of fields): write"),
        ("61 * * * *", "UTC", "cron: '61 * * * *' is not a cron expression (Bad minute): write"),
        ("0 0 30 2 *", "UTC", "is not a cron expression (Bad day-of-month)"),
        ("0 3 * * *", "Berlin", "cron: 'Berlin' is not a time zone that this system knows: write"),
        ("0 3 * * *", "../etc/passwd", "is not a time zone"),
        (5, "UTC", "cron(5, timezone='UTC') takes two texts"),
    ],
)
def test_a_wrong_cron_expression_is_one_sentence(
    expression: object, timezone: str, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        cron(expression, timezone)


@pytest.mark.parametrize("once", ["no", 1, None])
def test_once_is_true_or_false(once: Any) -> None:
    worker = Worker("websocket://127.0.0.1:1")
    sentence = f"once={once!r} is neither True nor False"
    with pytest.raises(ConfigError, match=sentence):
        worker.every(60, once=once)
    with pytest.raises(ConfigError, match=sentence):
        worker.cron("* * * * *", once=once)
