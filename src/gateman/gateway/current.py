"""Whose event a business worker's handler is handling: :data:`current`."""

from contextvars import ContextVar
from typing import Any, Final, Protocol

from ..cluster.names import ClientId
from ..errors import HubError


class CurrentClient(Protocol):
    """A client, as its business process knows it."""

    name: ClientId
    remote_ip: str
    remote_port: int

    @property
    def session(self) -> dict[str, Any]:
        """Its session."""


current_context: ContextVar[CurrentClient | None] = ContextVar("current_client", default=None)
"""Set while a handler runs, and in what it starts."""


class Current:
    """
    The client whose event is being handled, in a handler of a business worker.

        @business.on_message
        def count(client_id, message):
            current_client.session["count"] = current_client.session.get("count", 0) + 1

    Raises:
        HubError: From everything: no handler runs here.
    """

    @property
    def client_id(self) -> ClientId:
        """Its client id."""
        return _current().name

    @property
    def remote_ip(self) -> str:
        """Its address; behind a trusted proxy the one that the proxy names."""
        return _current().remote_ip

    @property
    def remote_port(self) -> int:
        """Its port; 0 when it is not known."""
        return _current().remote_port

    @property
    def session(self) -> dict[str, Any]:
        """
        The application's own data about it, empty at first.

        It is kept at its gateway and travels with its events. What a handler changes goes
        back when the handler has ended; it may hold what MessagePack carries.
        """
        return _current().session


def _current() -> CurrentClient:
    found = current_context.get()
    if found is None:
        raise HubError("`current` tells of a client while a handler of a business worker runs")
    return found


current_client: Final = Current()
"""The client whose event is being handled."""
