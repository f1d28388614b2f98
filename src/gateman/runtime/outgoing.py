"""Opens outgoing connections, keeps them up, and runs their callbacks, in one process."""

import asyncio
import inspect
import os
import random
import ssl
from collections import Counter
from collections.abc import Iterable
from threading import get_ident
from typing import Any

from ..cluster.leases import lease_name
from ..config.outgoing import OutgoingConnection
from ..errors import ConfigError, PacketError
from ..log import RateLimitedLogger, logger
from .callback_tasks import error_of
from .jobs import Leases
from .outgoing_links import Link, LinkClosed, open_link

# An attempt that works for this long is not followed by a longer pause.
_WORKING = 10.0  # seconds

_FIRST_DELAY = 0.5  # seconds

# Between two looks at a lease that another process holds; and at the own one while connected.
_LEASE_PAUSE = 0.5  # seconds

# What a connection has for its Close handshake when the process drains or stops.
_CLOSE_TIME = 2.0  # seconds


def delay(attempt: int, max_delay: float, chance: float) -> float:
    """Return the pause before an attempt, from 1; ``chance`` is between 0 and 1 (full jitter)."""
    longest: float = _FIRST_DELAY * 2 ** min(attempt, 32)
    return chance * min(longest, max_delay)


class OutgoingConnections:
    """The outgoing connections of a process."""

    def __init__(self, leases: Leases | None) -> None:
        self._counts: Counter[str] = Counter()
        self._leases = leases
        self._supervisors: list[_Supervisor] = []

    @property
    def counts(self) -> Counter[str]:
        dropped = sum(one.dropped_count for one in self._supervisors)
        return self._counts + Counter(outgoing_dropped=dropped)

    def start(self, declared: Iterable[tuple[str, OutgoingConnection]]) -> None:
        """Open connections, each with the name of its worker."""
        same: Counter[str] = Counter()
        for worker, connection in declared:
            # Two to one server are told apart by their order; others may come and go at a reload.
            text = f"{worker}: {connection}"
            name = lease_name(f"{text} {same[text]}")
            same[text] += 1
            lease = name if connection.once else ""
            supervisor = _Supervisor(connection, lease, self._leases, self._counts)
            supervisor.begin()
            self._supervisors.append(supervisor)

    def drain(self) -> None:
        """Close all connections; other processes get the leases after that."""
        for supervisor in self._supervisors:
            supervisor.end()

    async def stop(self) -> None:
        """Close all connections, and wait for their end."""
        self.drain()
        await asyncio.gather(*(one.ended() for one in self._supervisors))


class _Supervisor:
    """Keeps one connection up."""

    def __init__(
        self,
        connection: OutgoingConnection,
        lease: str,
        leases: Leases | None,
        counts: Counter[str],
    ) -> None:
        self._connection = connection
        self._lease = lease
        self._leases = leases
        self._counts = counts
        self._loop = asyncio.get_running_loop()
        self._rate_limited = RateLimitedLogger()
        self._task: asyncio.Task[None] | None = None
        self._attempt = 0
        self._opened_count = 0
        self._link: Link | None = None
        self._dropped_count = 0
        self._is_ending = False
        self._is_closing = False

    def begin(self) -> None:
        if self._lease and self._leases is not None:
            self._leases.want(self._lease)
        self._task = self._loop.create_task(self._run())

    @property
    def dropped_count(self) -> int:
        """Messages that were not sent; also those of the open connection."""
        return self._dropped_count + (self._link.dropped_count if self._link is not None else 0)

    def end(self) -> None:
        """Close the connection; a callback that runs continues, until :meth:`ended`."""
        self._is_ending = True
        link = self._connection.link
        if link is not None:
            link.close(1001, "")
        elif self._task is not None and not self._is_closing:
            self._task.cancel()

    async def ended(self) -> None:
        """Wait for the end; cancel a callback that takes too long."""
        if self._task is not None:
            _, running = await asyncio.wait([self._task], timeout=_CLOSE_TIME)
            if running:
                self._task.cancel()
                await asyncio.wait([self._task], timeout=_CLOSE_TIME + 1)

    @property
    def _may_connect(self) -> bool:
        return not self._lease or self._leases is None or self._leases.is_held(self._lease)

    async def _run(self) -> None:
        try:
            while not self._is_ending:
                if not self._may_connect:
                    await asyncio.sleep(_LEASE_PAUSE)
                    continue
                worked = await self._connect_once()
                self._attempt = 1 if worked else self._attempt + 1
                chance = random.random()  # noqa: S311 - no secret
                if not self._is_ending:
                    await asyncio.sleep(delay(self._attempt, self._connection.max_delay, chance))
        finally:
            if self._lease and self._leases is not None:
                self._leases.release([self._lease])

    async def _connect_once(self) -> bool:
        """Open the connection and use it to its end; return whether it worked for a while."""
        connection = self._connection
        try:
            async with asyncio.timeout(connection.open_timeout):
                link = await open_link(connection)
        except TimeoutError:
            self._failed(f"no connection within {connection.open_timeout:g} s")
            return False
        except (LinkClosed, OSError, ConfigError) as error:
            self._failed(sentence(error))
            return False
        except Exception as error:  # noqa: BLE001 - the application's function for the headers
            self._counts["outgoing_failed"] += 1
            self._rate_limited.error(f"{connection} cannot be opened", error, self._loop.time())
            return False
        opened_at = self._loop.time()
        self._counts["outgoing_opened"] += 1
        connection.reconnects = self._opened_count
        self._opened_count += 1
        logger.info("connected to %s", connection)
        try:
            await self._use(link)
        except Exception as error:  # noqa: BLE001 - another attempt is made in any case
            self._rate_limited.error(f"{connection} has failed", error, self._loop.time())
        return self._loop.time() - opened_at >= _WORKING

    def _failed(self, problem: str) -> None:
        self._counts["outgoing_failed"] += 1
        self._rate_limited.warning(
            "failed", f"{self._connection} cannot be reached: {problem}", self._loop.time()
        )

    async def _use(self, link: Link) -> None:
        connection = self._connection
        connection.link, connection.thread = link, get_ident()
        self._link = link
        watching = self._loop.create_task(self._watch_lease(link))
        closed = LinkClosed(1006, "")
        try:
            await self._call("on_open", connection)
            while True:
                for message in await link.receive():
                    # Another process may have the lease since the last message, after a pause.
                    if self._may_connect:
                        self._counts["outgoing_messages"] += 1
                        await self._call("on_message", connection, message)
        except LinkClosed as found:
            closed = found
        except PacketError as error:
            closed = LinkClosed(1006, str(error))
            link.close(1002, "")
        except asyncio.CancelledError:
            closed = LinkClosed(1001, "this process ends")
            link.close(1001, "")
            raise
        finally:
            connection.link = None
            watching.cancel()
            self._is_closing = True
            await self._close(link, closed)
            self._is_closing = False

    async def _close(self, link: Link, closed: LinkClosed) -> None:
        self._counts["outgoing_closed"] += 1
        logger.info("the connection to %s has ended: %s", self._connection, closed)
        # The drain has cancelled this task already; what follows is bounded.
        task = asyncio.current_task()
        while task is not None and task.cancelling():
            task.uncancel()
        try:
            async with asyncio.timeout(_CLOSE_TIME):
                await self._call("on_close", self._connection, closed.code, closed.reason)
                await link.wait_closed()
        except BaseException as error:
            link.abort()
            if not isinstance(error, TimeoutError):
                raise
        finally:
            self._dropped_count += link.dropped_count
            self._link = None

    async def _watch_lease(self, link: Link) -> None:
        while self._may_connect:  # noqa: ASYNC110 - a lease ends with time
            await asyncio.sleep(_LEASE_PAUSE)
        link.close(1001, "another process has this connection now")

    async def _call(self, name: str, *arguments: Any) -> None:
        function = self._connection.callbacks.get(name)
        if function is None:
            return
        try:
            result = function(*arguments)
            if inspect.isawaitable(result):
                await result
        except (asyncio.CancelledError, Exception) as raised:  # noqa: BLE001 - it ends no more
            self._callback_failed(name, error_of(raised))

    def _callback_failed(self, name: str, error: Exception) -> None:
        self._counts["outgoing_callback_failed"] += 1
        message = f"{name} of {self._connection} raised {type(error).__name__}"
        self._rate_limited.error(message, error, self._loop.time())


def sentence(error: LinkClosed | OSError | ConfigError) -> str:
    """Say why a server cannot be reached."""
    if isinstance(error, LinkClosed):
        return error.reason
    if isinstance(error, ConfigError):
        return str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid for this system: {error.verify_message}"
    if isinstance(error, ConnectionError):
        return os.strerror(error.errno) if error.errno else "it closed the connection"
    return error.strerror or str(error) or type(error).__name__
