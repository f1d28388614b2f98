"""
A server to test: a declared worker in this process, or a script in a child process.

In this process it runs on the loop of the test, through what ``Worker.run_all`` uses too, and a
log line at ERROR that no test took note of fails the test.
"""

import asyncio
import atexit
import functools
import logging
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect as connect_client

from gateman import Connection, Request, Worker
from gateman.bus import Bus
from gateman.cluster.hub import Hub
from gateman.cluster.node_channels import NOTHING_KEPT, Kept
from gateman.config.callbacks import SIGNATURES
from gateman.listen import ListenAddress
from gateman.net import sockets
from gateman.runtime.measurements import Measurements
from gateman.runtime.process import serving
from gateman.runtime.service_maker import service_maker
from gateman.runtime.worker_service import WorkerService

from . import forks
from .certificates import Authority, Issued
from .deadlines import TIMEOUT
from .raw import ACCEPT, RawClient, Response, handshake

TIMEOUTS = {"handshake": 20.0, "ping_interval": None, "close": 2.0, "shutdown": 3.0}
"""Short, so that a test that waits for one in vain fails soon; no pings that nobody expects."""


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")
"""For tests of what containers without IPv6 cannot do."""


@functools.cache
def authority() -> Authority:
    """Give the authority of this run's certificates."""
    return Authority()


@functools.cache
def certificate() -> Issued:
    """Give a certificate for localhost."""
    folder = Path(tempfile.mkdtemp(prefix="gateman-"))
    atexit.register(shutil.rmtree, folder)
    return authority().issue(folder)


def ssl_options(**more: object) -> dict[str, object]:
    """Give the ``ssl`` options of a server, and more of them."""
    issued = certificate()
    return {"local_cert": str(issued.certificate), "local_pk": str(issued.key), **more}


class Journal:
    """
    Every callback, noted in the order in which they came.

    Attributes:
        entries: The name of each, and what it got beside the connection.
        connections: The connections, in the order of their ``on_connect``.
    """

    def __init__(self) -> None:
        self.entries: list[tuple[object, ...]] = []
        self.connections: list[Connection] = []
        self._noted = asyncio.Event()

    def note(self, *entry: object) -> None:
        """Note anything."""
        self.entries.append(entry)
        self._noted.set()
        self._noted = asyncio.Event()

    async def until(self, *entry: object, count: int = 1) -> None:
        """
        Wait for an entry.

        Args:
            entry: It, or its beginning.
            count: How many times it is to be there.
        """
        size = len(entry)
        try:
            async with asyncio.timeout(TIMEOUT):
                while sum(noted[:size] == entry for noted in self.entries) < count:
                    await self._noted.wait()
        except TimeoutError:
            raise AssertionError(f"{entry} did not happen: {self.entries}") from None

    def of(self, name: str) -> list[tuple[object, ...]]:
        """Give what was noted under one name."""
        return [entry[1:] for entry in self.entries if entry[0] == name]

    def callbacks(self, **own: Callable[..., Any]) -> dict[str, Any]:
        """
        Give a callback for every name that is about connections.

        Args:
            own: Callbacks that are in place of those that only take note.

        Returns:
            The callbacks by name.
        """

        def noting(name: str) -> Callable[..., None]:
            def take_note(connection: Connection, *args: object) -> None:
                if name == "on_connect":
                    self.connections.append(connection)
                self.note(name, *(_plain(arg) for arg in args))

            return take_note

        names = [name for name, arguments in SIGNATURES.items() if arguments[0] == "connection"]
        callbacks: dict[str, Any] = {name: noting(name) for name in names}
        callbacks["on_close"] = lambda _, code, reason: self.note("on_close", code, reason)
        return {**callbacks, **own}


def _plain(arg: object) -> object:
    """Turn what a callback got into what a test can write down."""
    if isinstance(arg, Request):
        return arg.path
    return f"{type(arg).__name__}: {arg}" if isinstance(arg, Exception) else arg


class _Log(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        line = record.getMessage()
        self.lines.append((record.levelno, line + (f" <- {error!r}" if error else "")))
        # pytest keeps records; what they refer to is to end when it would without them.
        record.msg, record.args = line, None
        if record.exc_info:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
            record.exc_info = None


class Server:
    """
    A worker that is served in this process.

    Attributes:
        worker: What was declared.
        service: The worker at work.
        address: Host and port, or a unix socket's path.
    """

    def __init__(
        self, worker: Worker, service: WorkerService, address: tuple[str, int] | Path, log: _Log
    ) -> None:
        self.worker = worker
        self.service = service
        self.address = address
        self._log = log
        self.closing = AsyncExitStack()

    @property
    def tls(self) -> ssl.SSLContext | None:
        """What a client needs to connect; ``None`` without TLS."""
        return authority().trusting_client() if self.worker.transport == "ssl" else None

    @property
    def port(self) -> int:
        """Where it listens."""
        assert not isinstance(self.address, Path)
        return self.address[1]

    @property
    def url(self) -> str:
        """The address for a client."""
        return f"{'wss' if self.tls else 'ws'}://localhost:{self.port}/"

    async def connect(self, *, tls: bool = True, receive_buffer: int | None = None) -> RawClient:
        """
        Connect a client that does as it is told, and end it with the server.

        Args:
            tls: ``False`` for no TLS on a TLS port.
            receive_buffer: What the kernel may keep unread for it, in bytes.

        Returns:
            The client: TCP is up, and TLS.
        """
        client = await RawClient.connect(
            self.address, tls=self.tls if tls else None, receive_buffer=receive_buffer
        )
        self.closing.push_async_callback(client.close)
        return client

    async def open(
        self, path: str = "/", headers: tuple[str, ...] = (), *, receive_buffer: int | None = None
    ) -> RawClient:
        """
        Connect such a client, and do the handshake.

        Args:
            path: The request target.
            headers: More lines.
            receive_buffer: What the kernel may keep unread for it, in bytes.

        Returns:
            The client: the 101 is read.
        """
        client = await self.connect(receive_buffer=receive_buffer)
        await client.send(handshake(path, headers))
        answer = await client.read_head()
        assert (answer.status, answer.headers["sec-websocket-accept"]) == (101, ACCEPT)
        return client

    async def ask(self, head: bytes, *, method: str = "GET") -> Response:
        """
        Send a request to a connection of its own, and read the answer and the end behind it.

        Args:
            head: The request.
            method: Its method.

        Returns:
            The answer.
        """
        client = await self.connect()
        await client.send(head)
        return await client.read_response(method=method)

    def client(self, path: str = "", **options: Any) -> connect_client:
        """Connect a well-behaved client: ``async with server.client() as client``."""
        return connect_client(self.url + path, ssl=self.tls, host="127.0.0.1", **options)

    def lines(self, level: int = logging.WARNING) -> list[str]:
        """
        Take what was logged.

        Args:
            level: From which level on.

        Returns:
            The lines, with what a traceback ends in; they are not given again.
        """
        taken = [line for found, line in self._log.lines if found >= level]
        self._log.lines.clear()
        return taken


@asynccontextmanager
async def serve(
    listen: str | None = None,
    context: Mapping[str, Mapping[str, object]] | None = None,
    *,
    secure: bool = False,
    timeouts: Mapping[str, float | None] | None = None,
    bus: Bus | None = None,
    hub: Hub | None = None,
    errors: Sequence[str] = (),
    measurements: Measurements | None = None,
    **declared: Any,
) -> AsyncIterator[Server]:
    """
    Declare a worker and serve it while the block runs.

    Args:
        listen: The address; ``None`` for a free port on loopback.
        context: As for a worker; by default one with a certificate, where that is needed.
        secure: Whether it does TLS.
        timeouts: In place of the short ones that tests have.
        bus: What connects its hub with others.
        hub: Its hub; ``None`` for one of its own, since a test may have several servers.
        errors: What is logged at ERROR by its end, and was not taken before.
        measurements: What it measures, as a service that shows metrics does.
        declared: Callbacks and options of the worker.

    Yields:
        The server; behind the block it has stopped.
    """
    if secure and context is None:
        context = {"ssl": ssl_options()}
    options = {name: value for name, value in declared.items() if name not in SIGNATURES}
    worker = Worker(
        listen or "websocket://127.0.0.1:0",
        context,
        transport="ssl" if secure else None,
        timeouts={**TIMEOUTS, **(timeouts or {})},
        **options,
    )
    for name in SIGNATURES:
        if name in declared:
            setattr(worker, name, declared[name])
    make = service_maker(worker, now=time.time(), measurements=measurements)
    async with serve_made(worker, make, bus=bus, hub=hub, errors=errors) as server:
        yield server


@asynccontextmanager
async def serve_made(
    worker: Worker,
    make: Callable[[], WorkerService],
    *,
    bus: Bus | None = None,
    hub: Hub | None = None,
    errors: Sequence[str] = (),
    kept: Kept = NOTHING_KEPT,
) -> AsyncIterator[Server]:
    """
    Serve what was declared while the block runs.

    Args:
        worker: It.
        make: Makes its service.
        bus: As for :func:`serve`; the others, too.
        hub: Its hub.
        errors: What is logged.
        kept: What its hub keeps of channels.

    Yields:
        The server; behind the block it has stopped.
    """
    bound = sockets.bind(ListenAddress.parse(worker.listen))
    log = _Log()
    logger = logging.getLogger("gateman")
    logger.addHandler(log)
    logger.setLevel(logging.INFO)
    try:
        async with serving([bound], [make], bus=bus, hub=hub or Hub(), kept=kept) as [service]:
            name = bound[0].getsockname()
            address = (_loopback(name[0]), name[1]) if isinstance(name, tuple) else Path(name)
            server = Server(worker, service, address, log)
            async with server.closing:
                yield server
    finally:
        sockets.release(bound)
        logger.removeHandler(log)
        logger.setLevel(logging.NOTSET)
    assert server.lines(logging.ERROR) == list(errors)


def _loopback(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


class Child:
    """
    A script in a process of its own.

    Attributes:
        port: The port of the first address that it listens on; 0 if it is none.
    """

    def __init__(self, process: "subprocess.Popen[str] | forks.ForkedProcess") -> None:
        self._process = process
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()
        self.port = 0

    def _collect(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with self._changed:
                self._lines.append(line.rstrip("\n"))
                self._changed.notify_all()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def stderr(self) -> str:
        """What it has written to standard error."""
        with self._changed:
            return "\n".join(self._lines)

    def wait_for(self, text: str) -> str:
        """
        Wait until it has written something to standard error.

        Args:
            text: A part of the line.

        Returns:
            The line.
        """

        def found() -> str | None:
            return next((line for line in self._lines if text in line), None)

        with self._changed:
            line = self._changed.wait_for(found, TIMEOUT)
        assert line, f"{text!r} is not in what it wrote:\n{self.stderr}"
        return line

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end; gives the exit code."""
        code = self._process.wait(TIMEOUT)
        self._thread.join(TIMEOUT)
        return code

    def end(self) -> None:
        """End it in any case, and what it has started with it."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()


@contextmanager
def shown_on_failure(running: Child) -> Iterator[None]:
    """Add what a process wrote to an exception of the block: an exit code alone tells nothing."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"the process {running.pid} wrote:\n{running.stderr}")
        raise


@contextmanager
def child(script: str, folder: Path, *, listens: bool = True) -> Iterator[Child]:
    """
    Run a script while the block runs.

    Args:
        script: The program.
        folder: Where it is written, and run.
        listens: Whether to wait until it listens.

    Yields:
        The process.
    """
    path = folder / "server.py"
    path.write_text(script)
    variables = {**os.environ, "PYTHONWARNINGS": "default"}
    running = Child(forks.start_script([str(path)], folder, variables))
    try:
        if listens:
            line = running.wait_for("listens on")
            port = line.rpartition(":")[2]
            running.port = int(port) if port.isdigit() else 0
        with shown_on_failure(running):
            yield running
    finally:
        running.end()
