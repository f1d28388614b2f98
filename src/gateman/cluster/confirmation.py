"""What is done at once, and may be awaited to know that it is in effect everywhere."""

from collections.abc import Awaitable, Callable, Generator
from typing import Any, Final, Generic, TypeVar

from .envelope import ClientAction, Command
from .names import NodeId

T = TypeVar("T")


class Confirmation(Generic[T]):
    """
    Something that is done, or on its way, whether anybody awaits it or not.

    Awaited, it returns when it is in effect, or raises why it is not.
    """

    __slots__ = ("_args", "_wait")

    def __init__(self, wait: Callable[..., Awaitable[T]], *args: Any) -> None:
        self._wait = wait
        self._args = args

    def __await__(self) -> Generator[Any, Any, T]:
        return self._wait(*self._args).__await__()


async def _nothing() -> None:
    pass


DONE: Final = Confirmation(_nothing)


def failed(error: Exception) -> Confirmation[None]:
    """Make one that cannot be."""

    async def fail() -> None:
        raise error

    return Confirmation(fail)


class PendingCommand:
    """
    A command to another process, until it is sent.

    Attributes:
        action: What is to be done.
        call: What the answer is to say; 0 while nobody waits for one.
        is_made: Whether it is on its way, as it was then.
    """

    __slots__ = ("_node", "action", "call", "is_made")

    def __init__(self, node: NodeId, action: ClientAction) -> None:
        self._node = node
        self.action = action
        self.call = 0
        self.is_made = False

    def make(self) -> Command:
        """Make the command of it, as it is now."""
        self.is_made = True
        return Command(self._node, self.call, self.action)
