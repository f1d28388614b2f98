"""What blocks runs in a thread that holds nothing up."""

import threading

import pytest

from gateman.doctor.background import in_background
from tests.support.loop import on_loop


@on_loop
async def test_the_result_and_the_error_are_passed_on() -> None:
    def fail() -> None:
        raise ValueError("no")

    assert await in_background(lambda: 7, 10) == 7
    with pytest.raises(ValueError, match="no"):
        await in_background(fail, 10)


@on_loop
async def test_what_takes_too_long_is_left_alone() -> None:
    ended = threading.Event()
    with pytest.raises(TimeoutError):
        await in_background(ended.wait, 0.01)

    ended.set()
