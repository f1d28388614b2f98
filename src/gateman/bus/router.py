"""
The router: one process that the processes of a machine connect to, and that forwards messages.

    python -m gateman.bus.router /path/to/socket
    python -m gateman.bus.router --fd 3 --patience 17

It serves only processes of the same user, of root, and of users given with ``--as``. It stores
subscriptions, and the history of channels that have one. A process that reads too slowly loses
messages, and is told how many; the others are not affected.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ..errors import ConfigError, ExitCode
from ..log import RateLimitedLogger, logger
from ..net.socket_files import peer_of
from . import unix_socket
from .base import MAX_PENDING_SIZE
from .router_wire import (
    ADD_LISTENER,
    HEAD,
    HEAD_SIZE,
    HELLO,
    HISTORY_REPORT,
    MAX_FRAME_SIZE,
    NUMBER,
    REPORT,
    FrameKind,
    Frames,
    HistoryReport,
    dropped,
    frame,
)

if TYPE_CHECKING:
    from .router_store import RouterStore

_PONG = frame(FrameKind.PONG)

# Signals that a terminal or a service manager sends to the whole process group. The router of a
# master that is stopping runs until its processes have ended: they still send messages.
_PARENT_SIGNALS = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


async def route(
    listener: socket.socket,
    *,
    uids: Collection[int] = (),
    max_pending_size: int = MAX_PENDING_SIZE,
    history_file: Path | None = None,
) -> None:
    router = _Router(max_pending_size, {0, os.geteuid(), *uids}, history_file)
    try:
        await _serve(router, listener)
    finally:
        router.close()


async def _serve(router: "_Router", listener: socket.socket) -> None:
    # Not create_unix_server, which would remove the path of the socket.
    server = await asyncio.get_running_loop().create_server(
        lambda: _RouterClient(router), sock=listener
    )
    try:
        # Not serve_forever: since Python 3.12 it ends only when all clients have hung up.
        await asyncio.get_running_loop().create_future()
    finally:
        server.close()


class _Router:
    """The clients and their subscriptions."""

    def __init__(
        self,
        max_pending_size: int,
        uids: Collection[int],
        history_file: Path | None = None,
        history_memory: int | None = None,
    ) -> None:
        self.max_pending_size = max_pending_size
        self.uids = uids
        self.clients: set[_RouterClient] = set()
        self.no_clients = asyncio.Event()
        self.no_clients.set()
        # Tuples: they are small, and read far more often than they are changed.
        self.interest: dict[bytes, tuple[_RouterClient, ...]] = {}
        # Clients with data to be written at the end of the turn.
        self.due: set[_RouterClient] = set()
        self.rate_limited = RateLimitedLogger()
        self._history_memory = history_memory
        self._history: RouterStore | None = None
        if history_file is not None:
            self._history = self._open_history(history_file)

    @property
    def history(self) -> "RouterStore":
        """The history of the channels, which is made when it is first used."""
        if self._history is None:
            self._history = self._open_history(None)
        return self._history

    def report(self) -> bytes:
        """Tell how much the history holds, without making one."""
        return HISTORY_REPORT.pack(
            *(HistoryReport() if self._history is None else self._history.report)
        )

    def _open_history(self, file: Path | None) -> "RouterStore":
        # Imported here: most services have no history.
        from .router_store import RouterStore

        return RouterStore(file, max_size=self._history_memory)

    def add(self, subject: bytes, client: "_RouterClient") -> None:
        if subject not in client.subjects:
            client.subjects.add(subject)
            self.interest[subject] = (*self.interest.get(subject, ()), client)

    def remove(self, subject: bytes, client: "_RouterClient") -> None:
        if subject not in client.subjects:
            return
        client.subjects.remove(subject)
        left = tuple(one for one in self.interest[subject] if one is not client)
        if left:
            self.interest[subject] = left
        else:
            del self.interest[subject]

    def forget(self, client: "_RouterClient") -> None:
        for subject in tuple(client.subjects):
            self.remove(subject, client)
        self.clients.discard(client)
        if not self.clients:
            self.no_clients.set()
        self.due.discard(client)

    def flush(self) -> None:
        for client in self.due:
            client.flush()
        self.due.clear()

    def close(self) -> None:
        for client in tuple(self.clients):
            client.transport.abort()
        if self._history is not None:
            self._history.close()


class _RouterClient(asyncio.Protocol):
    """The connection of one process."""

    transport: asyncio.Transport

    def __init__(self, router: _Router) -> None:
        self.subjects: set[bytes] = set()
        self._router = router
        self._frames = Frames()
        self._out: list[bytes] = []
        # Bytes in ``_out``, and in the transport at the last flush.
        self._pending_size = 0
        self._dropped = 0
        self._dropped_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        uid = peer_of(transport.get_extra_info("socket")).uid
        if uid is not None and uid not in self._router.uids:
            self._disconnect(f"a process of another user (uid {uid})")
            return
        half = self._router.max_pending_size // 2
        self.transport.set_write_buffer_limits(half)
        self._router.clients.add(self)
        self._router.no_clients.clear()
        self.transport.write(HELLO)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._router.forget(self)

    def data_received(self, data: bytes) -> None:
        router, interest = self._router, self._router.interest
        if self.transport.is_closing():
            return
        data = self._frames.feed(data)
        start, end = 0, len(data)
        while end - start >= HEAD_SIZE:
            kind, subject_size, payload_size = HEAD.unpack_from(data, start)
            if subject_size + payload_size > MAX_FRAME_SIZE:
                self._disconnect("a process that sends an invalid frame")
                return
            middle = start + HEAD_SIZE + subject_size
            stop = middle + payload_size
            if stop > end:
                break
            subject = data[start + HEAD_SIZE : middle]
            if kind == FrameKind.MESSAGE:
                interested = interest.get(subject)
                if interested is not None:
                    message = data[start:stop]
                    for client in interested:
                        if client is not self:
                            client.put(message)
            elif not self._on_control(kind, subject, data[middle:stop]):
                self._disconnect("a process that sends an invalid frame")
                return
            start = stop
        self._frames.keep(data, start)
        router.flush()

    def _on_control(self, kind: int, subject: bytes, payload: bytes) -> bool:
        match kind:
            case FrameKind.SUBSCRIBE:
                self._router.add(subject, self)
            case FrameKind.UNSUBSCRIBE:
                self._router.remove(subject, self)
            case FrameKind.PING:
                self._send_control(_PONG)
            case FrameKind.HISTORY:
                return self._on_history(subject, payload)
            case FrameKind.QUERY:
                interested = self._router.interest.get(subject, ())
                if all(client is self for client in interested):
                    self._send_control(frame(FrameKind.NO_SUBSCRIBERS, payload=payload))
            case _:
                return False
        return True

    def _on_history(self, subject: bytes, payload: bytes) -> bool:
        router = self._router
        try:
            reply, live = router.history.answer(str(subject, "ascii"), payload[NUMBER.size :])
        except ValueError:
            return False
        self._send_control(frame(FrameKind.HISTORY_REPLY, payload=payload[: NUMBER.size] + reply))
        if live:
            message = frame(FrameKind.MESSAGE, subject, live)
            for client in router.interest.get(subject, ()):
                client.put(message)
        return True

    def resume_writing(self) -> None:
        self.flush()

    def put(self, message: bytes) -> None:
        """Queue a message, or drop it if too much is pending."""
        size = self._pending_size + len(message)
        if self._dropped or size > self._router.max_pending_size:
            # Until half is read: one gap of many messages, and not many gaps of one.
            self._dropped_since = self._dropped_since or time.time()
            self._dropped += 1
            self._router.due.add(self)
            return
        self._out.append(message)
        self._pending_size = size
        self._router.due.add(self)

    def flush(self) -> None:
        """Write what is pending."""
        if self.transport.is_closing():
            return
        if self._out:
            self.transport.write(b"".join(self._out))
            self._out.clear()
        self._pending_size = self.transport.get_write_buffer_size()
        if self._dropped and self._pending_size <= self._router.max_pending_size // 2:
            self.transport.write(dropped(self._dropped, self._dropped_since))
            self._dropped, self._dropped_since = 0, 0.0

    def _send_control(self, data: bytes) -> None:
        # Control frames are not dropped, so a client that pings and never reads is disconnected.
        self._out.append(data)
        self._pending_size += len(data)
        self._router.due.add(self)
        if self._pending_size > 2 * self._router.max_pending_size:
            self._disconnect("a process that does not read")

    def _disconnect(self, whom: str) -> None:
        now = asyncio.get_running_loop().time()
        self._router.rate_limited.warning(whom.partition("(")[0], f"the router refused {whom}", now)
        self.transport.abort()


async def _serve_until_signal(listener: socket.socket, history_file: Path | None) -> None:
    """Serve until a signal arrives."""
    loop = asyncio.get_running_loop()
    serving = loop.create_task(route(listener, history_file=history_file))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, serving.cancel)
    await asyncio.wait([serving])


async def _serve_for_parent(
    listeners: Sequence[socket.socket], uids: Collection[int], options: argparse.Namespace
) -> None:
    """Serve until the parent says stop; if the parent dies, until its processes have ended."""
    loop = asyncio.get_running_loop()
    router = _Router(
        MAX_PENDING_SIZE, {0, os.geteuid(), *uids}, options.history, options.history_memory
    )
    serving = {loop.create_task(_serve(router, listener)) for listener in listeners}
    with socket.socket(fileno=os.dup(0)) as parent:
        parent.settimeout(0)
        while True:
            command, fds = await _next_command(loop, parent)
            if command == REPORT:
                # A parent that does not read gets no further ones.
                with contextlib.suppress(OSError):
                    parent.send(router.report())
                continue
            if command != ADD_LISTENER:
                break
            serving |= {loop.create_task(_serve(router, _listener(fd))) for fd in fds}
    if not command:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(options.patience):
                await router.no_clients.wait()
    for task in serving:
        task.cancel()
    await asyncio.wait(serving)
    router.close()


async def _next_command(
    loop: asyncio.AbstractEventLoop, parent: socket.socket
) -> tuple[bytes, list[int]]:
    """Wait for a command of the parent, with descriptors; an empty one means that it has ended."""
    said = asyncio.Event()
    loop.add_reader(parent, said.set)
    await said.wait()
    loop.remove_reader(parent)
    try:
        command, fds, _, _ = socket.recv_fds(parent, 1, 1)
    except OSError:
        return b"", []
    return command, fds


def _listener(fd: int) -> socket.socket:
    listener = socket.socket(fileno=fd)
    listener.settimeout(0)
    return listener


def _identity(text: str) -> tuple[int, int]:
    uid, _, gid = text.partition(":")
    return int(uid), int(gid)


def _switch_user(uid: int, gid: int) -> None:
    # The router needs no supplementary group.
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m gateman.bus.router")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("path", nargs="?", type=Path, help="the socket to make")
    where.add_argument(
        "--fd",
        dest="fds",
        type=int,
        action="append",
        help="a listening unix socket, inherited from a parent; may be given again. Signals are"
        " then the parent's business, and standard input is a socket by which it ends the router,"
        " or hands it another listening socket",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="with --fd: how long it outlives a parent that was killed, while it has clients",
    )
    parser.add_argument(
        "--as",
        dest="identities",
        type=_identity,
        action="append",
        default=[],
        metavar="UID:GID",
        help="the user to switch to, if root starts it; given again, another user to serve",
    )
    parser.add_argument(
        "--history",
        type=Path,
        metavar="FILE",
        help="keep the history of channels in this file, too",
    )
    parser.add_argument(
        "--history-memory",
        type=int,
        metavar="BYTES",
        help="the memory for the history of all channels",
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(asctime)s pid:%(process)d %(levelname)s %(message)s")
    if options.fds:
        for number in _PARENT_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        listeners = [_listener(fd) for fd in options.fds]
        if options.identities:
            # What is imported when it is needed has to be there already.
            from ..history import sqlite_file  # noqa: F401
            from . import router_store  # noqa: F401

            # Only now: the interpreter and this package may be in a folder that only root can read.
            _switch_user(*options.identities[0])
        uids = {uid for uid, _ in options.identities}
        asyncio.run(_serve_for_parent(listeners, uids, options))
        return ExitCode.STOPPED
    try:
        listener = unix_socket.listen(options.path)
    except ConfigError as error:
        logger.error("%s", error)
        return error.exit_code
    asyncio.run(_serve_until_signal(listener, options.history))
    options.path.unlink(missing_ok=True)
    return ExitCode.STOPPED


if __name__ == "__main__":
    raise SystemExit(main())
