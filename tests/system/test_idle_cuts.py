"""A worker notices that a proxy cuts silent connections, and says so with a code."""

import asyncio
import re

from tests.support.deadlines import TEST_TIMEOUT
from tests.support.haproxy import haproxy
from tests.support.loop import on_loop
from tests.support.proxies import program
from tests.support.raw import handshake
from tests.support.server import serve


@on_loop
async def test_cuts_of_a_proxy_are_told() -> None:
    """Once five in a row agree, which takes more than five on a busy machine."""
    program("haproxy")
    async with serve() as server:
        with haproxy(server.port, "", mode="http", lines=["timeout tunnel 6s"]) as proxy:

            async def stay() -> None:
                reader, writer = await asyncio.open_connection(*proxy.address)
                try:
                    writer.write(handshake())
                    while await reader.read(1 << 16):
                        pass
                finally:
                    writer.close()

            clients: list[asyncio.Future[None]] = []
            lines: list[str] = []
            async with asyncio.timeout(TEST_TIMEOUT - 10):
                # The server may hear of the fifth end before its client does.
                while not lines or sum(client.done() for client in clients) < 5:
                    clients.append(asyncio.ensure_future(stay()))
                    await asyncio.sleep(1.2)  # So that they end at different moments.
                    lines += server.lines()
            for client in clients:
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)

    found = re.fullmatch(
        "worker: 5 connections in a row ended without a Close after ([0-9.]+) s without a byte:"
        r" .* \(IDLE_CUTS\)",
        lines[0],
    )
    assert found is not None, lines
    assert float(found[1]) >= 6.0
    assert len(lines) == 1
