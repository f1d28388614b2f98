"""The router of the local bus, in a child process that tests kill and start again."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .child import Child, answers


class RouterProcess(Child):
    """
    One router.

    Attributes:
        path: Its socket.
    """

    def __init__(self, folder: Path) -> None:
        """
        Name a router.

        Args:
            folder: Where its socket goes.
        """
        self.path = folder / "bus.sock"
        super().__init__(
            [str(self.path)],
            kind="router",
            log=folder / "router.log",
            is_up=lambda: answers(socket.AF_UNIX, str(self.path)),
        )

    @property
    def url(self) -> str:
        """What a bus is told."""
        return f"local://{self.path}"


@contextmanager
def router(folder: Path) -> Iterator[RouterProcess]:
    """
    Run a router to the end of the block.

    Args:
        folder: Where its socket goes.

    Yields:
        The router, which can be killed and started again.
    """
    process = RouterProcess(folder)
    process.start()
    try:
        yield process
    finally:
        process.stop()
