"""Sends a handshake with a nonce through the URL, and asks the service how it arrived."""

import asyncio
import contextlib
import os
import secrets
import ssl
import time
from dataclasses import replace

from ...errors import CommandError, NotRunning
from ...master import control
from ...master.control_requests import GetArrivals, ListArrivalsAnswer
from ...master.script import Script
from ...net.arrivals import NONCE_FIELD, NONCE_PARAMETER, key_of
from ..stream import follow
from ..target import Route, Settings, Target
from .background import in_background
from .observations import ArrivalsSeen

_CONNECT_TIMEOUT = 1.0  # seconds
# The look from outside has its own time to wait for an answer.
_ANSWER_TIMEOUT = 2.0  # seconds
_CONTROL_TIMEOUT = 2.0  # seconds
_MAX_ANSWER_SIZE = 64 << 10  # bytes
_MAX_TEXT_SIZE = 200  # characters
_MAX_ADDRESSES = 3
_MAX_HANDSHAKES = 3

# What happens behind an answer, such as the end of a connection, may come a little later.
_SETTLE_TIMES = (0.05, 0.2, 0.5)  # seconds

# RFC 6455, section 5.5.1: a masked Close with the code 1000.
_CLOSE = b"\x88\x82\0\0\0\0\x03\xe8"


async def look(
    script: Script, target: Target, settings: Settings, addresses: tuple[str, ...]
) -> ArrivalsSeen:
    """Send the handshake to the first address that can be connected to."""
    nonce = secrets.token_hex(16)
    begun_at = time.monotonic()
    try:
        await _arrivals(script, nonce)
    except (CommandError, NotRunning, TimeoutError) as error:
        return ArrivalsSeen(refused=str(error) or "the master does not answer")
    answer = found = None
    for _ in range(_MAX_HANDSHAKES):
        answer = await _handshake(target, settings, addresses, nonce)
        found = await _settled(script, nonce) or found
        # A balancer may have led it to another machine of the same service.
        if answer.status != 101 or found is None or found["arrivals"]:
            break
    if answer is None or found is None:
        return ArrivalsSeen(refused="the master does not answer")
    return replace(
        answer,
        arrivals=tuple(found["arrivals"]),
        causes=tuple(found["causes"]),
        silent=tuple(found["silent"]),
        duration=time.monotonic() - begun_at,
    )


async def _handshake(
    target: Target, settings: Settings, addresses: tuple[str, ...], nonce: str
) -> ArrivalsSeen:
    problem = "the name has no address"
    for address in addresses[:_MAX_ADDRESSES]:
        try:
            status, server, text = await _send(target, settings, address, nonce)
        except TimeoutError:
            return ArrivalsSeen(problem=f"no answer at {address} port {target.port}")
        except (OSError, ValueError, EOFError) as error:
            problem = f"no answer at {address} port {target.port} ({_reason(error)})"
            if not isinstance(error, ConnectionRefusedError):
                break
        else:
            return ArrivalsSeen(status=status, server=server, text=text)
    return ArrivalsSeen(problem=problem)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno).lower()
    return "it was closed" if isinstance(error, EOFError) else str(error) or type(error).__name__


async def _settled(script: Script, nonce: str) -> ListArrivalsAnswer | None:
    """Ask what arrived, until something did or nothing more is to be expected."""
    found: ListArrivalsAnswer | None = None
    for delay in _SETTLE_TIMES:
        await asyncio.sleep(delay)
        with contextlib.suppress(CommandError, NotRunning, TimeoutError):
            found = await _arrivals(script, nonce)
            if found["arrivals"] or found["silent"]:
                break
    return found


async def _arrivals(script: Script, nonce: str) -> ListArrivalsAnswer:
    def ask() -> ListArrivalsAnswer:
        with control.connect_to_master(script) as master:
            return master.request(GetArrivals(nonce), ListArrivalsAnswer)

    return await in_background(ask, _CONTROL_TIMEOUT)


async def _send(
    target: Target, settings: Settings, address: str, nonce: str
) -> tuple[int, str, str]:
    """Send it, and read the status, the Server field and the beginning of the body."""
    route = Route(
        address=address,
        port=target.port,
        is_tls=target.is_tls,
        server_name=None if _is_address(target.host) else target.host,
    )
    async with contextlib.AsyncExitStack() as stack:
        async with asyncio.timeout(_CONNECT_TIMEOUT):
            reader, writer = await stack.enter_async_context(follow(route))
        async with asyncio.timeout(_ANSWER_TIMEOUT):
            writer.write(_request(target, settings, nonce))
            await writer.drain()
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.LimitOverrunError:
                raise ValueError("it is not HTTP") from None
            status, server = _parse(head)
            body = b""
            if status == 101:
                writer.write(_CLOSE)
                await writer.drain()
            else:
                with contextlib.suppress(TimeoutError, OSError):
                    async with asyncio.timeout(0.2):
                        body = await reader.read(_MAX_ANSWER_SIZE)
    return status, server, body.decode(errors="replace").strip()[:_MAX_TEXT_SIZE]


def _request(target: Target, settings: Settings, nonce: str) -> bytes:
    path, question, query = target.path.partition("?")
    query = f"{query}&{NONCE_PARAMETER}={nonce}" if question else f"{NONCE_PARAMETER}={nonce}"
    scheme = "https" if target.is_tls else "http"
    lines = [
        f"GET {path}?{query} HTTP/1.1",
        f"Host: {target.authority}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key_of(nonce)}",
        "Sec-WebSocket-Version: 13",
        f"Origin: {settings.origin or f'{scheme}://{target.authority}'}",
        "User-Agent: gateman-doctor",
        f"{NONCE_FIELD}: {nonce}",
    ]
    if settings.subprotocols:
        lines.append(f"Sec-WebSocket-Protocol: {', '.join(settings.subprotocols)}")
    lines += [f"{name}: {value}" for name, value in settings.headers]
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1", "replace")


def _parse(head: bytes) -> tuple[int, str]:
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/") or not rest[:3].isdigit():
        raise ValueError("it is not HTTP")
    fields = {
        name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)
    }
    return int(rest[:3]), fields.get("server", "")


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()
