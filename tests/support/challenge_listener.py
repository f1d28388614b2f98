"""A plain HTTP port on loopback, with an empty storage and what it has noticed."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from gateman.acme.options import parse
from gateman.acme.storage import Storage
from gateman.listen import ListenAddress
from gateman.net import sockets
from gateman.options import Limits, Timeouts
from gateman.runtime.challenge_listener import ChallengeListener

from .raw import RawClient, Response


class Listening:
    """A listener that answers for ``example.com``, and what it has noticed."""

    def __init__(self, folder: Path) -> None:
        self.storage = Storage.prepare(folder / "acme")
        self.counts: Counter[str] = Counter()
        self.port = 0
        self.closing = AsyncExitStack()

    def noticed(self, cause: str, _message: str, _detail: str = "") -> None:
        """Count as a service does."""
        self.counts[cause] += 1

    async def connect(self) -> RawClient:
        client = await RawClient.connect(("127.0.0.1", self.port))
        self.closing.push_async_callback(client.close)
        return client

    async def ask(self, target: str, *, method: str = "GET", host: str = "example.com") -> Response:
        """Ask, and read the answer and the end behind it."""
        client = await self.connect()
        await client.send(f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        return await client.read_response(method=method)


@asynccontextmanager
async def listening(
    folder: Path, *, handshake: float = 20.0, limits: Limits | None = None
) -> AsyncIterator[Listening]:
    made = Listening(folder)
    certificates = parse("example.com", folder=folder, default_storage=made.storage.folder)
    bound = sockets.bind(ListenAddress.parse("websocket://127.0.0.1:0"))
    listener = ChallengeListener(
        bound,
        certificates,
        port=443,
        limits=limits or Limits(),
        timeouts=Timeouts(handshake=handshake, close=2.0),
        events=made,  # type: ignore[arg-type] # only what is noticed
    )
    made.port = bound[0].getsockname()[1]
    listener.start()
    async with made.closing:
        try:
            yield made
        finally:
            listener.close()
            sockets.release(bound)
