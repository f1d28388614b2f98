"""Callbacks: what can be one, what is refused with which sentence, and what is async."""

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial, wraps
from typing import Any

import pytest

from gateman.config.callbacks import SIGNATURES, check, is_async, wrong_result
from gateman.errors import ConfigError, Refuse


def plain(connection: object, message: object) -> None:
    """Take a message."""


async def coroutine(connection: object, message: object) -> None:
    """Take a message, and wait."""


def with_more(room: object, connection: object, message: object) -> None:
    """Take what a partial has filled in, and a message."""


def greedy(*args: object) -> None:
    """Take anything."""


def lenient(connection: object, message: object = "", *, loud: bool = False) -> None:
    """Take more than is passed."""


def generator(connection: object, message: object) -> Iterator[object]:
    """Wait for somebody who iterates."""
    yield connection
    yield message


async def async_generator(connection: object, message: object) -> AsyncIterator[object]:
    """Wait for somebody who iterates."""
    yield connection
    yield message


class Chat:
    """Methods of every kind."""

    def on_message(self, connection: object, message: object) -> None:
        """Take a message."""

    async def on_message_async(self, connection: object, message: object) -> None:
        """Take a message, and wait."""

    @classmethod
    def of_class(cls, connection: object, message: object) -> None:
        """Take a message."""

    @staticmethod
    def of_nobody(connection: object, message: object) -> None:
        """Take a message."""

    def narrow(self, message: object) -> None:
        """Take too little."""


class Called:
    """An object that can be called."""

    def __call__(self, connection: object, message: object) -> None:
        """Take a message."""


class CalledAsync:
    """An object that can be called and awaited."""

    def __init__(self, *_args: object) -> None:
        """Take what a callback is called with too."""

    async def __call__(self, connection: object, message: object) -> None:
        """Take a message, and wait."""


class Opaque:
    """An object that hides its signature, as some extension modules do."""

    __signature__ = "(?)"

    def __call__(self) -> None:
        """Take nothing."""


def refusal_of(name: str, function: object) -> str:
    """Check what is refused."""
    with pytest.raises(ConfigError) as caught:
        check(name, function)
    return str(caught.value)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (plain, False),
        (greedy, False),
        (lenient, False),
        (lambda _connection, _message: None, False),
        (Chat().on_message, False),
        (Chat.of_class, False),
        (Chat.of_nobody, False),
        (partial(with_more, "room"), False),
        (partial(plain), False),
        (Called(), False),
        (Opaque(), False),
        (CalledAsync, False),
        (print, False),
        (max, False),
        (dict, False),
        (coroutine, True),
        (Chat().on_message_async, True),
        (partial(coroutine), True),
        (partial(partial(Chat.on_message_async, Chat())), True),
        (CalledAsync(), True),
        (partial(CalledAsync()), True),
    ],
)
def test_functions_of_every_kind(function: object, *, expected: bool) -> None:
    """Whatever can be called with two arguments is a callback; async is what must be awaited."""
    check("on_message", function)

    assert is_async(function) is expected


@pytest.mark.parametrize("wrap", [wraps(coroutine), wraps(partial(coroutine))])
def test_decorated_coroutines_are_async(wrap: Callable[[Any], Any]) -> None:
    """A decorator of plain Python hides that its function has to be awaited."""

    def log(*args: Any) -> Any:
        return coroutine(*args)

    assert is_async(wrap(log))


IN = "raise Refuse(403) to refuse a client, and return nothing to accept it."
ELSEWHERE = "raise Refuse(403) in the callback that gets the request."


@pytest.mark.parametrize(
    ("result", "deciding", "other"),
    [
        (None, "", ""),
        (True, "", ""),
        (
            False,
            f"f returned False: {IN}",
            f"f returned False, which refuses no client: {ELSEWHERE}",
        ),
        (0, f"f returned a int: {IN}", ""),
        ("", f"f returned a str: {IN}", ""),
        (403, f"f returned a int: {IN}", ""),
        (Refuse(), f"f returned a Refuse: {IN}", ""),
        ((), f"f returned a tuple: {IN}", ""),
    ],
)
def test_only_nothing_and_true_let_a_client_in(result: object, deciding: str, other: str) -> None:
    """A callback whose result looks like a refusal accepts no client; other results are allowed."""
    found = [wrong_result("f", result, decides=decides) for decides in (True, False)]

    assert [str(error) if error else "" for error in found] == [deciding, other]


WANTED = "on_message is called with (connection, message), but"
REMEDY = "let it take (connection, message)."
NEVER = "on_message would never run:"
NO_YIELD = "remove the yield."
GIVE = "give it a function of (connection, message)."


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda _message: None, f"{WANTED} <lambda> takes (_message): {REMEDY}"),
        (Chat().narrow, f"{WANTED} Chat.narrow takes (message: object) -> None: {REMEDY}"),
        (
            Chat.on_message,
            f"{WANTED} Chat.on_message takes (self, connection: object, message: object) ->"
            f" None: {REMEDY}",
        ),
        (
            partial(plain, "room"),
            f"{WANTED} a partial takes (message: object) -> None: {REMEDY}",
        ),
        (partial(Called(), 1, 2), f"{WANTED} a partial takes () -> None: {REMEDY}"),
        (Chat, f"{WANTED} Chat takes (): {REMEDY}"),
        (len, f"{WANTED} len takes (obj, /): {REMEDY}"),
        (generator, f"{NEVER} generator is a generator: {NO_YIELD}"),
        (async_generator, f"{NEVER} async_generator is a generator: {NO_YIELD}"),
        (partial(generator), f"{NEVER} a partial is a generator: {NO_YIELD}"),
        ("answer", f"on_message='answer' is not a function: {GIVE}"),
        (None, f"on_message=None is not a function: {GIVE}"),
    ],
)
def test_what_cannot_be_a_callback(function: object, expected: str) -> None:
    """The sentence names the function as its author does, and what it will be called with."""
    assert refusal_of("on_message", function) == expected


def test_a_function_within_a_function_is_named_without_it() -> None:
    """The author wrote the name; Python added the rest."""

    class Inner:
        def __call__(self) -> None:
            """Take nothing."""

    def inner() -> None:
        """Take nothing."""

    assert refusal_of("on_message", inner) == f"{WANTED} inner takes () -> None: {REMEDY}"
    assert refusal_of("on_message", Inner()) == f"{WANTED} a Inner takes () -> None: {REMEDY}"


@pytest.mark.parametrize("name", SIGNATURES)
def test_each_callback_has_its_arguments(name: str) -> None:
    """A function with one argument more is refused, and the error names the arguments."""

    def take(count: int) -> Any:
        names = ", ".join(f"a{number}" for number in range(count))
        return eval(f"lambda {names}: None")  # noqa: S307 - a function for every count

    count = len(SIGNATURES[name])
    wanted = ", ".join(SIGNATURES[name])
    check(name, take(count))

    assert refusal_of(name, take(count + 1)).endswith(f": let it take ({wanted}).")
    assert refusal_of(name, take(count - 1)).startswith(f"{name} is called with ({wanted}), but ")
