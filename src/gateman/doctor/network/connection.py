"""Opens one TCP connection of a probe, and says why it does not open."""

import asyncio
import errno
import os
import socket
from contextlib import suppress
from ipaddress import IPv6Address
from typing import Protocol

from .answers import is_complete
from .observations import AnswerSeen, End, Reach

_REACHES = {
    errno.ECONNREFUSED: Reach.REFUSED,
    errno.ETIMEDOUT: Reach.DROPPED,
    errno.EHOSTUNREACH: Reach.REJECTED,
    errno.ENETUNREACH: Reach.REJECTED,
    # ICMPv6's "administratively prohibited" (RFC 4443, section 3.1).
    errno.EACCES: Reach.REJECTED,
}
_MAX_ANSWER_SIZE = 2048  # bytes


class Pipe(Protocol):
    """Bytes both ways; reads are empty at the end."""

    async def read(self) -> bytes: ...

    async def write(self, data: bytes) -> None: ...


class NotOpen(Exception):
    """A TCP connection did not open."""

    def __init__(self, reach: Reach, evidence: str) -> None:
        super().__init__(evidence)
        self.reach = reach
        self.evidence = evidence


class Connection:
    """A TCP connection; reads are empty at its end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, address: str, port: int, *, timeout: float) -> "Connection":  # noqa: ASYNC109
        """
        Connect.

        Raises:
            NotOpen: It did not.
        """
        local = _source(address)
        if local is None:
            raise NotOpen(Reach.NO_ROUTE, "this machine has no route to it")
        loop = asyncio.get_running_loop()
        raw = socket.socket(_family(address), socket.SOCK_STREAM)
        raw.setblocking(False)  # noqa: FBT003 - the socket's own way
        try:
            await asyncio.wait_for(loop.sock_connect(raw, (address, port)), timeout)
            reader, writer = await asyncio.open_connection(sock=raw)
        except OSError as error:
            raw.close()
            raise _not_open(error, address, local, timeout) from None
        except BaseException:
            raw.close()
            raise
        return cls(reader, writer)

    async def read(self) -> bytes:
        return await self._reader.read(1 << 16)

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def abort(self) -> None:
        self._writer.transport.abort()


def is_own_address(address: str) -> bool:
    """Return whether an IP address is one of this machine: only those can be bound."""
    try:
        with socket.socket(_family(address), socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


async def answer(pipe: Pipe, request: bytes, *, timeout: float) -> AnswerSeen:  # noqa: ASYNC109
    """Send a request and read the start of the answer."""
    begun_at = asyncio.get_running_loop().time()
    data, end = b"", End.OPEN
    try:
        async with asyncio.timeout(timeout):
            await pipe.write(request)
            while len(data) < _MAX_ANSWER_SIZE:
                more = await pipe.read()
                if not more:
                    end = End.CLOSED
                    break
                data += more
                if is_complete(data):
                    break
    except TimeoutError:
        pass
    except OSError:
        end = End.RESET
    duration = asyncio.get_running_loop().time() - begun_at
    return AnswerSeen(data=data[:_MAX_ANSWER_SIZE], end=end, duration=duration)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _source(address: str) -> str | None:
    """Return the address from which this machine would connect; sends nothing."""
    try:
        with socket.socket(_family(address), socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return None


def _not_open(error: OSError, address: str, local: str, timeout: float) -> NotOpen:
    if isinstance(error, TimeoutError) and error.errno is None:
        reach, evidence = Reach.DROPPED, f"no answer in {timeout:.1f} s"
    else:
        reach = _REACHES.get(error.errno or 0, Reach.FAILED)
        evidence = os.strerror(error.errno) if error.errno else str(error)
    if reach in {Reach.DROPPED, Reach.REJECTED} and ":" in address:
        with suppress(ValueError):
            # A route from a private address leads to no public one (RFC 4193, section 1).
            if IPv6Address(address).is_global and not IPv6Address(local).is_global:
                reach, evidence = Reach.NO_ROUTE, "this machine has no public IPv6 address"
    return NotOpen(reach, evidence)
