"""A business worker, as it is declared: it runs the application's code, and holds no connection."""

from collections.abc import Mapping
from typing import Any, ClassVar

from ..cluster.names import ClientId
from ..config.base import BaseWorker, Callback
from ..config.callbacks import BUSINESS_SIGNATURES
from ..options import option
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

    name: str = option(default="business")

    on_worker_start = Callback[["BusinessWorker"]]()
    """``(worker)``: the process is up, and has no events yet."""
    on_worker_stop = Callback[["BusinessWorker"]]()
    """``(worker)``: it stops, and has no more events."""
    on_websocket_connect = Callback[[ClientId, Request]]()
    """``(client_id, request)``: the request is there and nothing answered yet. ``raise
    Refuse(403, "text")`` to refuse."""
    on_open = Callback[[ClientId]]()
    """``(client_id)``: the 101 is sent."""
    on_message = Callback[[ClientId, Any]]()
    """``(client_id, message)``: ``str`` for text, ``bytes`` for binary."""
    on_close = Callback[[ClientId, int, str]]()
    """``(client_id, code, reason)``: it is gone; also when its gateway is."""
