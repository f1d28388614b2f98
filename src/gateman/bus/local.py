"""The bus between the processes of one machine: the client of a router (:mod:`.router`)."""

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BusError, ConfigError
from ..net.socket_files import peer_of
from . import unix_socket
from .base import MAX_PAYLOAD_SIZE, MAX_PENDING_SIZE
from .broker_bus import BrokerBus
from .broker_connection import CONNECT_TIMEOUT, BrokerConnection
from .router_wire import HELLO, RouterWire
from .wire import BrokerHello

if TYPE_CHECKING:
    from ..history.base import FollowingHistory


def local_bus(
    path: str,
    *,
    max_pending_size: int = MAX_PENDING_SIZE,
    connect_timeout: float = CONNECT_TIMEOUT,
) -> BrokerBus:
    """Make the bus of a router, at an absolute path."""
    if not path.startswith("/"):
        raise ConfigError(
            f"the bus's URL local://{path} has no absolute path", "write local:///path/to/socket"
        )
    router = _RouterProtocol(Path(path), Path(path), connect_timeout)
    return BrokerBus(router, max_pending_size=max_pending_size)


def held_bus(path: Path) -> BrokerBus:
    """Make the bus of a router whose socket this process may not be able to reach later."""
    return BrokerBus(_RouterProtocol(path, unix_socket.hold(path), CONNECT_TIMEOUT))


def _owner_for_root(path: Path) -> int | None:
    """Get the user whose router root may use: the owner of the folder of the socket."""
    return path.parent.stat().st_uid if os.geteuid() == 0 else None


class _RouterProtocol:
    """The router at a path; see :class:`~.broker_bus.BrokerProtocol`."""

    def __init__(self, path: Path, reach: Path, connect_timeout: float) -> None:
        self._path = path
        self._reach = reach
        self._connect_timeout = connect_timeout

    @property
    def url(self) -> str:
        return f"local://{self._path}"

    async def dial(self) -> BrokerConnection:
        try:
            async with asyncio.timeout(self._connect_timeout):
                return await self._dial()
        except OSError as error:
            raise BusError(self.url, self._reason(error)) from None

    def history(self, bus: BrokerBus) -> "FollowingHistory":
        from .router_history import RouterHistory

        return RouterHistory(bus)

    async def _dial(self) -> BrokerConnection:
        sock = await unix_socket.connect(self._reach)
        uid = peer_of(sock).uid
        if uid not in {None, 0, os.geteuid(), _owner_for_root(self._path)}:
            sock.close()
            raise BusError(self.url, f"its router belongs to another user (uid {uid})")
        connection = BrokerConnection(RouterWire())
        await asyncio.get_running_loop().create_unix_connection(lambda: connection, sock=sock)
        try:
            await self._greet(connection)
        except BaseException:
            connection.abort()
            raise
        connection.max_payload_size = MAX_PAYLOAD_SIZE
        return connection

    async def _greet(self, connection: BrokerConnection) -> None:
        match await connection.next_event():
            case BrokerHello({"speaks": speaks}) if HELLO.endswith(speaks.encode()):
                return
            case BrokerHello({"speaks": speaks}) if speaks.startswith("gateman-bus"):
                problem = "its router is of another version of gateman: restart the service"
            case None:
                problem = "its router has refused us"
            case _:
                problem = "what listens there is not a gateman router"
        raise BusError(self.url, problem)

    def _reason(self, error: OSError) -> str:
        match error:
            case TimeoutError():
                return f"its router does not answer within {self._connect_timeout:g} seconds"
            case FileNotFoundError():
                return "the socket does not exist: is the service running?"
            case ConnectionRefusedError():
                return "nothing listens there: is the service running?"
            case PermissionError():
                return "this user may not connect to it"
            case _:
                return (error.strerror or str(error)).lower()
