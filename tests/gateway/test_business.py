"""Business workers as they are declared."""

import pytest

from gateman import BusinessWorker, ConfigError, Request
from gateman.config.callbacks import BUSINESS_SIGNATURES


def test_defaults() -> None:
    """A name, one process, and new code with each reload."""
    made = BusinessWorker()

    assert (made.name, made.count, made.reloadable) == ("business", 1, True)
    assert set(vars(made)) == set(BusinessWorker.options) | BusinessWorker.state


def test_callbacks_get_client_ids() -> None:
    """By decorator and by assignment, plain and async."""
    made = BusinessWorker()

    @made.on_websocket_connect
    async def decide(client_id: str, request: Request) -> None:
        """Let in."""

    def answer(client_id: str, message: object) -> None:
        """Take a message."""

    made.on_message = answer

    assert made.callbacks == {"on_websocket_connect": decide, "on_message": answer}


def test_every_callback_may_be_declared() -> None:
    """Each of those that there are is an attribute."""
    made = BusinessWorker()
    for name in BUSINESS_SIGNATURES:
        setattr(made, name, print)

    assert made.callbacks == dict.fromkeys(BUSINESS_SIGNATURES, print)


def test_callbacks_of_a_worker_are_refused() -> None:
    """It has no connections: neither as an argument, nor their callbacks."""
    made = BusinessWorker()
    with pytest.raises(ConfigError, match=r"on_open is called with \(client_id\), but <lambda>"):
        made.on_open = lambda: None  # type: ignore[assignment]
    with pytest.raises(ConfigError, match="'on_buffer_full' is not an option of BusinessWorker"):
        made.on_buffer_full = print


def test_it_listens_nowhere() -> None:
    """What is of the network is not an option of it."""
    with pytest.raises(ConfigError, match="'limits' is not an option of BusinessWorker") as refused:
        BusinessWorker(limits={})  # type: ignore[call-arg]

    assert {"id", "callbacks", "schedule"}.isdisjoint(str(refused.value).split(", "))


def test_it_may_run_functions_now_and_then() -> None:
    """As a worker does."""
    made = BusinessWorker()
    made.every(60)(dir)

    assert made.schedule == [(60, dir)]
