"""What a timer may be given, by ``Timer.add`` and by ``worker.every``."""

import functools
import math
from collections.abc import Iterator

import pytest

from gateman import Timer, Worker
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
        "a timer would call a function that takes (_) with nothing: pass its arguments after it:"
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
