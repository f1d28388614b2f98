"""A gateway as it is declared: a worker without code."""

from typing import Any

import pytest

from gateman import ConfigError, Gateway, Limits
from gateman.config.worker import settings_of


def gateway(**options: Any) -> Gateway:
    """Declare one."""
    return Gateway("websocket://127.0.0.1:0", **options)


def test_it_is_a_worker_with_other_defaults() -> None:
    """What a worker may be told, it may be told too."""
    made = gateway(count=2, limits={"max_head_size": 4096})
    settings = settings_of(made, now=1.8e9)

    assert (made.name, made.reloadable, made.without_business) == ("gateway", False, "wait")
    assert (made.count, settings.limits) == (2, Limits(max_head_size=4096))
    assert set(vars(made)) == set(Gateway.options) | Gateway.state


def test_it_runs_no_code() -> None:
    """The sentence says where the code belongs."""
    made = gateway()
    refusals: list[ConfigError] = []
    for declare in (
        lambda: made.on_message(print),
        lambda: setattr(made, "on_worker_start", print),
        lambda: made.every(2.5),
    ):
        with pytest.raises(ConfigError) as caught:
            declare()
        refusals.append(caught.value)
    made.on_close = None

    assert list(map(str, refusals)) == [
        "on_message of print: a Gateway runs no application code: declare it on a BusinessWorker.",
        "on_worker_start of print: a Gateway runs no application code: declare it on a"
        " BusinessWorker.",
        "every(2.5): a Gateway runs no application code: declare it on a BusinessWorker.",
    ]


def test_policy_without_business_is_one_of_two() -> None:
    """And who misspells an option is told whose it is not."""
    with pytest.raises(
        ConfigError, match=r"'waiting' is not a value of without_business: did you mean 'wait'"
    ):
        gateway(without_business="waiting")
    with pytest.raises(
        ConfigError, match="'cuont' is not an option of Gateway: did you mean 'count'"
    ):
        gateway(cuont=2)


def test_a_handshake_has_to_fit_into_an_envelope() -> None:
    """What no bus carries would never be answered."""
    with pytest.raises(ConfigError) as refused:
        gateway(limits={"max_head_size": 1 << 20})

    assert str(refused.value) == (
        "limits.max_head_size=1048576 is more than what can travel to a business worker: use 262144"
        " bytes or less."
    )


def test_it_may_be_reloadable() -> None:
    """Who says so gets it."""
    assert gateway(reloadable=True).reloadable
