"""The client whose event a business worker's handler handles: :data:`current_client`."""

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Protocol

from ..cluster.names import ClientId
from ..errors import ConfigError, HubError
from ..session import OfSessionRead, S_co


class CurrentClient(Protocol):
    """A client, as its business process knows it; public through :class:`Current`."""

    name: ClientId
    remote_ip: str
    remote_port: int

    @property
    def session(self) -> dict[str, Any]: ...


current_context: ContextVar[CurrentClient | None] = ContextVar("current_client", default=None)
"""Set while a handler runs, and in the tasks and threads that it starts."""


class Current(OfSessionRead[S_co]):
    """
    The client whose event the running handler of a business worker handles.

    It also works in tasks that a handler creates and in :func:`asyncio.to_thread`.

        @business.on_message
        def count(client_id, message):
            current_client.session["count"] = current_client.session.get("count", 0) + 1

    Raises:
        HubError: From every attribute, if no handler of a business worker runs.
    """

    __slots__ = ()

    if not TYPE_CHECKING:  # Type checkers would accept every name.

        def __setattr__(self, name: str, value: object) -> None:
            """Refuse what would be one value for all clients."""
            raise ConfigError(
                f"current_client.{name} cannot be set: it is one object for all clients",
                f"write current_client.session[{name!r}] = …"
                if name != "session"
                else "change what is in the session: current_client.session.update(…)",
            )

    @property
    def client_id(self) -> ClientId:
        """The client id, as all methods of :data:`gateman.hub` take it."""
        return _running_context().name

    @property
    def remote_ip(self) -> str:
        """The client's IP address; behind a trusted proxy the address that the proxy names."""
        return _running_context().remote_ip

    @property
    def remote_port(self) -> int:
        """The client's TCP port; 0 if it is not known."""
        return _running_context().remote_port

    @property
    def session(self) -> S_co:
        """
        The application's own data about the client; empty at first.

        The gateway stores it and sends it with each event. What a handler has changed returns to
        the gateway when the handler has ended, with at most 256 KiB. Keys are ``str``; values are
        what MessagePack can encode. Anything else is logged and closes the client with 1011.
        """
        return _running_context().session  # type: ignore[return-value] # S_co describes it


def _running_context() -> CurrentClient:
    found = current_context.get()
    if found is None:
        raise HubError("current_client is only set while a handler of a business worker runs")
    return found


current_client: Final = Current[dict[str, Any]]()
"""The client whose event the running handler handles; see :class:`Current`."""
