"""The HTTP API as an ASGI application, in front of the worker's own."""

import hmac
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from ..clients import server_api as api
from ..cluster.hub import Hub
from ..cluster.node import Node
from ..log import RateLimitedLogger
from .server_api import ServerApi

_JSON = (b"content-type", b"application/json")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


class ApiApplication:
    """Answers ``POST /api/METHOD`` with the key; the rest is for another application."""

    def __init__(
        self,
        local_node: Node,
        key: str,
        application: Application | None,
        now: Callable[[], float],
    ) -> None:
        self._server_api = ServerApi(Hub(local_node))
        self._key = key.encode()
        self._application = application
        self._now = now
        self._rate_limited = RateLimitedLogger()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            method = _method_of(scope)
            if method in api.METHODS or self._application is None:
                await self._answer(method, scope, receive, send)
                return
        elif self._application is None:
            raise RuntimeError("this application has no lifespan")
        await self._application(scope, receive, send)

    async def _answer(
        self, method: str, scope: Mapping[str, Any], receive: Receive, send: Send
    ) -> None:
        headers = dict(scope["headers"])
        if method not in api.METHODS:
            await _respond(send, 404, b'{"error":"there is no such path"}')
        elif not self._is_allowed(headers):
            client = scope["client"]
            self._rate_limited.warning(
                "key",
                f"a request of the HTTP API without the right key, from {client and client[0]}",
                self._now(),
            )
            await _respond(send, 401, b'{"error":"unauthorized"}')
        elif scope["method"] != "POST":
            await _respond(send, 405, b'{"error":"the API takes POST"}', (b"allow", b"POST"))
        else:
            answer, failure = await self._server_api.answer(method, await _read(receive))
            wants_status = headers.get(b"x-centrifugo-error-mode") == b"transport"
            status = 200 if failure is None or not wants_status else failure.status
            await _respond(send, status, api.encode(answer))

    def _is_allowed(self, headers: Mapping[bytes, bytes]) -> bool:
        given = headers.get(b"x-api-key")
        if given is None:
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            if scheme.lower() != b"apikey":
                return False
        # In constant time: it must not tell how much of a guess is right.
        return hmac.compare_digest(given.strip(), self._key)


def _method_of(scope: Mapping[str, Any]) -> str:
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return path.removeprefix(api.PREFIX) if path.startswith(api.PREFIX) else ""


async def _read(receive: Receive) -> bytes:
    """Read a body, of at most ``limits.max_body_size``."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)


async def _respond(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send(
        {"type": "http.response.start", "status": status, "headers": [_JSON, length, *headers]}
    )
    await send({"type": "http.response.body", "body": body})
