"""The plain HTTP port over real sockets: challenges, redirects, and what a stranger may do."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from gateman.acme.options import HTTP_01, parse
from gateman.acme.storage import Storage
from gateman.listen import ListenAddress
from gateman.net import sockets
from gateman.options import Limits, Timeouts
from gateman.runtime.challenge_listener import ChallengeListener, https_port
from tests.support.loop import on_loop, turns
from tests.support.raw import EOF, RESET, RawClient, Response


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


@on_loop
async def test_an_open_challenge_is_answered(tmp_path: Path) -> None:
    async with listening(tmp_path) as made:
        target = "/.well-known/acme-challenge/token"
        assert (await made.ask(target)).status == 404
        made.storage.write_challenge(HTTP_01, "token", b"token.thumbprint")
        response = await made.ask(target)
        made.storage.remove_challenge(HTTP_01, "token")

        assert (response.status, response.body) == (200, b"token.thumbprint")
        assert (await made.ask(target)).status == 404
        assert made.counts == {"acme_challenge": 1, "acme_challenge_unknown": 2}


@on_loop
async def test_everything_else_is_redirected(tmp_path: Path) -> None:
    async with listening(tmp_path) as made:
        response = await made.ask("/chat?room=1")
        head = await made.ask("/chat", method="HEAD")
        websocket = await made.connect()
        await websocket.send(
            b"GET /chat HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )

        assert (response.status, response.headers["location"]) == (
            308,
            "https://example.com/chat?room=1",
        )
        assert (head.status, head.body) == (308, b"")
        assert (await websocket.read_response()).status == 308
        assert (await made.ask("/", host="else.test")).status == 421


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * (17 << 10), 431),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n", 405),
        (b"GET / HTTP/2.0\r\nHost: example.com\r\n\r\n", 505),
    ],
)
@on_loop
async def test_bad_requests_are_refused(tmp_path: Path, sent: bytes, status: int) -> None:
    async with listening(tmp_path) as made:
        client = await made.connect()
        await client.send(sent)

        assert (await client.read_response()).status == status


@on_loop
async def test_silent_clients_are_cut_off(tmp_path: Path) -> None:
    async with listening(tmp_path, handshake=0.2) as made:
        client = await made.connect()
        await client.send(b"GET / HTTP/1.1\r\n")

        assert (await client.read_end())[1] in {EOF, RESET}


@on_loop
async def test_one_address_has_so_many_connections_and_no_more(tmp_path: Path) -> None:
    async with listening(tmp_path, limits=Limits(max_connections_per_ip=2)) as made:
        clients = [await made.connect() for _ in range(3)]
        await clients[2].send(b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")

        assert (await clients[2].read_response()).status == 429
        for client in clients[:2]:
            await client.send(b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")
            assert (await client.read_response()).status == 308
        assert (await made.ask("/")).status == 308


@on_loop
async def test_connections_end_with_the_listener(tmp_path: Path) -> None:
    async with listening(tmp_path) as made:
        client = await made.connect()
        await client.send(b"GET / HTTP/1.1\r\n")
        await turns()
        made.closing.push_async_callback(_read_end, client)


async def _read_end(client: RawClient) -> None:
    assert (await client.read_end())[1] in {EOF, RESET}


@pytest.mark.parametrize(
    ("port", "http_port", "wanted"), [(443, 80, 443), (8443, 80, 8443), (8443, 8080, 443)]
)
def test_a_port_that_is_mapped_is_443_outside(port: int, http_port: int, wanted: int) -> None:
    assert https_port(port, http_port) == wanted
