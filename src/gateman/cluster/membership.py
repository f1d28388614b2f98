"""The hub as seen from the connections of this process."""

from collections.abc import Sized

from ..connection import Connection, State
from ..options import check_flag
from ..websocket.close import check_close
from .confirmation import DONE, Confirmation
from .envelope import Bind, BindOnly, ClientAction, Join, Leave, Unbind
from .names import ClientId, check_channel, check_group, check_uid, client_id
from .node import Node

# Connections of one service from start to end: a million per second, for twelve days.
_MAX_CONNECTIONS = 1 << 40


def binding(client: ClientId, uid: str, *, only: bool, code: int, reason: str) -> ClientAction:
    """Make the action that binds a client to a uid, after checking its arguments."""
    if not check_flag("only", only):
        return Bind(client, check_uid(uid))
    check_close(code, reason)
    return BindOnly(client, check_uid(uid), code, reason)


class ConnectionMembership:
    """The hub, for connections; see :class:`gateman.connection_interfaces.Membership`."""

    # A client that joins a group in on_websocket_connect is a member from the moment its handshake
    # completes, and never if the handshake is refused.

    __slots__ = ("_local_node", "_offset")

    def __init__(self, local_node: Node, number: int = 0) -> None:
        self._local_node = local_node
        # Each service counts its connections from 1.
        self._offset = number * _MAX_CONNECTIONS

    @property
    def local_node(self) -> Node:
        return self._local_node

    @property
    def fanout_turns(self) -> Sized:
        """Empty unless the fan-out has collected messages."""
        return self._local_node.local_clients.fanout.turns

    def check_thread(self, verb: str) -> None:
        """Raise :class:`WrongThread` outside the thread of the event loop."""
        self._local_node.check_thread(verb)

    def arrive(self, connection: Connection) -> None:
        """Register a client whose handshake begins."""
        self._local_node.local_clients.add_connecting(self.client_id(connection), connection)

    def add(self, connection: Connection) -> None:
        """Add a client whose handshake is done."""
        for action in self._local_node.local_clients.add(self.client_id(connection), connection):
            self._local_node.actions.do(action)

    def remove(self, connection: Connection) -> None:
        """Remove a client; does nothing if it was never added."""
        client = self.client_id(connection)
        self._local_node.local_clients.remove_connecting(client)
        self._local_node.remove(client)

    def client_id(self, connection: Connection) -> ClientId:
        return client_id(self._local_node.id, self._offset + connection.id)

    def uid_of(self, connection: Connection) -> str | None:
        registry, client = self._local_node.local_clients.registry, self.client_id(connection)
        return registry.uid_of(client) if client in registry else None

    def join(self, connection: Connection, group: str) -> Confirmation[None]:
        return self._do(connection, Join(self.client_id(connection), check_group(group)))

    def leave(self, connection: Connection, group: str) -> Confirmation[None]:
        return self._do(connection, Leave(self.client_id(connection), check_channel(group)))

    def bind(
        self, connection: Connection, uid: str, *, only: bool, code: int, reason: str
    ) -> Confirmation[None]:
        client = self.client_id(connection)
        return self._do(connection, binding(client, uid, only=only, code=code, reason=reason))

    def unbind(self, connection: Connection) -> Confirmation[None]:
        return self._do(connection, Unbind(self.client_id(connection)))

    def put(self, connection: Connection, opcode: int, payload: bytes) -> bool:
        """Queue a message behind the pending fan-out; return whether there is one."""
        send_buffer = connection.send_buffer
        return send_buffer.is_direct and self._local_node.local_clients.fanout.put(
            send_buffer, opcode, payload
        )

    def settle(self, connection: Connection) -> None:
        """Write the pending fan-out messages of one client now."""
        self._local_node.local_clients.fanout.settle(connection.send_buffer)

    def _do(self, connection: Connection, action: ClientAction) -> Confirmation[None]:
        if connection.state is State.CONNECTING:
            self._local_node.local_clients.do_early(action)
            return DONE
        return self._local_node.actions.do(action)
