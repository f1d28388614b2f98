"""Everybody gets what anybody says, as a user of websockets would write it."""

import asyncio
import contextlib
import ssl

import command_line
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed

crowd: set[ServerConnection] = set()


async def handle(connection: ServerConnection) -> None:
    """Send each message to all clients, including its sender."""
    crowd.add(connection)
    try:
        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                broadcast(crowd, message)
    finally:
        crowd.discard(connection)


async def listen(port: int, context: ssl.SSLContext | None) -> None:
    """Listen on loopback until killed; without compression, as gateman does by default."""
    async with serve(handle, "127.0.0.1", port, ssl=context, compression=None) as server:
        await server.serve_forever()


def main() -> None:
    """Read the arguments and serve."""
    arguments = command_line.parser(__doc__).parse_args()
    context = command_line.context_of(arguments)
    asyncio.run(listen(arguments.port, context))


if __name__ == "__main__":
    main()
