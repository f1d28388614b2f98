"""
The bus between machines: NATS, its core without JetStream.

We implement its protocol ourselves (:mod:`.nats_wire`): the guarantees of :class:`~.base.Bus`
depend on what has reached the server, and a hub has a subscription for each group and uid (nats-py
2.16 uses 5 KiB and a task for each, and its ``flush()`` may overtake the subscription before it).
"""

import asyncio
import os
import random
import secrets
import socket
import ssl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BusError, ConfigError
from ..log import logger
from .base import MAX_PAYLOAD_SIZE, MAX_PENDING_SIZE
from .broker_bus import BrokerBus
from .broker_connection import CONNECT_TIMEOUT, BrokerConnection
from .credentials import Credentials
from .nats_url import NatsUrl, Server, check_name
from .nats_wire import NatsWire, connect
from .wire import BrokerHello, BrokerRefusal, Control

if TYPE_CHECKING:
    from ..history.base import FollowingHistory

# bytes; JetStream has no bound of its own but its disk. Some millions of chat messages.
_HISTORY_MAX_BYTES = 1 << 30

PathLike = str | os.PathLike[str]

_REASONS = {
    ConnectionRefusedError: "nothing listens there",
    ConnectionError: "it closed the connection",
    socket.gaierror: "the host is unknown",
}


def nats_bus(
    url: str,
    *,
    name: str = "",
    user: str = "",
    password: str = "",
    token: str = "",
    creds: PathLike | None = None,
    nkey: PathLike | None = None,
    ca: PathLike | None = None,
    cert: PathLike | None = None,
    key: PathLike | None = None,
    max_pending_size: int = MAX_PENDING_SIZE,
    connect_timeout: float = CONNECT_TIMEOUT,
    history_replicas: int = 0,
    history_max_bytes: int = _HISTORY_MAX_BYTES,
) -> BrokerBus:
    """Make the bus of a NATS server or cluster, with only the URL's servers, in random order."""
    # history_replicas: copies of the stream of the history; 0 means 3 in a cluster, otherwise 1.
    # history_max_bytes: its size on the disk of each of these servers.
    parsed = NatsUrl.parse(url)
    parsed = replace(
        parsed,
        name=check_name(name) if name else parsed.name,
        # Otherwise a server, or a man in the middle, could request a password without TLS.
        is_tls=parsed.is_tls or ca is not None or cert is not None,
    )
    if not parsed.name:
        raise ConfigError(
            f"the bus {parsed} has no name, by which the services that use one NATS are told apart",
            "put ?name=chat behind its URL, or write bus={'url': …, 'name': 'chat'}: the same name"
            " in all scripts of one service, and another one for each other service",
        )
    credentials = Credentials(
        user=user or parsed.user,
        password=password or parsed.password,
        token=token or parsed.token,
        creds=None if creds is None else Path(creds),
        nkey=None if nkey is None else Path(nkey),
    )
    credentials.check()
    context = _context(ca, cert, key)
    protocol = _NatsProtocol(
        parsed,
        credentials,
        context,
        connect_timeout,
        history_replicas=history_replicas,
        history_max_bytes=history_max_bytes,
    )
    return BrokerBus(protocol, max_pending_size=max_pending_size)


class _NatsProtocol:
    """The servers of a URL; see :class:`~.broker_bus.BrokerProtocol`."""

    def __init__(
        self,
        parsed: NatsUrl,
        credentials: Credentials,
        context: ssl.SSLContext | None,
        connect_timeout: float,
        *,
        history_replicas: int,
        history_max_bytes: int,
    ) -> None:
        self._history_replicas = history_replicas
        self._history_max_bytes = history_max_bytes
        self._url = parsed
        self._credentials = credentials
        self._context = context
        self._connect_timeout = connect_timeout
        self._prefix = f"gateman.{parsed.name}.".encode("ascii")
        self._warned: set[str] = set()

    @property
    def url(self) -> str:
        return str(self._url)

    async def dial(self) -> BrokerConnection:
        problems: list[str] = []
        for server in random.sample(self._url.servers, len(self._url.servers)):
            try:
                return await self._dial(server)
            except BusError as error:
                problems.append(f"{server}: {error.problem}")
            except ConfigError as error:
                raise BusError(self.url, str(error).removesuffix(".")) from None
        if len(problems) == 1:
            problems = [problems[0].partition(": ")[2]]
        raise BusError(self.url, "; ".join(problems))

    def history(self, bus: BrokerBus) -> "FollowingHistory":
        # Imported here: most services have no history.
        from .jetstream import JetStreamHistory

        return JetStreamHistory(
            bus, self._url.name, replicas=self._history_replicas, max_bytes=self._history_max_bytes
        )

    async def _dial(self, server: Server) -> BrokerConnection:
        loop = asyncio.get_running_loop()
        wire = NatsWire(self._prefix, secrets.token_hex(8))
        connection = BrokerConnection(wire)
        try:
            async with asyncio.timeout(self._connect_timeout):
                await loop.create_connection(lambda: connection, server.host, server.port)
                await self._greet(connection, wire, server)
        except BaseException as error:
            connection.abort()
            if isinstance(error, TimeoutError):
                problem = f"it does not answer within {self._connect_timeout:g} seconds"
                raise BusError(self.url, problem) from None
            if isinstance(error, (OSError, UnicodeError)):
                raise BusError(self.url, _reason(error)) from None
            raise
        return connection

    async def _greet(self, connection: BrokerConnection, wire: NatsWire, server: Server) -> None:
        event = await connection.next_event()
        if not isinstance(event, BrokerHello):
            raise BusError(self.url, "what listens there is not a NATS server")
        info = event.info
        is_offered = bool(info.get("tls_required") or info.get("tls_available"))
        if self._url.is_tls and not is_offered:
            raise BusError(self.url, "it offers no TLS, which tls://, ca= or cert= asks for")
        is_tls = self._url.is_tls or bool(info.get("tls_required"))
        if is_tls:
            # A man in the middle could inject an answer before TLS starts.
            if connection.has_more:
                raise BusError(self.url, "it goes on without TLS")
            connection.wire = wire = NatsWire(self._prefix, secrets.token_hex(8))
            self._context = self._context or ssl.create_default_context()
            await connection.encrypt(self._context, server.host)
        if not server.is_here:
            self._warn(server, asks=bool(info.get("auth_required")), is_tls=is_tls)
        wire.has_headers = info.get("headers") is True
        answer = self._credentials.answer(str(info.get("nonce", "")))
        connection.write(connect(answer, has_headers=wire.has_headers) + wire.ping)
        connection.is_spread = bool(info.get("cluster"))
        limit = info.get("max_payload")
        connection.max_payload_size = limit if isinstance(limit, int) else MAX_PAYLOAD_SIZE
        while (event := await connection.next_event()) is not Control.PONG:
            if isinstance(event, BrokerRefusal):
                raise BusError(self.url, f"it refuses us: {event.text}")
            if event is None:
                raise BusError(self.url, "it closed the connection")

    def _warn(self, server: Server, *, asks: bool, is_tls: bool) -> None:
        """Warn once about each security risk of a server on another machine."""
        if not asks:
            self._warn_once(
                f"{server} requires no login, so anyone who reaches it can send to every client"
            )
        if self._credentials.has_secret and not is_tls:
            self._warn_once(
                f"the password or token is sent to {server} without encryption: write tls:// in"
                " place of nats://"
            )

    def _warn_once(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            logger.warning("the bus %s: %s", self.url, text)


def _context(
    ca: PathLike | None, cert: PathLike | None, key: PathLike | None
) -> ssl.SSLContext | None:
    """Load the files that are given; without one the system's authorities are read if needed."""
    if cert is None and key is not None:
        raise ConfigError("the bus has a key= without its cert=", "give both")
    if cert is None and ca is None:
        # Reading the system's takes 60 ms.
        return None
    if ca is None:
        context = ssl.create_default_context()
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _load(f"ca={ca}", lambda: context.load_verify_locations(ca))
    if cert is not None:
        _load(f"cert={cert}", lambda: context.load_cert_chain(cert, key, lambda: ""))
    return context


def _load(what: str, load: Callable[[], None]) -> None:
    try:
        load()
    except ssl.SSLError:
        raise ConfigError(
            f"the bus's {what} cannot be used", "it has to be PEM, without passphrase"
        ) from None
    except OSError as error:
        raise ConfigError(f"the bus's {what} cannot be read", _system(error)) from None


def _reason(error: OSError | UnicodeError) -> str:
    if isinstance(error, UnicodeError):
        # The idna codec raises it for a label that is empty or longer than 63 letters.
        return "the host is unknown"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or 'it closed the connection'}"
    for kind, reason in _REASONS.items():
        if isinstance(error, kind):
            return reason
    return _system(error)


def _system(error: OSError) -> str:
    return (error.strerror or "it cannot be reached").lower()
