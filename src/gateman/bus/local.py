"""The bus between the processes of one machine: the client of a router (:mod:`.router`)."""

import asyncio
import os
from pathlib import Path

from ..errors import BusError, ConfigError
from . import unix
from .base import MAX_PAYLOAD_SIZE, MAX_PENDING_SIZE
from .link import DIAL_TIMEOUT, Link
from .remote import RemoteBus
from .router_wire import HELLO, RouterWire
from .wire import Hello


def local_bus(path: str, *, max_pending_size: int = MAX_PENDING_SIZE) -> RemoteBus:
    """
    Make the bus of a router.

    Args:
        path: The router's socket, absolute.
        max_pending_size: How much may wait to be sent, in bytes.

    Returns:
        The bus, not started.

    Raises:
        ConfigError: The path is not absolute.
    """
    if not path.startswith("/"):
        raise ConfigError(
            f"the bus's URL local://{path} has no absolute path", "write local:///path/to/socket"
        )
    return RemoteBus(_Router(Path(path)), max_pending_size=max_pending_size)


class _Router:
    """The router behind a path; see :class:`~.remote.Dialect`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def url(self) -> str:
        return f"local://{self._path}"

    async def dial(self) -> Link:
        try:
            async with asyncio.timeout(DIAL_TIMEOUT):
                return await self._dial()
        except OSError as error:
            raise BusError(self.url, _reason(error)) from None

    async def _dial(self) -> Link:
        sock = await unix.connect(self._path)
        uid = unix.peer_uid(sock)
        # Root may be asked to send to anybody's; nobody else sends to a stranger's.
        if os.geteuid() != 0 and uid not in {None, 0, os.geteuid()}:
            sock.close()
            raise BusError(self.url, f"its router belongs to another user (uid {uid})")
        link = Link(RouterWire())
        await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=sock)
        try:
            await self._greet(link)
        except BaseException:
            link.abort()
            raise
        link.max_payload_size = MAX_PAYLOAD_SIZE
        return link

    async def _greet(self, link: Link) -> None:
        match await link.next_event():
            case Hello({"speaks": speaks}) if HELLO.endswith(speaks.encode()):
                return
            case Hello({"speaks": speaks}) if speaks.startswith("gateman-bus"):
                problem = "its router is of another version of gateman: restart the service"
            case None:
                problem = "its router has refused us"
            case _:
                problem = "what listens there is no router of gateman"
        raise BusError(self.url, problem)


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return f"its router does not answer within {DIAL_TIMEOUT:g} seconds"
    if isinstance(error, FileNotFoundError):
        return "there is no such socket: is the service running?"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there: is the service running?"
    if isinstance(error, PermissionError):
        return "this user may not connect to it"
    return (error.strerror or str(error)).lower()
