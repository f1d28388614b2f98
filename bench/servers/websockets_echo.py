"""
An echo as a user of websockets would write it, on uvloop.

Without compression unless told otherwise; pings and limits are its own.
"""

import contextlib
import ssl

import command_line
import uvloop
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

MAX_SIZE = 2 << 20  # bytes of a message


async def echo(connection: ServerConnection) -> None:
    """Send back what came, as it came."""
    with contextlib.suppress(ConnectionClosed):
        async for message in connection:
            await connection.send(message)


async def listen(port: int, context: ssl.SSLContext | None, *, compress: bool) -> None:
    """Listen on loopback until killed."""
    async with serve(
        echo,
        "127.0.0.1",
        port,
        ssl=context,
        compression="deflate" if compress else None,
        max_size=MAX_SIZE,
    ) as server:
        await server.serve_forever()


def main() -> None:
    """Read the arguments and serve."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--compress", action="store_true")
    arguments = parser.parse_args()
    context = command_line.context_of(arguments)
    uvloop.run(listen(arguments.port, context, compress=arguments.compress))


if __name__ == "__main__":
    main()
