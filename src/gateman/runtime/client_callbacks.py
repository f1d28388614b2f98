"""
Calls the callbacks that answer SDK clients, in order, and reads what they return or raise.

What the application raises by mistake is logged; the client gets error 100, and stays connected.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from msgspec import Struct

from ..clients.allow import Allow, allow_of
from ..clients.codes import ErrorCode
from ..config.callbacks import Function
from ..connection import Connection
from ..errors import ClientError, Disconnect, Refuse
from .callback_runner import CallbackRunner


class Refused(Struct, frozen=True):
    """An error for the client."""

    code: int
    message: str = ""
    is_temporary: bool | None = None  # None for what the code says


class Disconnected(Struct, frozen=True):
    """The end of the connection, for which the application gave a code."""

    code: int
    reason: str


Refusal = Refused | Disconnected

DENIED = Refused(ErrorCode.PERMISSION_DENIED)
INTERNAL = Refused(ErrorCode.INTERNAL)

Answer = Callable[[Allow | Refusal], None]
"""Called once with what a callback decided."""

Reply = Callable[[Any], None]
"""Called once with what a callback returned, or with a refusal."""


class ClientCallbacks:
    """The callbacks of one worker that its SDK clients cause."""

    def __init__(self, functions: dict[str, Function], runner: CallbackRunner) -> None:
        self._functions = functions
        self._runner = runner

    def __contains__(self, name: str) -> bool:
        return name in self._functions

    def decide(
        self, name: str, connection: Connection, *args: Any, is_allowed: bool, then: Answer
    ) -> None:
        """Ask a callback for permission; ``is_allowed`` is the answer without one, and its None."""

        def decided(result: Any) -> None:
            if isinstance(result, Refusal):
                then(result)
                return
            if result is None:
                result = is_allowed
            allowed = allow_of(result)
            then(DENIED if allowed is None else allowed)

        self.call(name, connection, *args, then=decided)

    def call(self, name: str, connection: Connection, *args: Any, then: Reply) -> None:
        """Call a callback behind those that run for its connection."""
        function = self._functions.get(name, _allow)

        def ended(result: object, error: Exception | None) -> None:
            then(result if error is None else self._refusal(name, connection, error))

        self._runner.run(name, connection, partial(function, connection, *args), ended)

    def _refusal(self, name: str, connection: Connection, error: Exception) -> Refusal:
        refusal = refusal_of(error)
        if refusal is None:
            self._runner.note(name, connection, error)
        return refusal or INTERNAL


def refusal_of(error: Exception) -> Refusal | None:
    """Read what the application raised; ``None`` for what it raised by mistake."""
    if isinstance(error, ClientError):
        return Refused(error.code, error.message, error.temporary)
    if isinstance(error, Disconnect):
        return Disconnected(error.code, error.reason)
    if isinstance(error, Refuse):
        return Refused(ErrorCode.PERMISSION_DENIED, error.text)
    return None


def _allow(*_args: object) -> None:
    """Replace a callback that is not declared."""
