"""
A gateway process whose clients are SDKs: it holds their state, and business workers answer for it.

What a worker asks its callbacks, a gateway asks a business process, by an event that is as reliable
as a message. So a reload of the application is invisible to SDK clients.
"""

from collections.abc import Callable
from itertools import count
from typing import Any

from ..clients.codes import ErrorCode
from ..cluster.names import ClientId
from ..connection import Connection
from ..errors import EnvelopeError
from ..log import logger
from ..runtime.client_callbacks import INTERNAL, ClientCallbacks, Refused
from ..runtime.client_callbacks import Reply as Then
from ..runtime.client_service import ClientService
from ..websocket.close import INTERNAL_ERROR
from .actions import Quarantine
from .commands import NotDeclared, decode_question, decode_result, encode_question
from .gateway_service import GatewayService
from .protocol import MessageEvent

# What a client gets if the business process has no such callback; else the pattern decides.
_NOT_DECLARED = {
    "on_rpc": Refused(ErrorCode.METHOD_NOT_FOUND),
    "on_refresh": Refused(ErrorCode.NOT_AVAILABLE),
    "on_sub_refresh": Refused(ErrorCode.NOT_AVAILABLE),
}


class RemoteCallbacks(ClientCallbacks):
    """
    The callbacks of business workers.

    Args:
        send: Sends a question about a client.
        may_answer: Whether a business process has a callback.
    """

    def __init__(
        self, send: Callable[[Connection, bytes], None], may_answer: Callable[[str], bool]
    ) -> None:
        self._send = send
        self._may_answer = may_answer
        self._numbers = count(1)
        # What waits for an answer, by the question's number.
        self._waiting: dict[Connection, dict[int, tuple[str, Then]]] = {}

    def __contains__(self, name: str) -> bool:
        return self._may_answer(name)

    def call(self, name: str, connection: Connection, *args: Any, then: Then) -> None:
        """Ask a business process."""
        if name != "on_message" and not self._may_answer(name):
            then(None)
            return
        number = next(self._numbers)
        self._waiting.setdefault(connection, {})[number] = (name, then)
        self._send(connection, encode_question(number, name, args))

    def answered(self, connection: Connection, reply: bytes) -> None:
        """Take an answer; EnvelopeError if it is malformed."""
        number, result = decode_result(reply)
        self._finish(connection, number, result)

    def quarantined(self, connection: Connection, event: MessageEvent) -> None:
        """Answer a question that has killed two business processes."""
        try:
            number = decode_question(event.payload)[0]
        except EnvelopeError:
            # The last piece of a large one; they are answered in order.
            number = next(iter(self._waiting.get(connection, ())), 0)
        self._finish(connection, number, INTERNAL)

    def _finish(self, connection: Connection, number: int, result: Any) -> None:
        name, then = self._waiting.get(connection, {}).pop(number, ("", None))
        if then is not None:
            then(_NOT_DECLARED.get(name) if isinstance(result, NotDeclared) else result)

    def forget(self, connection: Connection) -> None:
        """Await no more answers about a client."""
        self._waiting.pop(connection, None)


class GatewayClientService(ClientService, GatewayService):
    """One process of a gateway with SDK clients."""

    has_commands = True

    _callbacks: RemoteCallbacks

    def _make_callbacks(self) -> RemoteCallbacks:
        return RemoteCallbacks(self._forward, self._may_answer)

    def _may_answer(self, callback: str) -> bool:
        return self._dispatch.may_answer(callback)

    def closing(self, connection: Connection) -> None:
        """Await no more answers, as there is nobody to tell them."""
        self._callbacks.forget(connection)
        super().closing(connection)

    def closed(self, connection: Connection, code: int, reason: str) -> None:
        """Remove the client, and send the event to its business process."""
        self._callbacks.forget(connection)
        super().closed(connection, code, reason)

    def _reply_to_command(self, name: ClientId, reply: bytes) -> None:
        connection = self._connections_by_id.get(name)
        if connection is None:
            return
        try:
            self._callbacks.answered(connection, reply)
        except EnvelopeError as error:
            logger.error("%s: %s", self, error)
            connection.close(*INTERNAL_ERROR)

    def _quarantine(self, action: Quarantine) -> None:
        super()._quarantine(action)
        connection = self._connections_by_id.get(action.client)
        if connection is not None and isinstance(action.event, MessageEvent):
            self._callbacks.quarantined(connection, action.event)
