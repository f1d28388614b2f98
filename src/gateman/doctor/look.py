"""A look at a service: all parts of the way in order, and the verdict."""

from collections.abc import Callable, Sequence

from ..config.base import BaseWorker
from ..master.script import Script
from .target import Settings
from .verdict import Verdict


async def look(
    url: str | None,
    settings: Settings,
    inside: tuple[Sequence[BaseWorker], Script] | None,
    progress: Callable[[str], None],
) -> Verdict:
    """
    Look at a URL, a service, or both.

    Raises:
        UsageMistake: The URL is not that of a WebSocket.
    """
    raise NotImplementedError
