"""The declaration of a gateway, which holds connections and runs no application code."""

from collections.abc import Callable
from typing import Any, NoReturn

from ..config import checks
from ..config.worker import Worker
from ..errors import ConfigError
from ..options import option
from ..session import S
from .send_window import MAX_BATCH_SIZE


class Gateway(Worker[S]):
    """
    Processes that hold the clients' connections while business workers run the callbacks.

        Gateway("websocket://0.0.0.0:8282", count=2)

    A gateway has all options of a :class:`~gateman.Worker`, and no callbacks, timers or functions
    for events. Its processes contain no application code, so ``reload`` does not replace them
    unless ``reloadable`` is true; ``reload --all`` does.
    """

    name: str = option(default="gateway")
    reloadable: bool = option(default=False)
    without_business: str = option(
        default="wait",
        check=checks.one_of("refuse", "wait"),
        reason='What happens to a handshake while there is no business worker: ``"wait"`` for one'
        ' until ``timeouts.handshake``, or ``"refuse"`` with 503. A client without a handshake'
        " (``text://``) waits, or is closed.",
    )

    def __setattr__(self, name: str, value: Any) -> None:
        """
        Assign an option.

        Raises:
            ConfigError: The value is not valid; ``limits.max_head_size`` is at most 256 KiB here,
                and there is no ``http``.
        """
        if name == "http" and value is not None:
            raise _no_code("http")
        super().__setattr__(name, value)
        if name == "limits" and self.limits.max_head_size > MAX_BATCH_SIZE:
            raise ConfigError(
                f"limits.max_head_size={self.limits.max_head_size} is more than what can travel to"
                " a business worker",
                f"use {MAX_BATCH_SIZE} bytes or less",
            )

    def declare(self, name: str, function: Callable[..., Any]) -> NoReturn:
        """
        Refuse a callback: a gateway runs no application code.

        Args:
            name: Such as ``"on_message"``.
            function: The callback.

        Raises:
            ConfigError: Always.
        """
        raise _no_code(f"{name} of {getattr(function, '__name__', repr(function))}")

    def every(self, seconds: float | None = None, *, once: bool = False) -> NoReturn:  # noqa: ARG002
        """
        Refuse a timer: a gateway runs no application code.

        Args:
            seconds: The interval.
            once: As for a worker.

        Raises:
            ConfigError: Always.
        """
        raise _no_code(f"every({seconds})")

    def cron(
        self,
        expression: str | None = None,
        *,
        timezone: str = "UTC",  # noqa: ARG002
        once: bool = False,  # noqa: ARG002
    ) -> NoReturn:
        """
        Refuse a schedule: a gateway runs no application code.

        Args:
            expression: When to run.
            timezone: As for a worker.
            once: As for a worker.

        Raises:
            ConfigError: Always.
        """
        raise _no_code(f"cron({expression!r})")

    def connect(self, url: str, **options: Any) -> NoReturn:  # noqa: ARG002
        """
        Refuse an outgoing connection: a gateway runs no application code.

        Args:
            url: The other server.
            options: As for a worker.

        Raises:
            ConfigError: Always.
        """
        raise _no_code(f"connect({url!r})")

    def on_event(self, topic: str | None = None) -> NoReturn:
        """
        Refuse a function for events: a gateway runs no application code.

        Args:
            topic: The topic of the events.

        Raises:
            ConfigError: Always.
        """
        raise _no_code(f"on_event({topic!r})")


def _no_code(what: str) -> ConfigError:
    return ConfigError(
        f"{what}: a Gateway runs no application code",
        "declare it on a Worker with an address of its own"
        if what == "http"
        else "declare it on a BusinessWorker",
    )
