"""The probes of the handshake: at most ten requests, within five seconds."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from ..target import Route, Settings, Target
from .client import Client, default_origin
from .observations import Attempt, Kind, UpgradeSeen

_MAX_ROUTES = 4
_TIME = 5.0  # seconds for all, unless --timeout gives less
_SHARE = 0.5  # of --timeout
_FIRST_SHARE = 0.76  # HAProxy tells of a server that is down after 3 seconds
_PATIENCE = 1.2  # seconds, after which others are asked beside the first
_WATCH = 2.0  # seconds for the pong


async def look(
    target: Target,
    settings: Settings,
    routes: Sequence[Route],
    progress: Callable[[str], None],
    *,
    origin: str | None = None,
) -> UpgradeSeen:
    """
    Send handshakes, and what tells apart why they fail.

    Args:
        routes: The ways to the service; the client's preference first.
        origin: That of the page that opens the WebSocket; ``None`` for that of the URL's host.
    """
    if not routes:
        return UpgradeSeen()
    loop = asyncio.get_running_loop()
    time = min(_TIME, settings.timeout * _SHARE)
    ends_at = loop.time() + time
    first_time = time * _FIRST_SHARE
    sent_origin = settings.origin or origin or default_origin(target)
    clients = [Client(target, settings, route, sent_origin) for route in routes[:_MAX_ROUTES]]
    progress("handshake")
    first = [
        loop.create_task(client.ask(Kind.HANDSHAKE, first_time, watch=min(_WATCH, time * 0.4)))
        for client in clients
    ]
    done, _ = await asyncio.wait(first[:1], timeout=min(_PATIENCE, first_time / 2))
    client = clients[0]

    def left() -> float:
        return max(ends_at - loop.time(), 0.3)

    beside: list[Attempt] = []
    is_slow = not done
    if is_slow:
        progress("plain request")
        beside += await _all(
            client.ask(kind, min(first_time, left())) for kind in (Kind.PLAIN, Kind.MALFORMED)
        )
    attempts = list(await asyncio.gather(*first))
    main = attempts[0]
    if main.works:
        progress("handshake without Origin, and of another site")
        kinds = [Kind.NATIVE, Kind.FOREIGN]
        if settings.idle_time or settings.message_size or settings.connections:
            # What cuts or limits connections is named; a 101 seldom tells who is in front.
            kinds.append(Kind.MALFORMED)
        beside += await _all(client.ask(kind, left()) for kind in kinds)
    elif main.is_open:
        progress("second handshake")
        beside += await _all(
            client.ask(kind, left(), watch=left() / 2) for kind in (Kind.SECOND, Kind.NATIVE)
        )
    elif not is_slow or main.answer is not None:
        progress("what else answers there")
        kinds = [Kind.NATIVE, *(() if is_slow else (Kind.PLAIN, Kind.MALFORMED))]
        requests = [client.ask(kind, left()) for kind in kinds]
        requests += [
            client.ask(Kind.OTHER_PATH, left(), path=path) for path in _other_paths(target.path)
        ]
        beside += await _all(requests)
    return UpgradeSeen(attempts=(*attempts, *beside))


async def _all(requests: Iterable[Coroutine[Any, Any, Attempt]]) -> list[Attempt]:
    return list(await asyncio.gather(*requests))


def _other_paths(path: str) -> list[str]:
    """List paths at which the service may be: with and without a slash at the end, and the root."""
    name, mark, query = path.partition("?")
    slashed = name.removesuffix("/") if name.endswith("/") else f"{name}/"
    return [f"{one}{mark}{query}" for one in dict.fromkeys((slashed or "/", "/")) if one != name]
