"""A gateway, as it is declared: it holds connections, and runs none of the application's code."""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, ClassVar, NoReturn

from ..config import schema
from ..config.worker import Worker
from ..errors import ConfigError
from .send_window import MAX_BATCH_SIZE


class Gateway(Worker):
    """
    Processes that hold the clients' connections, while business workers do what they ask for.

        Gateway("websocket://0.0.0.0:8282", count=2)

    It takes all of a worker's options. ``reload`` leaves its processes alone, as there is no code
    of the application's in them; ``reload --all`` does not.

    Attributes:
        without_business: What happens to a handshake while no business worker is there:
            ``"wait"``, until ``timeouts.handshake``, for one that comes; ``"refuse"`` with 503.
    """

    options: ClassVar[AbstractSet[str]] = schema.NAMES | {"without_business"}

    def __init__(
        self,
        listen: str,
        context: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        name: str = "gateway",
        without_business: str = "wait",
        reloadable: bool = False,
        **options: Any,
    ) -> None:
        """
        Declare a gateway.

        Args:
            listen: The address; see :mod:`gateman.listen`.
            context: ``{"ssl": {...}}``.
            name: For people.
            without_business: ``"wait"`` or ``"refuse"``.
            reloadable: Whether ``reload`` renews its processes.
            options: What else a :class:`~gateman.Worker` takes.

        Raises:
            ConfigError: Something of it cannot be.
        """
        self.without_business = without_business
        super().__init__(listen, context, name=name, reloadable=reloadable, **options)

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
