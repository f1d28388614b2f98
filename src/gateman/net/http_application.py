"""The HTTP application of one worker in this process, and its connections."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextvars import Context
from typing import Any, Protocol

from ..http.response import Response
from ..log import RateLimitedLogger
from ..request import Request
from .uvicorn_adapter import Application, UvicornState

_CLASSES = {status: f"http_{status // 100}xx" for status in range(100, 600)}

# For the application to end after its requests were cancelled.
_CANCEL_TIMEOUT = 1.0  # seconds


class ServedConnection(Protocol):
    """A connection of the application."""

    @property
    def is_stream(self) -> bool:
        """Whether the response is a stream of events, which does not end by itself."""

    def finish(self) -> None:
        """End it with the response; at once if it is idle."""

    def close(self, code: int, reason: str) -> None:
        """End it with the response; at once if that is a stream of events."""


class HttpApplication:
    """An ASGI application that answers the plain requests of a worker."""

    def __init__(
        self,
        application: Application,
        *,
        name: str,
        counts: Counter[str],
        answer: Callable[[Request], Response | None],
        own_paths: Iterable[str],
        max_requests: int | None,
        root_path: str,
        state: dict[str, Any],
        context: Context,
    ) -> None:
        self.answer = answer  # to requests that the application does not get
        self.own_paths = frozenset(map(str.encode, own_paths))
        self.connections: set[ServedConnection] = set()
        self.is_draining = False
        self._name = name
        self._counts = counts
        self.max_requests = math.inf if max_requests is None else max_requests
        self._loop = asyncio.get_running_loop()
        self._rate_limited = RateLimitedLogger()
        self.uvicorn = UvicornState(
            application, loop=self._loop, root_path=root_path, state=state, context=context
        )

    def count(self, status: Any) -> None:
        """Count a response, or a refusal in its place, by the class of the status."""
        cause = _CLASSES.get(status)
        if cause is not None:
            self._counts[cause] += 1

    def failed(self, scope: Mapping[str, Any], error: BaseException | None) -> None:
        self._counts["http_failed"] += 1
        # Without the query: it often carries a token.
        request = f"{scope['method']} {scope['path']!r}"
        now = self._loop.time()
        if error is None:
            message = f"{self._name}: the HTTP application returned without a whole response"
            self._rate_limited.error(f"{message} to {request}", message, now)
        else:
            kind = type(error).__name__
            self._rate_limited.error(
                f"{self._name}: the HTTP application raised {kind} for {request}", error, now
            )

    def drain(self) -> None:
        """End connections without a request, and the others with their response."""
        self.is_draining = True
        for connection in list(self.connections):
            connection.finish()

    def streams(self) -> list[ServedConnection]:
        """Return the connections whose responses are streams of events, which do not end."""
        return [connection for connection in self.connections if connection.is_stream]

    async def finish(self, timeout: float) -> None:  # noqa: ASYNC109 - a bound, not a scope
        """Wait for the application's requests, and cancel those that take longer."""
        for patience in (max(timeout, 0), _CANCEL_TIMEOUT):
            if self.uvicorn.tasks:
                _, late = await asyncio.wait(self.uvicorn.tasks, timeout=patience)
                for task in late:
                    task.cancel()
