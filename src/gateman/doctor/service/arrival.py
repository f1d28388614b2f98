"""Sends a handshake with a nonce through the URL, and asks the service how it arrived."""

import asyncio
import contextlib
import secrets
import time
from dataclasses import replace

from ...errors import CommandError, NotRunning
from ...master import control
from ...master.control_requests import GetArrivals, ListArrivalsAnswer
from ...master.script import Script
from ...net.arrivals import NONCE_FIELD, NONCE_PARAMETER, key_of
from ..background import in_background
from ..network.url import address_of
from ..target import Route, Settings, Target
from ..upgrade.client import Client, default_origin
from ..upgrade.observations import Attempt, Kind, Silence
from .observations import ArrivalsSeen

# The look from outside has its own time to wait for an answer.
_ANSWER_TIMEOUT = 2.0  # seconds
_CONTROL_TIMEOUT = 2.0  # seconds
_MAX_TEXT_SIZE = 200  # characters
_MAX_ADDRESSES = 3
_MAX_HANDSHAKES = 3

# What happens behind an answer, such as the end of a connection, may come a little later.
_SETTLE_TIMES = (0.05, 0.2, 0.5)  # seconds


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
    path, question, query = target.path.partition("?")
    query = f"{query}&{NONCE_PARAMETER}={nonce}" if question else f"{NONCE_PARAMETER}={nonce}"
    marked = replace(settings, headers=(*settings.headers, (NONCE_FIELD, nonce)))
    problem = "the name has no address"
    for address in addresses[:_MAX_ADDRESSES]:
        route = Route(
            address=address,
            port=target.port,
            is_tls=target.is_tls,
            server_name=None if address_of(target.host) else target.host,
        )
        client = Client(target, marked, route, settings.origin or default_origin(target))
        attempt = await client.ask(
            Kind.HANDSHAKE, _ANSWER_TIMEOUT, path=f"{path}?{query}", key=key_of(nonce)
        )
        answer = attempt.answer
        if answer is not None:
            text = answer.body.strip()[:_MAX_TEXT_SIZE]
            return ArrivalsSeen(status=answer.status, server=answer.get("Server"), text=text)
        problem = f"no answer at {address} port {target.port} ({_reason(attempt)})"
        if attempt.silence is not Silence.UNREACHABLE:
            break
    return ArrivalsSeen(problem=problem)


def _reason(attempt: Attempt) -> str:
    match attempt.silence:
        case Silence.NOT_HTTP:
            return "it is not HTTP"
        case Silence.CLOSED:
            return "it was closed"
        case silence:
            return attempt.error or ("" if silence is None else silence.value)


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
    return await in_background(
        lambda: control.ask(script, GetArrivals(nonce), ListArrivalsAnswer), _CONTROL_TIMEOUT
    )
