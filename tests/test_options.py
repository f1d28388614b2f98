"""Limits and timeouts: made from what a user wrote, or refused with a sentence."""

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import asdict, fields
from types import MappingProxyType, NoneType
from typing import Any, get_args, get_type_hints

import pytest

from gateman import Allow, Channel, ClientLimits, Deflate, Tokens
from gateman.errors import ConfigError
from gateman.options import Limits, SlowConsumer, Timeouts

BOTH = pytest.mark.parametrize("kind", [Limits, Timeouts])


def refusal_of(kind: type[Limits | Timeouts], value: object) -> str:
    """Make options that are refused."""
    with pytest.raises(ConfigError) as caught:
        kind.of(value)  # type: ignore[arg-type]
    return str(caught.value)


@BOTH
def test_every_option_has_a_unit_and_a_reason(kind: type[Limits | Timeouts]) -> None:
    """The reference page is made of this."""
    for declared in fields(kind):
        assert set(declared.metadata) == {"unit", "reason", "check"}
        assert declared.metadata["unit"]
        assert declared.metadata["reason"].endswith(".")


@BOTH
def test_options_are_small_and_fixed(kind: type[Limits | Timeouts]) -> None:
    """They are read for every message, so a checked value cannot change."""
    options = kind()
    name, owner = fields(kind)[0].name, kind.__name__.lower()

    assert not hasattr(options, "__dict__")
    with pytest.raises(ConfigError) as caught:
        setattr(options, name, 1)
    assert str(caught.value) == (
        f"{owner}.{name} cannot be changed by itself: write worker.{owner} = {{'{name}': 1}}."
    )
    with pytest.raises(ConfigError, match=f"'nonsense' is not an option of {owner}: "):
        setattr(options, "nonsense", 1)  # noqa: B010 - no type checker is to know it


def test_defaults() -> None:
    """A user writes only what differs."""
    assert Limits.of(None) == Limits() == Limits.of({})
    assert Timeouts.of(None) == Timeouts() == Timeouts.of({})
    assert (Limits().max_message_size, Limits().max_send_buffer_size) == (1_048_576, 1_048_576)
    assert (Timeouts().ping_interval, Timeouts().pong) == (25.0, 20.0)


@pytest.mark.parametrize(
    "value",
    [
        {"ping_interval": 5, "pong": 2.5},
        MappingProxyType({"ping_interval": 5, "pong": 2.5}),
        ChainMap[str, float]({"pong": 2.5}, {"ping_interval": 5, "pong": 1}),
        Timeouts(ping_interval=5, pong=2.5),
    ],
)
def test_mappings_and_instances(value: Timeouts | Mapping[str, float | None]) -> None:
    """Every mapping will do; whole numbers are numbers of seconds too."""
    expected = {**asdict(Timeouts()), "ping_interval": 5, "pong": 2.5}

    assert asdict(Timeouts.of(value)) == expected


def test_an_instance_is_taken_as_it_is() -> None:
    """Several workers may share one."""
    limits = Limits(max_head_size=1)

    assert Limits.of(limits) is limits


@pytest.mark.parametrize(
    ("kind", "name", "hint"),
    [(kind, *item) for kind in (Limits, Timeouts) for item in get_type_hints(kind).items()],
)
def test_none_means_off_if_the_type_allows_it(
    kind: type[Limits | Timeouts], name: str, hint: object
) -> None:
    """Everything else has a bound."""
    if NoneType in get_args(hint):
        assert getattr(kind.of({name: None}), name) is None
    else:
        assert f".{name}=None is not a positive number: " in refusal_of(kind, {name: None})


@pytest.mark.parametrize("value", [0, -1, 0.0, float("nan"), float("inf"), True, "10", [], 1j])
def test_values_that_are_not_positive_numbers(value: object) -> None:
    """Nothing waits for ever, not even for infinity; PHP's texts are not numbers."""
    assert refusal_of(Timeouts, {"close": value}) == (
        f"timeouts.close={value!r} is not a positive number: give it in seconds."
    )
    assert refusal_of(Limits, {"max_head_size": value}) == (
        f"limits.max_head_size={value!r} is not a positive number: give it in bytes."
    )


@pytest.mark.parametrize("name", ["max_message_size", "max_connections"])
def test_limits_are_whole_numbers(name: str) -> None:
    """Halves of bytes and connections do not exist."""
    assert refusal_of(Limits, {name: 1.5}).startswith(f"limits.{name}=1.5 is not a whole number: ")


def test_the_error_names_the_unit() -> None:
    """The error names the unit, which the user may have confused."""
    assert refusal_of(Limits, {"max_header_count": None}) == (
        "limits.max_header_count=None is not a positive number: give it in fields."
    )


def test_the_constructor_refuses_too() -> None:
    """An instance is as sound as a mapping that was read."""
    with pytest.raises(ConfigError) as caught:
        Timeouts(shutdown=0)

    assert str(caught.value) == (
        "timeouts.shutdown=0 is not a positive number: give it in seconds."
    )


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        (Limits, "max_mesage_size", "option of limits: did you mean 'max_message_size'?"),
        (Limits, "maxSendBufferSize", "option of limits: did you mean 'max_send_buffer_size'?"),
        (Timeouts, "Ping_Interval", "option of timeouts: did you mean 'ping_interval'?"),
        (Timeouts, 5, f"option of timeouts: there are {', '.join(sorted(asdict(Timeouts())))}."),
    ],
)
def test_unknown_names(kind: type[Limits | Timeouts], name: object, expected: str) -> None:
    """A slip of the pen is answered with the right name, anything else with all of them."""
    assert refusal_of(kind, {name: 1}) == f"{name!r} is not an {expected}"


@pytest.mark.parametrize("kind", [Allow, Channel, ClientLimits, Deflate, Limits, Timeouts, Tokens])
def test_constructors_refuse_what_they_do_not_know(kind: Any) -> None:
    """Python's own error would be a traceback, and would not say which options there are."""
    with pytest.raises(ConfigError, match=r"'nonsense' is not an option of [a-zA-Z_]+: there are "):
        kind(nonsense=1)
    first = fields(kind)[0].name
    with pytest.raises(ConfigError) as caught:
        kind("s3cret")
    assert str(caught.value) == (
        f"{kind.__name__} got a value without the name of an option: write"
        f" {kind.__name__}({first}=…)."
    )


@pytest.mark.parametrize("value", [5, "", "max_message_size=5", [], [("pong", 5)], Limits])
def test_limits_that_are_not_a_mapping(value: object) -> None:
    """The sentence shows how one is written."""
    assert refusal_of(Timeouts, value) == (
        f"timeouts={value!r} is neither Timeouts nor a mapping: write timeouts={{'handshake': …}}."
    )


def test_limits_are_not_timeouts() -> None:
    """Swapped arguments are noticed."""
    assert refusal_of(Limits, Timeouts()).endswith(
        "is neither Limits nor a mapping: write limits={'max_message_size': …}."
    )


def test_slow_consumers() -> None:
    """A policy has a name that can be written in a configuration."""
    assert [SlowConsumer(policy.value) for policy in SlowConsumer] == list(SlowConsumer)
    assert SlowConsumer("drop_oldest") is SlowConsumer.DROP_OLDEST
