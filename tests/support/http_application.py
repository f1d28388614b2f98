"""An ASGI application that does what a path says, and clients that read its responses."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from .raw import RawClient, request
from .server import Server

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

HOST = "Host: a"
GET = request("GET / HTTP/1.1", HOST)


async def respond(
    send: Send, body: bytes, status: int = 200, *fields: tuple[bytes, bytes], length: bool = True
) -> None:
    """Send a whole response."""
    headers = [*fields, *([(b"content-length", b"%d" % len(body))] if length else [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def read_body(receive: Receive) -> bytes:
    """Read the whole body of a request."""
    body: bytes = b""
    while True:
        message = await receive()
        assert message["type"] == "http.request", message
        body += message["body"]
        if not message["more_body"]:
            return body


class Application:
    """
    An ASGI application without a lifespan, which tells what it got.

    Attributes:
        scopes: Of all requests.
        events: What else happened.
    """

    def __init__(self) -> None:
        self.scopes: list[Mapping[str, Any]] = []
        self.events: list[object] = []
        self.goes_on = asyncio.Event()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Route a request."""
        assert scope["type"] == "http"
        self.scopes.append(scope)
        await getattr(self, "do" + scope["path"].replace("/", "_"))(scope, receive, send)

    async def do_(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer with the method and the body."""
        body = await read_body(receive)
        await respond(send, scope["method"].encode() + b" " + body)

    async def do_early(self, _scope: object, _receive: Receive, send: Send) -> None:
        """Answer without a look at the body."""
        await respond(send, b"early")

    async def do_endless(self, _scope: object, receive: Receive, send: Send) -> None:
        """Answer in parts, and never end."""
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await receive()
        self.events.append((await receive())["type"])

    async def do_parts(self, _scope: object, _receive: Receive, send: Send) -> None:
        """Answer in parts, without a length."""
        await send({"type": "http.response.start", "status": 200})
        await self.goes_on.wait()
        for part in (b"one", b"", b"two"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"three"})

    async def do_wait(self, _scope: object, receive: Receive, send: Send) -> None:
        """Answer when the test says so, or when the client has left."""
        await receive()
        left = asyncio.ensure_future(receive())
        told = asyncio.ensure_future(self.goes_on.wait())
        await asyncio.wait([left, told], return_when=asyncio.FIRST_COMPLETED)
        self.events.append("left" if left.done() else "told")
        left.cancel()
        told.cancel()
        await respond(send, b"waited")

    async def do_large(self, _scope: object, _receive: Receive, send: Send) -> None:
        """Answer with more than the kernel takes."""
        await respond(send, bytes(20 << 20))

    async def do_raise(self, _scope: object, _receive: object, _send: object) -> None:
        """Raise what no client must see."""
        raise LookupError("secret")

    async def do_raise_late(self, _scope: object, _receive: object, send: Send) -> None:
        """Raise within a response."""
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise LookupError("secret")

    async def do_raise_behind(self, _scope: object, _receive: object, send: Send) -> None:
        """Raise behind a response."""
        await respond(send, b"whole")
        raise LookupError("secret")

    async def do_nothing(self, _scope: object, _receive: object, _send: object) -> None:
        """Return without a response."""

    async def do_bad_field(self, _scope: object, _receive: object, send: Send) -> None:
        """Try to split the response."""
        await respond(send, b"x", 200, (b"a", b"b\r\nset-cookie: c"))


async def read_response(client: RawClient, *, method: str = "GET") -> tuple[int, bytes]:
    """Read one response of a connection that is kept."""
    head = await client.read_head()
    if "transfer-encoding" in head.headers:
        body = b""
        while True:
            line = b""
            while not line.endswith(b"\r\n"):
                line += await client.read(1)
            size = int(line, 16)
            body += await client.read(size)
            assert await client.read(2) == b"\r\n"
            if not size:
                return head.status, body
    size = 0 if method == "HEAD" else int(head.headers["content-length"])
    return head.status, await client.read(size)


def counted(server: Server) -> dict[str, int]:
    """Give the counters of the server, but for its connections."""
    return {name: count for name, count in server.service.counts.items() if name != "connections"}
