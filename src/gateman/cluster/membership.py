"""The clients of this process: what its services tell the hub of them, and they ask of it."""

from ..connection import Connection, State
from ..websocket.close import check_close
from .confirmation import DONE, Confirmation
from .envelope import Bind, BindOnly, ClientAction, Join, Leave, Unbind
from .local_clients import send_buffer_of
from .names import ClientId, check_group, check_uid, client_id
from .node import Node

# Of one service, from its start to its end: a million a second, for twelve days.
_MAX_CONNECTIONS = 1 << 40


def binding(client: ClientId, uid: str, *, only: bool, code: int, reason: str) -> ClientAction:
    """
    Make what says who a client is.

    Raises:
        ConfigError: The uid, the code or the reason cannot be.
    """
    if not only:
        return Bind(client, check_uid(uid))
    check_close(code, reason)
    return BindOnly(client, check_uid(uid), code, reason)


class ConnectionMembership:
    """
    The hub, for connections; see :class:`gateman.connection.Membership`.

    A client that is put into a group in ``on_websocket_connect`` is in it from the moment at
    which it is connected, and never if it is refused.
    """

    __slots__ = ("_local_node", "_offset")

    def __init__(self, local_node: Node, number: int = 0) -> None:
        self._local_node = local_node
        # Each service counts its connections from 1.
        self._offset = number * _MAX_CONNECTIONS

    @property
    def local_node(self) -> Node:
        """This process's place in the cluster."""
        return self._local_node

    def check_thread(self, verb: str) -> None:
        """
        Check that something is called where it has to be.

        Raises:
            WrongThread: From another thread than the event loop's.
        """
        self._local_node.check_thread(verb)

    def arrive(self, connection: Connection) -> None:
        """Take note of a client whose handshake begins."""
        self._local_node.local_clients.arrive(self.client_id(connection), connection)

    def add(self, connection: Connection) -> None:
        """Take in a client that is open now."""
        for action in self._local_node.local_clients.add(self.client_id(connection), connection):
            self._local_node.do(action)

    def remove(self, connection: Connection) -> None:
        """Forget a client; nothing happens if it was never taken in."""
        client = self.client_id(connection)
        self._local_node.local_clients.leave(client)
        self._local_node.remove(client)

    def client_id(self, connection: Connection) -> ClientId:
        """Name a client."""
        return client_id(self._local_node.id, self._offset + connection.id)

    def uid_of(self, connection: Connection) -> str | None:
        """Tell who a client is."""
        registry, client = self._local_node.local_clients.registry, self.client_id(connection)
        return registry.uid_of(client) if client in registry else None

    def join(self, connection: Connection, group: str) -> Confirmation[None]:
        """Put a client into a group."""
        return self._do(connection, Join(self.client_id(connection), check_group(group)))

    def leave(self, connection: Connection, group: str) -> Confirmation[None]:
        """Take a client out of a group."""
        return self._do(connection, Leave(self.client_id(connection), check_group(group)))

    def bind(
        self, connection: Connection, uid: str, *, only: bool, code: int, reason: str
    ) -> Confirmation[None]:
        """Say who a client is."""
        client = self.client_id(connection)
        return self._do(connection, binding(client, uid, only=only, code=code, reason=reason))

    def unbind(self, connection: Connection) -> Confirmation[None]:
        """Say that nobody knows who a client is."""
        return self._do(connection, Unbind(self.client_id(connection)))

    def put(self, connection: Connection, opcode: int, payload: bytes) -> bool:
        """Put a message behind what is collected for many."""
        send_buffer = send_buffer_of(connection)
        if send_buffer is None or not send_buffer.is_direct:
            return False
        return self._local_node.local_clients.fanout.put(send_buffer, opcode, payload)

    def settle(self, connection: Connection) -> None:
        """Send what is collected for a client."""
        send_buffer = send_buffer_of(connection)
        if send_buffer is not None:
            self._local_node.local_clients.fanout.settle(send_buffer)

    def _do(self, connection: Connection, action: ClientAction) -> Confirmation[None]:
        if connection.state is State.CONNECTING:
            self._local_node.local_clients.do_early(action)
            return DONE
        return self._local_node.do(action)
