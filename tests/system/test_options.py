"""Every option of everything that a user declares: a value of a wrong type is one sentence."""

import asyncio
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from typing import Any

import pytest

from gateman import (
    BusinessWorker,
    ConfigError,
    Deflate,
    Gateway,
    Hub,
    Limits,
    SyncHub,
    Timeouts,
    Timer,
    Worker,
)
from gateman.bus import open_bus
from gateman.bus.local import local_bus
from gateman.bus.nats import nats_bus
from gateman.config.base import BaseWorker
from gateman.config.callbacks import BUSINESS_SIGNATURES, SIGNATURES
from gateman.gateway.factory import service_maker
from gateman.tls.contexts import TlsContexts
from gateman.tls.ssl_options import _HONOURED
from tests.support.loop import on_loop
from tests.support.server import ssl_options


class Odd:
    """Something of a type that no option has."""


VALUES: list[object] = [
    *(None, True, False, 0, 1, -1, 2.5, math.nan, math.inf, 10**400),
    *("", "no", "a\nb", "\0", "\ud800", b"x"),
    *([], ["x"], [5], [None], [[]], (), {}, {"x": 1}, {5: 5}, range(3), {1}),
    *(Odd(), Odd, print),
]


def refusals(make: Callable[[Any], object]) -> list[str]:
    """Make something of every value; what is raised has to be a mistake's sentence."""
    found = []
    for value in VALUES:
        try:
            make(value)
        except ConfigError as error:
            found.append(str(error))
    return found


KINDS: list[tuple[type[BaseWorker], dict[str, Any]]] = [
    (Worker, {"listen": "websocket://127.0.0.1:0"}),
    (Gateway, {"listen": "websocket://127.0.0.1:0"}),
    (BusinessWorker, {}),
]


@pytest.mark.parametrize(
    ("kind", "needed", "name"),
    [(kind, needed, name) for kind, needed in KINDS for name in sorted(kind.options)],
)
def test_options_of_what_is_declared(
    kind: type[BaseWorker], needed: Mapping[str, Any], name: str
) -> None:
    """As an argument and as an attribute, by the time at which it would be served."""

    def argue(value: object) -> None:
        service_maker(kind(**{**needed, name: value}), now=1.8e9)

    def assign(value: object) -> None:
        made = kind(**needed)
        setattr(made, name, value)
        service_maker(made, now=1.8e9)

    for make in (argue, assign):
        # No option takes everything, and each sentence says what to do.
        assert len(refusals(make)) > len(VALUES) // 2
        assert all(sentence.endswith((".", "?")) for sentence in refusals(make))


def _make(kind: type[Any], name: str, value: object) -> object:
    return kind(**{name: value})


@pytest.mark.parametrize("kind", [Limits, Timeouts, Deflate])
def test_numbers(kind: type[Any]) -> None:
    """Limits, timeouts and compression."""
    for option in fields(kind):
        assert len(refusals(partial(_make, kind, option.name))) > 10


@pytest.mark.parametrize("name", sorted({*SIGNATURES, *BUSINESS_SIGNATURES}))
def test_callbacks(name: str) -> None:
    """By assignment and by decorator."""
    for kind, needed in KINDS[::2]:
        if name in kind.signatures:
            assert len(refusals(getattr(kind(**needed), name))) > 10
            made = kind(**needed)
            assert len(refusals(partial(setattr, made, name))) > 10


def test_acme_in_the_context() -> None:
    """It is checked with the worker, before any certificate is read."""

    def make(value: object) -> None:
        service_maker(Worker("wss://127.0.0.1:0", {"ssl": {"acme": value}}), now=1.8e9)

    assert len(refusals(make)) > 10


@pytest.mark.parametrize("name", sorted({*_HONOURED} - {"acme"}))
def test_tls(name: str) -> None:
    """Every option that PHP has."""
    good = ssl_options()

    assert len(refusals(lambda value: TlsContexts.load({**good, name: value}, now=1.8e9))) > 10


BUSES: list[tuple[str, Callable[..., object]]] = [
    ("local:///nowhere.sock", local_bus),
    ("nats://127.0.0.1:1?name=chat", nats_bus),
]


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (url, name)
        for url, kind in BUSES
        for name, one in inspect.signature(kind).parameters.items()
        if one.kind is one.KEYWORD_ONLY
    ],
)
def test_buses(url: str, name: str) -> None:
    """Of a hub in a program, of one without an event loop, and of workers."""
    connected = refusals(lambda value: open_bus(url, **{name: value}))
    assert len(connected) > 10
    assert refusals(lambda value: SyncHub(url, **{name: value})) == connected
    assert refusals(lambda value: BusinessWorker(bus={"url": url, name: value})) == connected


@on_loop
async def test_urls_of_buses() -> None:
    """What is no text is no URL."""
    coroutines = [Hub.connect(value) for value in VALUES]  # type: ignore[arg-type]
    ends = await asyncio.gather(*coroutines, return_exceptions=True)

    assert {type(end) for end in ends} == {ConfigError}
    assert len(refusals(SyncHub)) == len(VALUES)


def test_hubs_and_timers() -> None:
    """What is assigned to a hub, and what a timer is given."""
    hub = Hub()

    assert len(refusals(lambda value: setattr(hub, "answer_timeout", value))) > 10
    assert len(refusals(lambda value: setattr(hub, "on_gap", value))) > 10
    assert len(refusals(lambda value: Timer.delete(Timer.add(value, print)))) > 10
    assert len(refusals(lambda value: Timer.delete(Timer.add(1, value)))) > 10
    worker = Worker("websocket://127.0.0.1:0")
    assert len(refusals(lambda value: worker.every(value)(print))) > 10
