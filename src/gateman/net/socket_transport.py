"""
An asyncio transport for a connection without TLS.

aiofastnet's transport holds 5.8 KiB for each socket, and asyncio's 1.2; this one holds a quarter of
a KiB (bench/README.md), and is as fast (bench/echo.py). It calls ``connection_made`` when it is
made, ``pause_writing`` for any byte that the kernel does not take, and ``resume_writing`` when
nothing is left.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Any

# As aiofastnet: what is read of one connection before the others have their turn.
_MAX_READ_SIZE = 256 << 10  # bytes

# The kernel's UIO_MAXIOV is 1024; enough for a header and a message, many times.
_MAX_PARTS = 64


class SocketTransport(asyncio.Transport):
    __slots__ = (
        "_backlog",
        "_ends",
        "_fd",
        "_is_closing",
        "_is_over",
        "_is_reading",
        "_loop",
        "_peername",
        "_protocol",
        "_sock",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        peername: Any,
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._fd = sock.fileno()
        self._peername = peername
        # What the kernel did not take.
        self._backlog: list[memoryview] = []
        self._is_closing = self._is_over = self._ends = False
        self._is_reading = True
        self._protocol: Any = protocol
        # By its number: asyncio looks for it first, and writes down whatever it does not find.
        loop.add_reader(self._fd, self._read)
        protocol.connection_made(self)

    # Reading.

    def _read(self) -> None:
        protocol = self._protocol
        try:
            buffer = protocol.get_buffer(-1)
            try:
                size = self._sock.recv_into(buffer)
            except (BlockingIOError, InterruptedError):
                return
            if size:
                protocol.buffer_updated(size)
                if size == len(buffer):
                    self._read_on(size)
            else:
                self._end_reading()
        except Exception as error:  # noqa: BLE001 - it ends this connection and no other
            self._fail(error)

    def _read_on(self, total: int) -> None:
        """Read what did not fit into the buffer."""
        while self._is_reading and total < _MAX_READ_SIZE:
            buffer = self._protocol.get_buffer(-1)
            try:
                size = self._sock.recv_into(buffer)
            except (BlockingIOError, InterruptedError):
                return
            if not size:
                self._end_reading()
                return
            self._protocol.buffer_updated(size)
            if size < len(buffer):
                return
            total += size

    def _end_reading(self) -> None:
        if self._protocol.eof_received():
            self.pause_reading()
        else:
            self.close()

    def pause_reading(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._fd)

    def resume_reading(self) -> None:
        if not self._is_reading and not self._is_closing:
            self._is_reading = True
            self._loop.add_reader(self._fd, self._read)

    def is_reading(self) -> bool:
        return self._is_reading

    # Writing.

    def write(self, data: Any) -> None:
        if self._backlog:
            self._keep((data,), 0)
        elif not self._is_over:
            try:
                sent = self._sock.send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                self._fail(error)
                return
            if sent < len(data):
                self._keep((data,), sent)

    def writelines(self, parts: Sequence[Any]) -> None:  # type: ignore[override] # read twice
        if self._backlog:
            self._keep(parts, 0)
        elif not self._is_over:
            try:
                sent = self._sock.sendmsg(parts)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                self._fail(error)
                return
            if sent < sum(map(len, parts)):
                self._keep(parts, sent)

    def _keep(self, parts: Sequence[Any], sent: int) -> None:
        """Keep what the kernel did not take; bytes cannot change, so that they are not copied."""
        backlog = self._backlog
        is_first = not backlog
        for part in parts:
            size = len(part)
            if sent < size:
                kept = part if isinstance(part, bytes) else bytes(part)
                backlog.append(memoryview(kept)[sent:])
                sent = 0
            else:
                sent -= size
        if is_first and backlog:
            self._loop.add_writer(self._fd, self._write_backlog)
            self._protocol.pause_writing()

    def _write_backlog(self) -> None:
        backlog = self._backlog
        if not backlog:
            return
        try:
            sent = self._sock.sendmsg(backlog[:_MAX_PARTS])
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._fail(error)
            return
        count = 0
        while count < len(backlog) and sent >= len(backlog[count]):
            sent -= len(backlog[count])
            count += 1
        del backlog[:count]
        if backlog:
            backlog[0] = backlog[0][sent:]
            return
        self._loop.remove_writer(self._fd)
        if self._ends:
            self._shut_down()
        if self._is_closing:
            self._finish(None)
        else:
            self._protocol.resume_writing()

    @property
    def send_now(self) -> Callable[[Any], int]:
        """The socket's ``send``, for when nothing waits; :meth:`write` takes what it does not."""
        return self._sock.send

    @property
    def count_unsent(self) -> Callable[[], int]:
        """Counts the parts that wait; in C, as picows calls it for each frame."""
        return self._backlog.__len__

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self._backlog))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Ignore it: any byte that waits is above the limit."""

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._ends:
            self._ends = True
            if not self._backlog:
                self._shut_down()

    def _shut_down(self) -> None:
        # If the peer has reset the connection, the next read reports it.
        try:  # noqa: SIM105 - `suppress` costs three calls
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    # The end.

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if not self._is_closing:
            self.pause_reading()
            self._is_closing = True
            if not self._backlog:
                self._finish(None)

    def abort(self) -> None:
        self._finish(None)

    def _fail(self, error: Exception) -> None:
        if not isinstance(error, OSError):
            message = "reading from a connection failed"
            self._loop.call_exception_handler(
                {"message": message, "exception": error, "transport": self}
            )
        self._finish(error)

    def _finish(self, error: Exception | None) -> None:
        if self._is_over:
            return
        if self._backlog:
            self._loop.remove_writer(self._fd)
            self._backlog.clear()
        self.pause_reading()
        self._is_closing = self._is_over = True
        self._loop.call_soon(self._lose, error)

    def _lose(self, error: Exception | None) -> None:
        protocol, self._protocol = self._protocol, None
        try:
            protocol.connection_lost(error)
        finally:
            self._sock.close()

    # What is known.

    def get_protocol(self) -> Any:
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "socket":
            return self._sock
        if name == "peername":
            return self._peername
        if name == "sockname":
            return self._sock.getsockname()
        return default
