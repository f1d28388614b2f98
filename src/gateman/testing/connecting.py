"""Serves workers for a test, and connects clients to them."""

import asyncio
import contextlib
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from websockets.asyncio.client import connect as open_client
from websockets.exceptions import InvalidStatus

from ..cluster.hub import hub
from ..cluster.membership import ConnectionMembership
from ..config.worker import Worker, settings_of
from ..errors import ConfigError
from ..http.client_address import UNIX, TrustedProxies
from ..listen import ListenAddress
from ..net import sockets as listening
from ..runtime.timer import add_timers, timers
from ..runtime.worker_service import WorkerService
from .client import DEFAULT_TIMEOUT, Client, Refused
from .errors import Collected

_GOING_AWAY = (1001, "the test is done")

Headers = Mapping[str, str] | Sequence[tuple[str, str]]


@asynccontextmanager
async def connect(
    worker: Worker,
    path: str = "/",
    *,
    headers: Headers = (),
    origin: str | None = None,
    subprotocols: Sequence[str] = (),
    remote_ip: str = "127.0.0.1",
    timeout: float = DEFAULT_TIMEOUT,  # noqa: ASYNC109 - of each receive
) -> AsyncIterator[Client]:
    """
    Connect a client to a worker, which is served meanwhile.

    The first client starts the hub, the timers and the worker (``on_worker_start``). Clients that
    connect while it is there share them, also clients of other workers. The end of the last
    client ends all of it (``on_close``, ``on_worker_stop``).

    Args:
        worker: What the client connects to, with its callbacks, options and limits. Its ``listen``
            and its certificates are not used: no port is opened, and there is no TLS.
        path: The request target, with its query.
        headers: More header fields of the handshake, such as cookies.
        origin: The ``Origin`` field, as browsers send it.
        subprotocols: Offered, in order of preference.
        remote_ip: The client's address, IPv4 or IPv6.
        timeout: Seconds that :meth:`Client.receive` waits.

    Raises:
        AssertionError: The worker refused the handshake; or a callback raised an error while the
            body ran that was not :func:`.expected`.
        ConfigError: An option of the worker cannot work.
    """
    async with _served(worker) as address:
        try:
            connection = await _open(
                address,
                path,
                remote_ip=remote_ip,
                additional_headers=headers,
                origin=origin,
                subprotocols=subprotocols or None,
            )
        except InvalidStatus as error:
            seen = _refusal(error)
            raise AssertionError(
                f"{worker.name} refused {path} with {seen.status}: {seen.text.strip()}"
            ) from None
        client = Client(connection, timeout)
        try:
            yield client
        finally:
            await client.close()


async def refused(
    worker: Worker,
    path: str = "/",
    *,
    headers: Headers = (),
    origin: str | None = None,
    subprotocols: Sequence[str] = (),
    remote_ip: str = "127.0.0.1",
) -> Refused:
    """
    Connect a client that the worker is to refuse, and return the answer.

    The arguments are those of :func:`connect`.

    Raises:
        AssertionError: The worker accepted it.
    """
    async with _served(worker) as address:
        try:
            connection = await _open(
                address,
                path,
                remote_ip=remote_ip,
                additional_headers=headers,
                origin=origin,
                subprotocols=subprotocols or None,
            )
        except InvalidStatus as error:
            return _refusal(error)
        await connection.close()
        raise AssertionError(f"{worker.name} accepted {path}, and was expected to refuse it")


class _Environment:
    """The hub, the timers and the workers that serve on one event loop."""

    def __init__(self) -> None:
        self.users = 0
        self._addresses: dict[Worker, Path] = {}
        self._services: list[WorkerService] = []
        self._exits = AsyncExitStack()
        self._folder = Path()

    async def start(self) -> None:
        await hub.start(None)
        self._exits.push_async_callback(hub.stop)
        self._folder = Path(self._exits.enter_context(tempfile.TemporaryDirectory()))
        self._exits.push_async_callback(self._stop_services)
        self._exits.push_async_callback(timers.stop)
        timers.start()

    async def serve(self, worker: Worker) -> Path:
        """Serve a worker, unless it is served already, and return the path of its socket."""
        if worker in self._addresses:
            return self._addresses[worker]
        number = len(self._services)
        path = self._folder / f"{number}.sock"
        settings = settings_of(worker, now=time.time())
        proxies = worker.trusted_proxies
        settings = replace(
            settings,
            contexts=None,
            requires_proxy=True,
            trusted_proxies=(
                settings.trusted_proxies if proxies is None else TrustedProxies([*proxies, UNIX])
            ),
        )
        add_timers(worker.schedule)
        service = WorkerService(settings, worker.callbacks, worker, worker.connections)
        sockets = listening.bind(ListenAddress.parse(f"websocket+unix://{path}"))
        self._exits.callback(listening.release, sockets)
        await service.start(sockets, ConnectionMembership(hub.local_node, number))
        self._services.append(service)
        self._addresses[worker] = path
        return path

    async def _stop_services(self) -> None:
        await asyncio.gather(*(service.stop(*_GOING_AWAY) for service in self._services))

    async def stop(self) -> None:
        await self._exits.aclose()


_environments: dict[asyncio.AbstractEventLoop, _Environment] = {}


@asynccontextmanager
async def _served(worker: Worker) -> AsyncIterator[Path]:
    if type(worker) is not Worker:
        raise ConfigError(
            f"{worker!r} is not a Worker",
            "give the worker that the client connects to; gateways need processes of their own",
        )
    loop = asyncio.get_running_loop()
    environment = _environments.get(loop)
    if environment is None:
        environment = _environments[loop] = _Environment()
        await environment.start()
    environment.users += 1
    with Collected() if environment.users == 1 else contextlib.nullcontext():
        try:
            yield await environment.serve(worker)
        finally:
            environment.users -= 1
            if not environment.users:
                del _environments[loop]
                await environment.stop()


async def _open(address: Path, path: str, *, remote_ip: str, **how: Any) -> Any:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, str(address))
    ip = ip_address(remote_ip)
    local = "127.0.0.1" if ip.version == 4 else "::1"
    # The PROXY protocol, version 1: the only way to say who connects to a Unix socket.
    await loop.sock_sendall(sock, f"PROXY TCP{ip.version} {ip} {local} 50000 80\r\n".encode())
    return await open_client(
        f"ws://testserver{path}",
        sock=sock,
        **how,
        user_agent_header=None,
        # The clock may be moved: nothing here may depend on it.
        open_timeout=None,
        ping_interval=None,
        max_size=None,
    )


def _refusal(error: InvalidStatus) -> Refused:
    answer = error.response
    return Refused(
        answer.status_code, dict(answer.headers.raw_items()), (answer.body or b"").decode()
    )
