"""What handshakes share: numbers, and those who are told that they may not come in."""

from tests.support.counted_server import admission, handshake_config, serve_counted
from tests.support.loop import eventually, on_loop
from tests.support.preambles import dial
from tests.support.server import Journal


@on_loop
async def test_connections_are_numbered() -> None:
    """From one, in the order in which they came, and no number twice."""
    journal = Journal()
    async with serve_counted(**journal.callbacks()) as server:
        for _ in range(2):
            await server.open()
        await (await server.open()).close()
        await journal.until("on_close")
        await server.open()

        assert [connection.id for connection in journal.connections] == [1, 2, 3, 4]


@on_loop
async def test_rejected_connections_are_tracked_until_they_end() -> None:
    """Who is turned away is no connection of the worker, and still ends with it."""
    journal = Journal()
    async with serve_counted(limits={"max_connections": 1}, **journal.callbacks()) as server:
        config = handshake_config(server)
        await server.open()
        rejected = [await dial(server.address) for _ in range(3)]
        await eventually(lambda: len(config.rejected) == 3)
        rejected[0].close()
        await eventually(lambda: len(config.rejected) == 2)

        assert len(journal.connections) == 1
        assert admission(server).count == 3
    assert config.rejected == set()
    for stranger in rejected:
        stranger.close()
