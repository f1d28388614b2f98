"""Whichever bus a URL names, it is a bus; what cannot be one is refused in one sentence."""

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from gateman.bus import Bus, Cause, Gap, open_bus
from gateman.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("memory://", "memory://"),
        ("memory://name", "memory://name"),
        ("local:///run/service/bus.sock", "local:///run/service/bus.sock"),
        ("nats://anna:s3cret@one,two:4223?name=chat", "nats://one:4222,two:4223?name=chat"),
        ("tls://s3cret@one?name=chat", "tls://one:4222?name=chat"),
    ],
)
def test_a_url_makes_a_bus(url: str, shown: str) -> None:
    """It is not connected, and shows no secrets."""
    bus: Bus = open_bus(url)

    assert (bus.url, bus.is_connected, bus.max_payload_size) == (shown, False, 1024 * 1024)
    assert (bus.on_gap, bus.counts) == (None, {})
    assert repr(bus).endswith(f" {shown}>")


@pytest.mark.parametrize("url", ["", "redis://s3cret@one", "s3cret", "one:4222", "NATS://one"])
def test_other_urls_are_refused(url: str) -> None:
    """Without repeating them: they may hold a password."""
    with pytest.raises(ConfigError) as caught:
        open_bus(url)

    assert str(caught.value) == (
        "the bus's URL is of an unknown kind: write memory://, local:///path/to/socket,"
        " nats://host:4222?name=chat or tls://host:4222?name=chat; `gateman bus SCRIPT` prints the"
        " one of a running service."
    )


def test_options_are_passed_on(tmp_path: Path) -> None:
    """Each kind of bus has its own."""
    (tmp_path / "ca.pem").write_text("hello")
    with pytest.raises(ConfigError, match=r"ca=.* cannot be used"):
        open_bus("tls://one?name=chat", ca=tmp_path / "ca.pem")


@pytest.mark.parametrize(
    ("url", "option", "message"),
    [
        ("memory://", "token", "'token' is not an option of this bus"),
        ("local:///bus", "max_pending", "did you mean 'max_pending_size'?"),
        ("nats://one", "passwort", "did you mean 'password'?"),
        ("nats://one", "url", "'url' is not an option of this bus"),
    ],
)
def test_unknown_options_are_refused(url: str, option: str, message: str) -> None:
    """With the nearest that there is, and never with the value."""
    with pytest.raises(ConfigError) as caught:
        open_bus(url, **{option: "s3cret"})

    assert message in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_gap_does_not_change() -> None:
    """Several may be told of the same one."""
    gap = Gap(cause=Cause.SLOW, since=1.0, until=2.0, unsent=0, uncertain=0, missed=3)

    with pytest.raises(FrozenInstanceError):
        gap.missed = 4  # type: ignore[misc]


def test_causes_are_words() -> None:
    """They can be written to a log and counted by."""
    assert [f"{cause}" for cause in Cause] == ["disconnected", "full", "slow"]
