"""Actions that take effect immediately, and can be awaited until they are in effect everywhere."""

from collections.abc import Awaitable, Callable, Generator
from typing import Any, Final, Generic, TypeVar

from msgspec import Struct

from .envelope import ClientAction, Command
from .names import NodeId

T = TypeVar("T")


class Confirmation(Struct, Generic[T], eq=False):
    """A started action; awaiting it returns when it is in effect, or raises why it is not."""

    # One is made for every message, and few are awaited: a Struct is made fastest.

    _wait: Callable[..., Awaitable[T]]
    _args: tuple[Any, ...] = ()

    def __await__(self) -> Generator[Any, Any, T]:
        return self._wait(*self._args).__await__()


async def _nothing() -> None:
    pass


DONE: Final = Confirmation(_nothing)


def failed(error: Exception) -> Confirmation[None]:
    """Make a confirmation that raises an error."""

    async def fail() -> None:
        raise error

    return Confirmation(fail)


class PendingCommand:
    """A command to another node, until it is published; ``request_id`` is 0 if no task waits."""

    __slots__ = ("_node", "action", "is_made", "request_id")

    def __init__(self, node: NodeId, action: ClientAction) -> None:
        self._node = node
        self.action = action
        self.request_id = 0
        self.is_made = False

    def make(self) -> Command:
        """Make the command from the current state."""
        self.is_made = True
        return Command(self._node, self.request_id, self.action)
