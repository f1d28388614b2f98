"""What an SDK client may make the service hold and do."""

from dataclasses import fields

import pytest

from gateman.clients.limits import ClientLimits, Rate
from gateman.errors import ConfigError


def test_a_rate_is_a_second_s_amount_at_once_and_then_evenly() -> None:
    rate = Rate(4)

    assert [rate.take(10.0) for _ in range(5)] == [True, True, True, True, False]
    assert [rate.take(now) for now in (10.2, 10.25, 10.3, 10.5, 9.0)] == [
        False,
        True,
        False,
        True,
        False,
    ]
    assert [rate.take(100.0) for _ in range(5)] == [True, True, True, True, False]


def test_every_option_has_a_unit_and_a_reason() -> None:
    for declared in fields(ClientLimits):
        assert declared.metadata["unit"]
        assert declared.metadata["reason"].endswith(".")


def test_options_are_made_from_a_mapping_and_checked() -> None:
    assert ClientLimits.of(None) == ClientLimits()
    assert ClientLimits.of({"max_subscriptions": 3}).max_subscriptions == 3
    with pytest.raises(ConfigError, match="'subs' is not an option of client_limits"):
        ClientLimits.of({"subs": 3})
    with pytest.raises(ConfigError, match=r"client_limits\.max_subscriptions=0 is not a positive"):
        ClientLimits(max_subscriptions=0)
    with pytest.raises(ConfigError, match="cannot be changed by itself"):
        ClientLimits().max_subscriptions = 1  # type: ignore[misc]
