"""The plain HTTP port of a worker with ACME: challenges are answered, and the rest redirected."""

from pathlib import Path

import pytest

from gateman.acme.options import HTTP_01
from gateman.runtime.challenge_listener import https_port
from tests.support.challenge_listener import listening
from tests.support.loop import on_loop


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
    ("port", "http_port", "wanted"), [(443, 80, 443), (8443, 80, 8443), (8443, 8080, 443)]
)
def test_a_port_that_is_mapped_is_443_outside(port: int, http_port: int, wanted: int) -> None:
    assert https_port(port, http_port) == wanted
