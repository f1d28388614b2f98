"""The methods of the hub that change something: close clients, bind uids, join groups, sessions."""

from typing import Any

from ..connection_interfaces import JsonValue
from ..websocket.close import LOGGED_IN_ELSEWHERE, check_close
from .confirmation import Confirmation
from .envelope import (
    CloseClient,
    CloseUid,
    Dissolve,
    Join,
    Leave,
    SetSession,
    Target,
    Unbind,
    UpdateSession,
    check_session,
)
from .membership import binding
from .names import (
    Names,
    check_channel,
    check_client_id,
    check_client_ids,
    check_group,
    check_uid,
)
from .publication import as_message
from .queries import HubQueries

Message = str | bytes | bytearray | memoryview | JsonValue
"""Text, anything bytes-like for binary, or a JSON value."""


class HubActions(HubQueries):
    """
    The actions of a :class:`~.hub.Hub`.

    Each takes effect in this process at once, and in others within milliseconds. Awaited, it
    returns when it is in effect, or raises :class:`~gateman.errors.UnknownClient` or
    :class:`~gateman.errors.ConfirmTimeout`.
    """

    __slots__ = ()

    def close_client(
        self, client: str, code: int = 1000, reason: str = "", message: Message | None = None
    ) -> Confirmation[None]:
        """
        Close a client's connection, with a closing handshake.

        Args:
            client: Its id.
            code: The close code; see :meth:`gateman.Connection.close`.
            reason: For the client; at most 123 bytes of UTF-8.
            message: A last message.

        Returns:
            May be awaited: returns when its process has begun to close it.

        Raises:
            ConfigError: The code or the reason is invalid.
        """
        check_close(code, reason)
        name = check_client_id(client)
        if message is not None:
            self.local_node.sender.send_to_clients((name,), *as_message(message))
        return self.local_node.actions.do(CloseClient(name, code, reason))

    def close_uid(
        self,
        uid: str,
        code: int = 1000,
        reason: str = "",
        message: Message | None = None,
        *,
        exclude: Names = (),
    ) -> Confirmation[None]:
        """
        Close all connections of a user, wherever they are, with a closing handshake.

        Args:
            uid: The user's id.
            code: The close code; see :meth:`gateman.Connection.close`.
            reason: For the clients; at most 123 bytes of UTF-8.
            message: A last message.
            exclude: Client ids that stay connected.

        Returns:
            May be awaited: returns when every process has begun to close them.

        Raises:
            ConfigError: The code or the reason is invalid.
        """
        check_close(code, reason)
        name, staying = check_uid(uid), check_client_ids(exclude)
        if message is not None:
            kind, payload = as_message(message)
            self.local_node.sender.send(Target.UIDS, (name,), kind, payload, staying)
        return self.local_node.actions.do_everywhere(CloseUid(name, code, reason, staying))

    def bind_uid(
        self,
        client: str,
        uid: str,
        *,
        only: bool = False,
        code: int = LOGGED_IN_ELSEWHERE[0],
        reason: str = LOGGED_IN_ELSEWHERE[1],
    ) -> Confirmation[None]:
        """
        Bind a client to a uid, which replaces its previous one.

        Args:
            client: Its id.
            uid: The user's id.
            only: Close all other clients of this user, in all processes; see
                :meth:`gateman.Connection.bind`.
            code: The close code for the others.
            reason: The close reason for the others.

        Returns:
            May be awaited: returns when messages of any process to the uid reach the client, and
            with ``only`` when every process has closed the others.

        Raises:
            ConfigError: The code or the reason is invalid.
        """
        name = check_client_id(client)
        return self.local_node.actions.do(binding(name, uid, only=only, code=code, reason=reason))

    def unbind_uid(self, client: str) -> Confirmation[None]:
        """
        Remove the uid of a client.

        Args:
            client: Its id.

        Returns:
            May be awaited: returns when it is in effect.
        """
        return self.local_node.actions.do(Unbind(check_client_id(client)))

    def join_group(self, client: str, group: str) -> Confirmation[None]:
        """
        Put a client into a group.

        Args:
            client: Its id.
            group: The group's name.

        Returns:
            May be awaited: returns when messages of any process to the group reach the client.
        """
        return self.local_node.actions.do(Join(check_client_id(client), check_group(group)))

    def leave_group(self, client: str, group: str) -> Confirmation[None]:
        """
        Remove a client from a group.

        Args:
            client: Its id.
            group: The group's name.

        Returns:
            May be awaited: returns when it is in effect.
        """
        return self.local_node.actions.do(Leave(check_client_id(client), check_channel(group)))

    def dissolve_group(self, group: str) -> Confirmation[None]:
        """
        Remove all clients from a group, in all processes.

        Args:
            group: The group's name.

        Returns:
            May be awaited: returns when no process has clients in it.
        """
        return self.local_node.actions.do_everywhere(Dissolve(check_group(group)))

    def set_session(self, client: str, session: dict[str, Any]) -> Confirmation[None]:
        """
        Replace a client's session, which is ``connection.session`` where it is connected.

        Args:
            client: Its id.
            session: Values that MessagePack can encode: None, bool, int, float, str, bytes,
                datetime, and lists and dictionaries (with str as keys) of these.

        Returns:
            May be awaited: returns when it is in effect.

        Raises:
            EnvelopeError: A value cannot be encoded.
            HubError: It is too big for the bus.
        """
        check_session(session)
        return self.local_node.actions.do(SetSession(check_client_id(client), session))

    def update_session(self, client: str, /, **changes: Any) -> Confirmation[None]:
        """
        Change some values of a client's session.

        Args:
            client: Its id.
            changes: New values by key, as for :meth:`set_session`.

        Returns:
            May be awaited: returns when it is in effect.

        Raises:
            EnvelopeError: A value cannot be encoded.
            HubError: It is too big for the bus.
        """
        check_session(changes)
        return self.local_node.actions.do(UpdateSession(check_client_id(client), changes))
