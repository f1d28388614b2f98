"""Which buses gateways and business workers may have, and the sentences for the others."""

from collections.abc import Mapping
from typing import Any

import pytest

from gateman import BusinessWorker, ConfigError, Gateway, Worker
from gateman.gateway.bus_check import check_buses

Bus = str | Mapping[str, Any] | None

AFAR = "nats://10.0.0.7:4222?name=chat"


def gateway(bus: Bus = None) -> Gateway:
    """Declare a gateway."""
    return Gateway("websocket://127.0.0.1:0", bus=bus)


def business(bus: Bus = None) -> BusinessWorker:
    """Declare business workers."""
    return BusinessWorker(bus=bus)


def refusal(*workers: Worker | BusinessWorker) -> str:
    """Check what cannot be; gives the sentence."""
    with pytest.raises(ConfigError) as caught:
        check_buses(workers)
    return str(caught.value)


@pytest.mark.parametrize(
    "bus",
    [
        None,
        "local:///run/chat.bus",
        "nats://127.0.0.1?name=chat",
        "nats://localhost:4222,[::1]:4222?name=chat",
        "nats://ann:secret@10.0.0.7?name=chat",
        "tls://token@10.0.0.7?name=chat",
        {"url": AFAR, "user": "ann", "password": "secret"},
        {"url": AFAR, "token": "secret"},
    ],
)
def test_buses_that_are_safe(bus: Bus) -> None:
    """Of this machine, or with something that says who we are."""
    check_buses([gateway(bus), business(bus)])


@pytest.mark.parametrize("name", ["creds", "nkey", "cert"])
def test_credentials_may_be_in_files(name: str) -> None:
    """What is in them is read when the bus is made, which is not here."""
    declared = business()
    vars(declared)["bus"] = {"url": AFAR, name: "/etc/chat.secret"}

    check_buses([declared])


@pytest.mark.parametrize(
    "bus",
    [
        AFAR,
        "tls://nats.example.com?name=chat",
        "nats://127.0.0.1,10.0.0.7?name=chat",
        {"url": AFAR, "token": "", "connect_timeout": 1.0},
    ],
)
def test_a_bus_open_to_others_is_refused(bus: Bus) -> None:
    """A server that may be reached by others has to ask who they are."""
    assert "has no credentials, and " in refusal(business(bus))
    assert "has no credentials, and " in refusal(gateway(bus))


def test_the_sentence_names_the_server() -> None:
    """And says what may be done about it."""
    assert refusal(gateway("nats://127.0.0.1,10.0.0.7?name=chat")) == (
        "the bus nats://127.0.0.1:4222,10.0.0.7:4222?name=chat has no credentials, and"
        " 10.0.0.7:4222 is another machine: any program that reaches it could act as any client:"
        " let the server require a user and password, a token, an nkey or a certificate, and write"
        " them into bus=."
    )


def test_a_worker_decides_for_itself() -> None:
    """Its bus is none of theirs, and is warned of when it is reached."""
    check_buses([Worker("websocket://127.0.0.1:0", bus=AFAR), gateway(), business()])


def test_both_have_the_same_bus() -> None:
    """Written one way or the other."""
    here = "nats://127.0.0.1?name=chat"
    check_buses([gateway(here), business({"url": here})])
    check_buses([gateway(here), business({"url": "nats://127.0.0.1", "name": "chat"})])

    assert refusal(gateway(here), business()) == (
        "'gateway' and 'business' have different buses and would not find each other: give"
        " all gateways and business workers the same bus=, or none."
    )


def test_memory_connects_no_processes() -> None:
    """It is for one process, and these are never one."""
    assert refusal(business("memory://")).startswith(
        "the bus memory:// ends with its process: gateways and business workers would not find"
        " each other: leave bus= out"
    )
