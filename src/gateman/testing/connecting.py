"""Connects clients to what a test serves."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_client
from websockets.exceptions import InvalidStatus

from ..config.worker import Worker
from ..errors import ConfigError
from ..gateway.business import BusinessWorker
from ..listen import ListenAddress
from .client import DEFAULT_TIMEOUT, Client, Refused
from .process import Process
from .service import Service, joined

Headers = Mapping[str, str] | Sequence[tuple[str, str]]


@asynccontextmanager
async def connect(
    target: Worker[Any] | Process,
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

    Within :func:`service`, it connects to what runs there. Otherwise the first client starts its
    worker (``on_worker_start``), in one process. Clients that connect while it is there find it,
    and those of other workers share its hub. The end of the last client ends all of it
    (``on_close``, ``on_worker_stop``).

    Args:
        target: The worker, or one process of :func:`service`; clients of a worker go to its
            processes in turn. Its ``listen`` and its certificates are not used: no port is
            opened, and there is no TLS.
        path: The request target, with its query.
        headers: More header fields of the handshake, such as cookies.
        origin: The ``Origin`` field, as browsers send it.
        subprotocols: Offered, in order of preference.
        remote_ip: The client's address, IPv4 or IPv6.
        timeout: Seconds that :meth:`Client.receive` waits.

    Raises:
        AssertionError: The worker refused the handshake; or a callback raised an error while the
            body ran that was not :func:`.expected`.
        ConfigError: An option of the worker cannot work, or it is not served here.
    """
    async with _process(target) as process:
        opened = await _open(
            process,
            path,
            remote_ip=remote_ip,
            additional_headers=headers,
            origin=origin,
            subprotocols=subprotocols or None,
        )
        if isinstance(opened, Refused):
            raise AssertionError(  # noqa: TRY004 - the test fails, as its author expects
                f"{process.worker.name} refused {path} with {opened.status}: {opened.text.strip()}"
            )
        client = Client(opened, timeout)
        try:
            yield client
        finally:
            await client.close()


async def refused(
    target: Worker[Any] | Process,
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
    async with _process(target) as process:
        opened = await _open(
            process,
            path,
            remote_ip=remote_ip,
            additional_headers=headers,
            origin=origin,
            subprotocols=subprotocols or None,
        )
        if isinstance(opened, Refused):
            return opened
        await opened.close()
        raise AssertionError(
            f"{process.worker.name} accepted {path}, and was expected to refuse it"
        )


@asynccontextmanager
async def open_stream(
    target: Worker[Any] | Process, *, remote_ip: str = "127.0.0.1"
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    r"""
    Connect a client to a worker that listens on ``tcp://``, ``text://`` or ``frame://``.

        async with testing.open_stream(worker) as (reader, writer):
            writer.write(b"hi\n")
            assert await reader.readline() == b"hello\n"

    What is served, and for how long, is as with :func:`connect`.

    Args:
        target: The worker, or one process of :func:`service`.
        remote_ip: The client's address, IPv4 or IPv6.

    Raises:
        AssertionError: A callback raised an error while the body ran that was not
            :func:`.expected`.
        ConfigError: An option of the worker cannot work, or it is not served here.
    """
    async with _process(target) as process:
        sock = await _socket(process.path, remote_ip)
        reader, writer = await asyncio.open_unix_connection(sock=sock)
        try:
            yield reader, writer
        finally:
            writer.close()


@asynccontextmanager
async def _process(target: Worker[Any] | Process) -> AsyncIterator[Process]:
    async with joined() as served:
        yield await _find(served, target)


async def _find(served: Service, target: Worker[Any] | Process) -> Process:
    if isinstance(target, BusinessWorker):
        raise ConfigError(f"{target.name} has no clients", "connect to the gateway")
    if isinstance(target, Worker):
        return await served.next_process(target)
    if not isinstance(target, Process):
        raise ConfigError(
            f"{target!r} is neither a worker nor a process of one",
            "write testing.connect(worker, '/path')",
        )
    if not target.is_serving:
        raise ConfigError(f"{target!r} takes no clients", "connect to one that serves")
    return target


async def _socket(path: Path, remote_ip: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, str(path))
    ip = ip_address(remote_ip)
    local = "127.0.0.1" if ip.version == 4 else "::1"
    # The PROXY protocol, version 1: the only way to say who connects to a Unix socket.
    await loop.sock_sendall(sock, f"PROXY TCP{ip.version} {ip} {local} 50000 80\r\n".encode())
    return sock


async def _open(
    process: Process, path: str, *, remote_ip: str, **handshake: Any
) -> ClientConnection | Refused:
    worker = process.worker
    if isinstance(worker, Worker):
        listen = ListenAddress.parse(worker.listen)
        if not listen.is_websocket:
            raise ConfigError(
                f"{worker.name} listens on {listen.protocol}://, and connect() is for WebSockets",
                "connect with testing.open_stream(worker)",
            )
    try:
        return await open_client(
            f"ws://testserver{path}",
            sock=await _socket(process.path, remote_ip),
            **handshake,
            user_agent_header=None,
            # The clock may be moved: nothing here may depend on it.
            open_timeout=None,
            ping_interval=None,
            max_size=None,
        )
    except InvalidStatus as error:
        answer = error.response
        body = (answer.body or b"").decode()
        return Refused(answer.status_code, dict(answer.headers.raw_items()), body)
