"""Clients of the client protocol that write their own frames, and a worker to talk to."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from gateman import Channel, Worker, serve

from .deadlines import TIMEOUT

OPEN = Channel(subscribe=True, publish=True)
KEPT = Channel(subscribe=True, publish=True, history=True, history_size=10)


class Talk:
    """A client that writes its own frames; replies and pushes are kept apart."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0
        self._replies: dict[int, Any] = {}
        self.pushes: list[Any] = []

    async def ask(self, **request: Any) -> Any:
        """Send a command, and return its answer."""
        return await self.answer(await self.send(**request))

    async def answer(self, number: int) -> Any:
        """Wait for the answer to a command."""
        while number not in self._replies:
            await self._read()
        return self._replies.pop(number)

    async def send(self, **request: Any) -> int:
        self._number += 1
        await self._socket.send(json.dumps({"id": self._number, **request}))
        return self._number

    async def write(self, frame: str) -> None:
        """Send a frame as it is."""
        await self._socket.send(frame)

    @property
    def answered(self) -> list[int]:
        """The answers that have come, and nobody has waited for."""
        return list(self._replies)

    async def push(self) -> Any:
        """Return the next push."""
        while not self.pushes:
            await self._read()
        return self.pushes.pop(0)

    async def closed(self) -> tuple[int, str]:
        """Wait for the end of the connection, and return its code and reason."""
        with pytest.raises(ConnectionClosed) as caught:
            await self._read_to_the_end()
        assert caught.value.rcvd is not None
        return caught.value.rcvd.code, caught.value.rcvd.reason

    async def _read_to_the_end(self) -> None:
        while True:
            await self._read()

    def abort(self) -> None:
        """Lose the connection without a Close."""
        self._socket.transport.abort()

    async def leave(self) -> None:
        await self._socket.close()

    async def _read(self) -> None:
        async with asyncio.timeout(TIMEOUT):
            frame = await self._socket.recv()
        assert isinstance(frame, str)
        for line in frame.split("\n"):
            reply = json.loads(line)
            if "id" in reply:
                self._replies[reply.pop("id")] = reply
            elif "push" in reply:
                self.pushes.append(reply["push"])


@asynccontextmanager
async def service(
    *declare: Callable[..., Any], **options: Any
) -> AsyncIterator[Callable[..., Any]]:
    """Serve a worker with these callbacks; yield a function that connects a client."""
    worker = Worker("websocket://127.0.0.1:0", client_protocol="centrifuge", **options)
    for function in declare:
        worker.declare(function.__name__, function)
    sockets = []
    async with serve(worker) as serving:

        async def client(**request: Any) -> Talk:
            sockets.append(await connect(serving.urls[0]))
            talk = Talk(sockets[-1])
            talk.hello = await talk.ask(connect=request)  # type: ignore[attr-defined]
            return talk

        try:
            yield client
        finally:
            for socket in sockets:
                await socket.close()


def error(code: int, message: str, *, temporary: bool = False) -> Any:
    """Write the answer that refuses a command."""
    return {
        "error": {
            "code": code,
            "message": message,
            **({"temporary": True} if temporary else {}),
        }
    }


DENIED = error(103, "permission denied")
