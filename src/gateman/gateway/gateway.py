"""A gateway, as it is declared: it holds connections, and runs none of the application's code."""

from collections.abc import Callable
from typing import Any, NoReturn

from ..config import checks
from ..config.worker import Worker
from ..errors import ConfigError
from ..options import option
from .send_window import MAX_BATCH_SIZE


class Gateway(Worker):
    """
    Processes that hold the clients' connections, while business workers do what they ask for.

        Gateway("websocket://0.0.0.0:8282", count=2)

    It takes all of a worker's options. ``reload`` leaves its processes alone, as there is no code
    of the application's in them; ``reload --all`` does not.
    """

    name: str = option(default="gateway")
    reloadable: bool = option(default=False)
    without_business: str = option(
        default="wait",
        check=checks.one_of("refuse", "wait"),
        reason='What happens to a handshake while there is no business worker: ``"wait"`` for one'
        ' until ``timeouts.handshake``, or ``"refuse"`` with 503.',
    )

    def __setattr__(self, name: str, value: Any) -> None:
        """Assign an option, of which some have narrower bounds than a worker's."""
        super().__setattr__(name, value)
        if name == "limits" and self.limits.max_head_size > MAX_BATCH_SIZE:
            raise ConfigError(
                f"limits.max_head_size={self.limits.max_head_size} is more than what can travel to"
                " a business worker",
                f"use {MAX_BATCH_SIZE} bytes or less",
            )

    def declare(self, name: str, function: Callable[..., Any]) -> NoReturn:
        """
        Refuse a callback.

        Args:
            name: Such as ``"on_message"``.
            function: It.

        Raises:
            ConfigError: Always.
        """
        raise _no_code(f"{name} of {getattr(function, '__name__', repr(function))}")

    def every(self, seconds: float | None = None) -> NoReturn:
        """
        Refuse a timer.

        Args:
            seconds: Its interval.

        Raises:
            ConfigError: Always.
        """
        raise _no_code(f"every({seconds})")

    def on_event(self, topic: str | None = None) -> NoReturn:
        """
        Refuse a function for events.

        Args:
            topic: Their topic.

        Raises:
            ConfigError: Always.
        """
        raise _no_code(f"on_event({topic!r})")


def _no_code(what: str) -> ConfigError:
    return ConfigError(
        f"{what}: a Gateway runs no application code", "declare it on a BusinessWorker"
    )
