"""The probes that the options --page, --idle, --size and --connections ask for."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from urllib.parse import urljoin, urlsplit

from ...errors import UsageMistake
from ...websocket.encoding import Opcode
from ..stream import opened, unverified
from ..target import Route, Settings, Target, default_port
from ..upgrade.client import Client, Conversation, default_origin, read_answer
from ..upgrade.observations import Answer, Attempt, Silence
from .observations import ConnectionsSeen, IdleSeen, LastingSeen, PageSeen, SizeSeen

_MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_PAGE = 256 << 10  # bytes
_HANDSHAKE_TIME = 5.0  # seconds
_PAGE_TIME = 5.0  # seconds
_AT_ONCE = 10  # handshakes
_MAX_FAILURES = 3
_KEPT = 1.0  # seconds that all connections are kept, once they are open


async def look_at_page(settings: Settings, progress: Callable[[str], None]) -> PageSeen | None:
    """Read the page that --page names; ``None`` without it."""
    if settings.page is None:
        return None
    if not _is_page(settings.page):
        raise UsageMistake(f"--page {settings.page} is not the URL of a page: write https://HOST/")
    progress("page")
    loop = asyncio.get_running_loop()
    begun_at, url, answer, error = loop.time(), settings.page, None, ""
    try:
        async with asyncio.timeout(min(_PAGE_TIME, settings.timeout / 2)):
            answer = await _get(url)
            for _ in range(1 + _MAX_REDIRECTS):
                location = "" if answer is None else answer.get("Location")
                if answer is None or answer.status not in _REDIRECTS or not location:
                    break
                there = urljoin(url, location)
                if not _is_page(there):
                    answer, error = None, "it redirects to what is not the URL of a page"
                    break
                url = there
                answer = await _get(url)
            else:
                answer, error = None, "it redirects without end"
    except TimeoutError:
        answer, error = None, "no answer in time"
    except (OSError, ValueError) as failure:
        answer, error = None, str(failure)
    if answer is None:
        error = error or "the answer is not HTTP"
    return PageSeen(url=url, answer=answer, error=error, duration=loop.time() - begun_at)


def _is_page(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


async def _get(url: str) -> Answer | None:
    parts = urlsplit(url)
    is_tls = parts.scheme == "https"
    async with opened(
        parts.hostname or "",
        parts.port or default_port(is_tls),
        context=unverified() if is_tls else None,
        server_name=parts.hostname if is_tls else None,
    ) as (reader, writer):
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        host = parts.netloc.rpartition("@")[2]
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/html\r\n"
            "User-Agent: Mozilla/5.0 (gateman doctor)\r\nConnection: close\r\n"
            "\r\n".encode()
        )
        return await read_answer(reader, max_body=_MAX_PAGE)


async def look(
    target: Target,
    settings: Settings,
    routes: Sequence[Route],
    progress: Callable[[str], None],
    *,
    page: PageSeen | None = None,
) -> LastingSeen:
    """Look at what time, size and number show; each for as long as its option says."""
    if not routes:
        return LastingSeen(page=page)
    origin = settings.origin or (page.origin if page is not None else default_origin(target))
    client = Client(target, settings, routes[0], origin)
    idle, size = await asyncio.gather(
        _look_at_idle(client, settings.idle_time, progress),
        _look_at_size(client, settings.message_size, settings.timeout, progress),
    )
    connections = await _look_at_connections(client, settings.connections, progress)
    return LastingSeen(page=page, idle=idle, size=size, connections=connections)


async def _look_at_idle(
    client: Client, seconds: float, progress: Callable[[str], None]
) -> IdleSeen | None:
    if not seconds:
        return None
    progress(f"silence for {seconds:g} s")
    async with client.conversation(_HANDSHAKE_TIME) as conversation:
        if isinstance(conversation, Attempt):
            return IdleSeen(asked=seconds, failure=conversation)
        await conversation.listen(seconds)
        return IdleSeen(asked=seconds, exchange=await conversation.finish())


async def _look_at_size(
    client: Client, size: int, seconds: float, progress: Callable[[str], None]
) -> SizeSeen | None:
    if not size:
        return None
    progress(f"a message of {size} bytes")
    loop = asyncio.get_running_loop()
    async with client.conversation(_HANDSHAKE_TIME) as conversation:
        if isinstance(conversation, Attempt):
            return SizeSeen(size=size, failure=conversation)
        begun_at = loop.time()
        conversation.send(Opcode.TEXT, b"a" * size)
        conversation.ping()
        await conversation.listen(seconds, lambda: conversation.has_pong)
        # A limit may be told of after the pong.
        await conversation.listen(0.3)
        return SizeSeen(
            size=size, exchange=await conversation.finish(), waited=loop.time() - begun_at
        )


async def _look_at_connections(
    client: Client, count: int, progress: Callable[[str], None]
) -> ConnectionsSeen | None:
    if not count:
        return None
    loop = asyncio.get_running_loop()
    begun_at = loop.time()
    open_ones: list[Conversation] = []
    failures: list[Attempt] = []
    local_error = ""
    async with AsyncExitStack() as stack:
        while len(open_ones) < count and len(failures) < _MAX_FAILURES and not local_error:
            progress(f"{len(open_ones)} of {count} connections")
            missing = min(_AT_ONCE, count - len(open_ones))
            for one in await asyncio.gather(*[_open(client, stack) for _ in range(missing)]):
                if isinstance(one, Conversation):
                    open_ones.append(one)
                elif one.silence is Silence.UNREACHABLE and one.error.startswith("[Errno 24]"):
                    local_error = "too many open files"
                else:
                    failures.append(one)
        await asyncio.gather(*[one.listen(_KEPT) for one in open_ones])
        lost = sum(not one.is_open for one in open_ones)
        await asyncio.gather(*[one.finish() for one in open_ones])
    return ConnectionsSeen(
        asked=count,
        opened=len(open_ones),
        failures=tuple(failures[:_MAX_FAILURES]),
        lost=lost,
        local_error=local_error,
        duration=loop.time() - begun_at,
    )


async def _open(client: Client, stack: AsyncExitStack) -> Conversation | Attempt:
    return await stack.enter_async_context(client.conversation(_HANDSHAKE_TIME))
