"""The declaration of a business worker, which runs application code and holds no connections."""

from collections.abc import Mapping
from typing import Any, ClassVar

from ..cluster.names import ClientId
from ..config.base import BaseWorker
from ..config.callback_attributes import Callback, MessageCallback
from ..config.callbacks import BUSINESS_CLIENT_SIGNATURES, BUSINESS_SIGNATURES
from ..options import option
from ..request import Request
from ..session import OfSession, S
from .current import Current, current_client


class BusinessWorker(BaseWorker, OfSession[S]):
    """
    Processes that run the callbacks for the clients of gateways.

        business = BusinessWorker(count=4)

        @business.on_message
        async def answer(client_id, message):
            hub.send_to_client(client_id, message)

    Callbacks get a client id instead of a connection: use :data:`gateman.hub` to send, close and
    group, and :data:`gateman.current_client` for the client of the running callback. A callback is
    a plain function or an ``async def``. An exception closes its client with 1011.

    ``drain_window`` is the time in seconds that running callbacks have to end when their process
    is replaced. ``max_messages`` counts events.

    Guarantees:
        The events of one client are handled one by one, in order, and at least once; more than
        once only if a process died or was cut off while it had the event. ``on_close`` runs once
        per client that was not refused.
    """

    signatures: ClassVar[Mapping[str, tuple[str, ...]]] = (
        BUSINESS_SIGNATURES | BUSINESS_CLIENT_SIGNATURES
    )

    name: str = option(default="business")

    on_worker_start = Callback[["BusinessWorker[S]"]]()
    """``(worker)``: the process has started and has no clients yet."""
    on_worker_stop = Callback[["BusinessWorker[S]"]]()
    """``(worker)``: the process stops; all its events are handled."""
    on_websocket_connect = Callback[[ClientId, Request]]()
    """``(client_id, request)``: a client asks to connect; the 101 follows. ``raise Refuse(403,
    "text")`` to refuse."""
    on_open = Callback[[ClientId]]()
    """``(client_id)``: the gateway has sent the 101."""
    on_message = MessageCallback[ClientId]()
    """``(client_id, message)``: ``str`` for text, ``bytes`` for binary."""
    on_close = Callback[[ClientId, int, str]]()
    """``(client_id, code, reason)``: the client is gone; code 1006 if its gateway died."""

    on_client_connect = Callback[[ClientId, str, Any]]()
    """``(client_id, token, data)``: an SDK client of a gateway with ``client_protocol`` connects;
    as ``on_client_connect`` of a :class:`~gateman.Worker`, and so are the callbacks below. Use
    ``hub.bind_uid`` and ``hub.join_group``."""
    on_refresh = Callback[[ClientId, str]]()
    """``(client_id, token)``: prolong the connection: return ``Allow(expires_in=…)``."""
    on_subscribe = Callback[[ClientId, str, Any]]()
    """``(client_id, channel, data)``: an SDK client subscribes."""
    on_sub_refresh = Callback[[ClientId, str, str]]()
    """``(client_id, channel, token)``: prolong a subscription; as ``on_refresh``."""
    on_publish = Callback[[ClientId, str, Any]]()
    """``(client_id, channel, data)``: an SDK client publishes."""
    on_rpc = Callback[[ClientId, str, Any]]()
    """``(client_id, method, data)``: an SDK client calls a method; what it returns is the answer,
    with at most 256 KiB."""

    @property
    def current_client(self) -> Current[S]:
        """:data:`gateman.current_client`, whose session has the type that this worker declares."""
        return current_client  # type: ignore[return-value] # S describes what it holds
