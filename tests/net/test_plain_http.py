"""A port that speaks plain HTTP only, over real sockets: what a stranger may do there."""

from pathlib import Path

import pytest

from gateman.options import Limits
from tests.support.challenge_listener import listening
from tests.support.loop import on_loop, turns
from tests.support.raw import EOF, RESET, RawClient


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
