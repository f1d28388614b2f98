"""Declaring callbacks by decorators and by assignment."""

from functools import partial
from typing import Any

import pytest

from gateman import Worker
from gateman.config.callback_attributes import Callback
from gateman.errors import ConfigError


def test_a_worker_has_an_attribute_for_each_callback() -> None:
    assert isinstance(vars(Worker)["on_open"], Callback)


def test_decorators_with_and_without_parentheses() -> None:
    """A user who mixes the two forms up gets the right one."""
    made = Worker("websocket://127.0.0.1:0")
    on_message: Any = made.on_message
    every: Any = made.every
    sentences = []
    for mistake in (on_message, partial(every, print), every):
        with pytest.raises(ConfigError) as caught:
            mistake()
        sentences.append(str(caught.value))

    assert sentences == [
        "on_message was given no function: write @worker.on_message without ().",
        "every was given no interval: write @worker.every(60).",
        "every was given no interval: write @worker.every(60).",
    ]
    assert (made.callbacks, made.schedule) == ({}, [])


def test_a_second_decorator_is_a_mistake() -> None:
    """One of two functions would never run; to replace one, assign it."""
    made = Worker("websocket://127.0.0.1:0")

    def first(_worker: Worker) -> None:
        """Be called."""

    def second(_worker: Worker) -> None:
        """Be called in its place."""

    made.on_worker_start(first)
    made.on_worker_start(first)
    with pytest.raises(ConfigError) as caught:
        made.on_worker_start(second)
    assert str(caught.value) == (
        "on_worker_start is declared already: first would not be called any more: call both from"
        " one function, or write worker.on_worker_start = … to replace it."
    )
    made.on_worker_start = second
    assert made.callbacks == {"on_worker_start": second}
