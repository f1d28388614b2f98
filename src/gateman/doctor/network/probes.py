"""Looks at the way up to TLS: the resolver, then each address by itself, in several ways."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from ...errors import UsageMistake
from ..protocols import is_http2, protocol
from ..target import Settings, Target
from .answers import is_http, may_expect_tls
from .connection import Connection, NotOpen, answer, is_own_address
from .observations import (
    SILENT,
    AddressSeen,
    AnswerSeen,
    ChainSeen,
    End,
    Family,
    HandshakeSeen,
    LookupSeen,
    NetworkSeen,
    Reach,
    Tls,
)
from .resolver import look_up
from .tls_client import Offer, shake_hands
from .trust import Roots
from .url import address_of

MAX_ADDRESSES = 4
"""Of each kind that are looked at."""

# Proxy-protocol.txt, section 2.1: says nothing of the client, as a load balancer's health checks.
_PROXY_HEADER = b"PROXY UNKNOWN\r\n"

_FAMILIES: tuple[Family, ...] = ("AAAA", "A")

# Seconds, of ten.
_NAME, _TCP, _TLS, _ANSWER, _AGAIN = 2.0, 3.0, 3.0, 1.0, 1.5


async def look(target: Target, settings: Settings, progress: Callable[[str], None]) -> NetworkSeen:
    """Look at all addresses of a target; raises :class:`UsageMistake`."""
    begun_at = asyncio.get_running_loop().time()
    looks = _Looks(target, settings)
    if settings.address is not None and address_of(settings.address) is None:
        raise UsageMistake(f"--address {settings.address} is not an IP address")
    literal = settings.address or (target.host if address_of(target.host) else None)
    if literal is not None:
        progress(f"connecting to {literal} port {target.port}")
        seen = NetworkSeen(addresses=(await looks.look_at(literal, is_first=True),))
    else:
        progress(f"resolving {target.host}")
        both = await asyncio.gather(*(_resolve(looks, target, one, progress) for one in _FAMILIES))
        seen = NetworkSeen(
            lookups=tuple(lookup for lookup, _ in both),
            addresses=tuple(address for _, addresses in both for address in addresses),
            untried=tuple(one for lookup, _ in both for one in lookup.addresses[MAX_ADDRESSES:]),
        )
    duration = asyncio.get_running_loop().time() - begun_at
    return replace(seen, duration=duration, looked_at=time.time())


async def _resolve(
    looks: "_Looks", target: Target, family: Family, progress: Callable[[str], None]
) -> tuple[LookupSeen, list[AddressSeen]]:
    """Look at the addresses of one kind as soon as they are known."""
    lookup = await look_up(target.host, family, timeout=looks.seconds(_NAME))
    addresses = lookup.addresses[:MAX_ADDRESSES]
    if addresses:
        progress(f"connecting to {target.host} port {target.port}")
    return lookup, list(
        await asyncio.gather(
            *(looks.look_at(one, is_first=place == 0) for place, one in enumerate(addresses))
        )
    )


class _Looks:
    """The looks at the addresses of one target."""

    def __init__(self, target: Target, settings: Settings) -> None:
        self._target = target
        self._unit = settings.timeout / 10
        self._roots = Roots(settings.ca_file)
        self._server_name = None if address_of(target.host) else target.host

    def seconds(self, of_ten: float) -> float:
        return of_ten * self._unit

    async def look_at(self, address: str, *, is_first: bool) -> AddressSeen:
        """Look at one address; the first of a kind with all probes."""
        begun_at = asyncio.get_running_loop().time()
        seen = AddressSeen(
            address=address,
            port=self._target.port,
            reach=Reach.OPEN,
            server_name=self._server_name,
        )
        try:
            async with self._connected(address) as connection:
                seen = replace(seen, duration=asyncio.get_running_loop().time() - begun_at)
                if self._target.is_tls:
                    return await self._look_at_tls(seen, connection, is_first=is_first)
                return await self._look_at_plain(seen, connection)
        except NotOpen as error:
            duration = asyncio.get_running_loop().time() - begun_at
            seen = replace(seen, reach=error.reach, evidence=error.evidence, duration=duration)
            if error.reach is Reach.REFUSED:
                seen = replace(seen, loopback=await self._open_loopback(address))
            return seen

    @asynccontextmanager
    async def _connected(self, address: str) -> AsyncIterator[Connection]:
        timeout = self.seconds(_TCP)
        connection = await Connection.open(address, self._target.port, timeout=timeout)
        try:
            yield connection
        finally:
            connection.abort()

    async def _open_loopback(self, address: str) -> str:
        """Return the loopback address on which the port of one of this machine's is open."""
        loopback = "::1" if ":" in address else "127.0.0.1"
        if address.startswith("127.") or address == "::1" or not is_own_address(address):
            return ""
        try:
            async with self._connected(loopback):
                return loopback
        except NotOpen:
            return ""

    # TLS.

    async def _look_at_tls(
        self, seen: AddressSeen, connection: Connection, *, is_first: bool
    ) -> AddressSeen:
        timeout = self.seconds(_TLS)
        tls, inside = await shake_hands(connection, self._offer(), timeout=timeout)
        chain = self._roots.judge(tls.certificates)
        seen = replace(seen, tls=tls, chain=chain, is_usable=tls.is_agreed)
        if inside is not None:
            if is_first or tls.asks_client:
                found = await answer(inside, self._request(), timeout=self.seconds(_ANSWER))
                # After an alert, as for want of a client's certificate, nothing follows.
                alert = inside.alert
                seen = replace(
                    seen, tls=replace(tls, alert=alert), inside=found, is_usable=alert is None
                )
            # Some servers have room for one connection only.
            connection.abort()
            return await self._look_closer(seen) if is_first else seen
        connection.abort()
        return await self._look_why(seen, tls)

    async def _look_closer(self, seen: AddressSeen) -> AddressSeen:
        """Look at an address where TLS works."""
        address, newest = seen.address, ssl.TLSVersion.TLSv1_2
        offers = {
            "tls_12": self._offer(newest=newest),
            "tls_13": self._offer(oldest=ssl.TLSVersion.TLSv1_3),
            "without_name": self._offer(server_name=None),
            "verified": self._offer(roots=self._roots.pem, host=self._target.host),
        }
        found: dict[str, HandshakeSeen] = {}
        for name, offer in offers.items():
            found[name] = await self._again(address, offer)
            if found[name].outcome is Tls.TIMED_OUT:
                break
        verified = found.pop("verified", None)
        seen = replace(seen, **found)  # type: ignore[arg-type]
        if verified is not None and verified.outcome is Tls.FAILED:
            chain = self._roots.judge(verified.certificates, verified.reason)
            # Otherwise another server behind the same address has answered.
            if chain is not None and _is_same(chain, seen.chain):
                seen = replace(seen, chain=chain)
        if seen.without_name is not None:
            default_chain = self._roots.judge(seen.without_name.certificates)
            seen = replace(seen, default_chain=default_chain)
        if seen.inside is not None and may_expect_tls(seen.inside):
            inner = await self._again(address, self._offer(), is_twice=True)
            seen = replace(seen, inner=inner)
        return seen

    async def _look_why(self, seen: AddressSeen, tls: HandshakeSeen) -> AddressSeen:
        """Look at an address where TLS fails."""
        address = seen.address
        if tls.outcome is Tls.NOT_TLS:
            # The answer to a hello seldom says whose it is.
            if not (protocol(tls.answer) or is_http2(tls.answer)):
                plain = await self._ask(address, self._request(is_secret=True))
                return replace(seen, plain=plain)
            return seen
        old = self._offer(
            oldest=ssl.TLSVersion.TLSv1, newest=ssl.TLSVersion.TLSv1_1, is_lenient=True
        )
        again = partial(self._again, address)
        probes: dict[str, Callable[[], Awaitable[Any]]] = {
            "plain": partial(self._ask, address, self._request(is_secret=True))
        }
        if tls.outcome in SILENT:
            probes["after_proxy_header"] = partial(again, self._offer(), _PROXY_HEADER)
        else:
            probes["lenient"] = partial(again, self._offer(is_lenient=True))
            probes["without_alpn"] = partial(again, self._offer(alpn=()))
            probes["with_h2"] = partial(again, self._offer(alpn=("h2",)))
        probes["without_name"] = partial(again, self._offer(server_name=None))
        probes["old"] = partial(again, old)
        if tls.outcome is Tls.TIMED_OUT:
            # One after the other, they would take too long.
            answers = await asyncio.gather(*(probe() for probe in probes.values()))
            found = dict(zip(probes, answers, strict=True))
        else:
            found = {name: await probe() for name, probe in probes.items()}
        return replace(seen, **found)

    def _offer(self, **changes: Any) -> Offer:
        return replace(Offer(server_name=self._server_name), **changes)

    async def _again(
        self, address: str, offer: Offer, before: bytes = b"", *, is_twice: bool = False
    ) -> HandshakeSeen:
        """Make one more handshake on a connection of its own, or one inside of one."""
        timeout = self.seconds(_AGAIN)
        try:
            async with self._connected(address) as connection:
                if before:
                    await connection.write(before)
                tls, inside = await shake_hands(connection, offer, timeout=timeout)
                if is_twice and inside is not None:
                    tls, _ = await shake_hands(inside, offer, timeout=timeout)
                return tls
        except NotOpen as error:
            return HandshakeSeen(outcome=Tls.NOT_CONNECTED, reason=error.evidence)
        except OSError:
            return HandshakeSeen(outcome=Tls.RESET)

    # Plain.

    async def _look_at_plain(self, seen: AddressSeen, connection: Connection) -> AddressSeen:
        timeout = self.seconds(_AGAIN)
        plain = await answer(connection, self._request(), timeout=timeout)
        seen = replace(seen, plain=plain, is_usable=is_http(plain.data) or not plain.data)
        connection.abort()
        is_silent = not plain.data and plain.end is End.OPEN
        # A server that expects TLS answers, or closes, at once.
        if is_silent or (is_http(plain.data) and not may_expect_tls(plain)):
            return seen
        tls = await self._again(seen.address, self._offer())
        if tls.is_agreed:
            return replace(seen, tls=tls, is_usable=True)
        if not plain.data and plain.end is not End.OPEN:
            after = await self._ask(seen.address, _PROXY_HEADER + self._request())
            seen = replace(seen, after_proxy_header=after)
        return seen

    async def _ask(self, address: str, request: bytes) -> AnswerSeen:
        """Send plain HTTP on a connection of its own."""
        try:
            async with self._connected(address) as connection:
                return await answer(connection, request, timeout=self.seconds(_ANSWER))
        except NotOpen:
            return AnswerSeen(end=End.RESET)

    def _request(self, *, is_secret: bool = False) -> bytes:
        """Write a plain HTTP request; without its path if that is secret, for want of TLS."""
        path = "/" if is_secret else self._target.path
        return (
            f"GET {path} HTTP/1.1\r\nHost: {self._target.authority}\r\n"
            "User-Agent: gateman-doctor\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        ).encode()


def _is_same(one: ChainSeen, other: ChainSeen | None) -> bool:
    return other is not None and one.fingerprint == other.fingerprint
