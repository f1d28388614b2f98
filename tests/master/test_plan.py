"""What all declared workers come to."""

from pathlib import Path

import pytest

from gateman import BusinessWorker, ConfigError, Gateway, Worker
from gateman.master.events import Policy
from gateman.master.plan import listen_of, plan

NOW = 1.8e9


def test_nothing_declared() -> None:
    """A script without a worker has nothing to run."""
    with pytest.raises(ConfigError, match=r"^no worker is declared: write Worker\("):
        plan([], now=NOW)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("websocket://127.0.0.1:7001", "ws://127.0.0.1:7001"),
        ("websocket://0.0.0.0:7001", "websocket://127.0.0.1:7001"),
        ("websocket://[::1]:7001", "websocket://[::]:7001"),
        ("websocket+unix:///run/chat.sock", "websocket+unix:///run/chat.sock"),
    ],
)
def test_two_workers_cannot_share_an_address(one: str, other: str) -> None:
    """Found before anything is bound, and said as what it is."""
    with pytest.raises(ConfigError, match="two workers listen on"):
        plan([Worker(one), Worker(other)], now=NOW)


def test_different_addresses_are_different() -> None:
    """Ports, addresses, paths, and ports that the system chooses."""
    addresses = [
        "websocket://127.0.0.1:7001",
        "websocket://127.0.0.2:7001",
        "websocket://127.0.0.1:7002",
        "websocket://127.0.0.1:0",
        "websocket://127.0.0.1:0",
        "websocket+unix:///run/one.sock",
        "websocket+unix:///run/two.sock",
    ]
    planned = plan([Worker(address) for address in addresses], now=NOW)

    assert len(planned) == len(addresses)


def test_the_policy_is_what_was_declared() -> None:
    """Every option about processes gets to the supervisor."""
    worker = Worker(
        "websocket://127.0.0.1:0",
        name="chat",
        count=3,
        timeouts={"start": 1, "stall": 2, "shutdown": 3, "handshake": 4},
        drain_window=5,
        restart_stalled=True,
        reloadable=False,
        max_crashes=6,
        max_messages=7,
        max_lifetime=8,
        max_memory=9,
    )

    assert plan([worker], now=NOW)[0].policy == Policy(
        name="chat",
        count=3,
        start=1,
        stall=2,
        shutdown=3,
        drain=5,
        restart_stalled=True,
        reloadable=False,
        max_crashes=6,
        max_messages=7,
        max_lifetime=8,
        max_memory=9,
    )


def test_a_drain_takes_as_long_as_a_handshake_may() -> None:
    """A handshake that runs when the drain begins may still finish."""
    worker = Worker("websocket://127.0.0.1:0", drain_window=1, timeouts={"handshake": 4})

    assert plan([worker], now=NOW)[0].policy.drain == 4


def test_certificates_are_read(tmp_path: Path) -> None:
    """What is wrong with them is found here."""
    context = {"ssl": {"local_cert": str(tmp_path / "missing.pem")}}
    with pytest.raises(ConfigError, match=r"missing\.pem"):
        plan([Worker("wss://127.0.0.1:0", context)], now=NOW)


def test_an_unknown_user() -> None:
    """Found before anything is bound."""
    with pytest.raises(ConfigError, match="there is no such user"):
        plan([Worker("websocket://127.0.0.1:0", user="nobody-of-this-name")], now=NOW)


def test_business_workers_listen_nowhere() -> None:
    """Several of them do not clash, and what they drain is not a handshake."""
    made = [BusinessWorker(drain_window=1), BusinessWorker(name="other", count=2)]
    planned = plan(made, now=NOW)

    assert [one.settings for one in planned] == [None, None]
    assert [one.policy for one in planned] == [
        Policy(name="business", count=1, drain=1, ends_last=True),
        Policy(name="other", count=2, drain=10, ends_last=True),
    ]
    assert [listen_of(one) for one in made] == ["", ""]


def test_a_mix_of_all_kinds() -> None:
    """Gateways are workers whose processes a reload leaves alone."""
    made = [
        Worker("websocket://127.0.0.1:7001"),
        Gateway("websocket://127.0.0.1:7002", count=2),
        BusinessWorker(),
    ]
    planned = plan(made, now=NOW)

    assert [listen_of(one.worker) for one in planned] == [
        "websocket://127.0.0.1:7001",
        "websocket://127.0.0.1:7002",
        "",
    ]
    assert [one.policy.reloadable for one in planned] == [True, False, True]


def test_gateways_and_business_workers_find_each_other() -> None:
    """What would keep them apart is found before anything is bound."""
    made = [Gateway("websocket://127.0.0.1:0", bus="nats://127.0.0.1?name=test"), BusinessWorker()]
    with pytest.raises(ConfigError, match="have different buses"):
        plan(made, now=NOW)
