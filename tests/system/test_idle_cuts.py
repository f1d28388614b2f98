"""A worker notices that a proxy cuts silent connections, and says so with a code."""

import asyncio

from tests.support.deadlines import TIMEOUT
from tests.support.haproxy import haproxy
from tests.support.loop import on_loop
from tests.support.proxies import program
from tests.support.raw import handshake
from tests.support.server import serve


@on_loop
async def test_cuts_of_a_proxy_are_told() -> None:
    program("haproxy")
    async with serve() as server:
        with haproxy(server.port, "", mode="http", lines=["timeout tunnel 6s"]) as proxy:

            async def stay(delay: float) -> None:
                await asyncio.sleep(delay)  # So that they end at different moments.
                reader, writer = await asyncio.open_connection(*proxy.address)
                writer.write(handshake())
                async with asyncio.timeout(TIMEOUT):
                    while await reader.read(1 << 16):
                        pass
                writer.close()

            await asyncio.gather(*[stay(1.2 * n) for n in range(5)])

        (line,) = server.lines()

    assert line.startswith(
        "worker: 5 connections in a row ended without a Close after 6.0 s without a byte: "
    )
    assert line.endswith(" (IDLE_CUTS)")
