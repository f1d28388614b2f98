"""Everybody gets what anybody says, as a user of websockets would write it."""

import argparse
import asyncio
import contextlib
import ssl

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed

crowd: set[ServerConnection] = set()


async def handle(connection: ServerConnection) -> None:
    """Pass on what somebody says, to all, also to whoever said it."""
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--certificate", help="PEM with the key in it; without, plain ws")
    arguments = parser.parse_args()
    context = None
    if arguments.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(arguments.certificate)
    asyncio.run(listen(arguments.port, context))


if __name__ == "__main__":
    main()
