"""Declaring callbacks by decorators and by assignment."""

from collections.abc import Callable
from functools import partial
from typing import Any, Generic, get_origin

import pytest

from gateman import Worker
from gateman.config.callback_attributes import Callback, MessageCallback
from gateman.errors import ConfigError


def test_a_worker_has_an_attribute_for_each_callback() -> None:
    assert isinstance(vars(Worker)["on_open"], Callback)


def test_type_parameters_are_named_for_old_pythons() -> None:
    """Debian 12's Python 3.11.2 finds none in ``Callback[[C, Any]]``, and nothing could start."""
    bases: Any = vars(MessageCallback)["__orig_bases__"]
    origins: list[Any] = [get_origin(base) for base in bases]

    assert Generic in origins


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
        "every() missing 1 required positional argument: 'seconds': write @worker.every(60).",
    ]
    assert (made.callbacks, made.schedule) == ({}, [])


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        (
            lambda worker: worker.every(1, 2),
            "every() takes 2 positional arguments but 3 were given: write @worker.every(60).",
        ),
        (
            lambda worker: worker.every(1, onec=True),
            "'onec' is not an option of every: did you mean 'once'?",
        ),
        (
            lambda worker: worker.cron(),
            "cron() missing 1 required positional argument: 'expression': write"
            ' @worker.cron("*/5 * * * *").',
        ),
        (
            lambda worker: worker.on_event("a", "b"),
            "on_event() takes 2 positional arguments but 3 were given: write"
            " @worker.on_event('prices').",
        ),
        (
            lambda worker: worker.connect(),
            "connect() missing 1 required positional argument: 'url': write"
            ' worker.connect("wss://feed.example/prices", option=value).',
        ),
        (
            lambda worker: worker.connect("tcp://one:1", {}),
            "connect() takes 2 positional arguments but 3 were given: write"
            ' worker.connect("wss://feed.example/prices", option=value).',
        ),
    ],
)
def test_wrong_arguments_are_one_sentence(mistake: Callable[[Any], object], sentence: str) -> None:
    """Python's own error names a class that the user has never seen."""
    with pytest.raises(ConfigError) as caught:
        mistake(Worker("websocket://127.0.0.1:0"))

    assert str(caught.value) == sentence


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
