"""A business worker, as it is declared: it runs the application's code, and holds no connection."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from ..cluster.names import ClientId
from ..config.base import BaseWorker, Callback
from ..config.callbacks import BUSINESS_SIGNATURES
from ..options import Timeouts
from ..request import Request


class BusinessWorker(BaseWorker):
    """
    Processes that handle what the clients of gateways do.

        business = BusinessWorker(count=4)

        @business.on_message
        async def answer(client_id, message):
            hub.send_to_client(client_id, message)

    A client is named by its client id; everything about it goes through :data:`gateman.hub`, and
    :data:`gateman.current` tells whose event is being handled. A callback may be a plain function
    or ``async def``. The events of one client are handled one after the other.

    ``drain_window`` is how many seconds the handlers that run have to end when its process is
    renewed, and ``max_messages`` counts events.
    """

    signatures: ClassVar[Mapping[str, tuple[str, ...]]] = BUSINESS_SIGNATURES

    on_worker_start: Callback[Callable[["BusinessWorker"], Any]] = Callback()
    """``(worker)``: the process is up, and has no events yet."""
    on_worker_stop: Callback[Callable[["BusinessWorker"], Any]] = Callback()
    """``(worker)``: it stops, and has no more events."""
    on_websocket_connect: Callback[Callable[[ClientId, Request], Any]] = Callback()
    """``(client_id, request)``: the request is there and nothing answered yet. ``raise
    Refuse(403, "text")`` to refuse."""
    on_open: Callback[Callable[[ClientId], Any]] = Callback()
    """``(client_id)``: the 101 is sent."""
    on_message: Callback[Callable[[ClientId, Any], Any]] = Callback()
    """``(client_id, message)``: ``str`` for text, ``bytes`` for binary."""
    on_close: Callback[Callable[[ClientId, int, str], Any]] = Callback()
    """``(client_id, code, reason)``: it is gone; also when its gateway is."""

    def __init__(
        self,
        *,
        name: str = "business",
        count: int = 1,
        timeouts: Timeouts | Mapping[str, Any] | None = None,
        drain_window: float = 10.0,
        restart_stalled: bool = False,
        reloadable: bool = True,
        max_crashes: int = 10,
        max_messages: int | None = None,
        max_lifetime: float | None = None,
        max_memory: int | None = None,
        user: str | int | None = None,
        group: str | int | None = None,
        bus: str | Mapping[str, Any] | None = None,
        **unknown: Any,
    ) -> None:
        """
        Declare business workers.

        Args:
            name: See :class:`~gateman.config.base.BaseWorker` for all of them.
            count: Processes.
            timeouts: Timeouts; of clients are those of their gateway.
            drain_window: Seconds.
            restart_stalled: Whether to.
            reloadable: Whether it is.
            max_crashes: Crashes.
            max_messages: Events.
            max_lifetime: Seconds.
            max_memory: Bytes.
            user: User.
            group: Group.
            bus: URL; the one of the gateways.
            unknown: Always a mistake.

        Raises:
            ConfigError: Something of it cannot be.
        """
        super().__init__(
            name=name,
            count=count,
            timeouts=timeouts,
            drain_window=drain_window,
            restart_stalled=restart_stalled,
            reloadable=reloadable,
            max_crashes=max_crashes,
            max_messages=max_messages,
            max_lifetime=max_lifetime,
            max_memory=max_memory,
            user=user,
            group=group,
            bus=bus,
            **unknown,
        )
