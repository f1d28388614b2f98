"""
An echo as a user of aiohttp would write it, on uvloop.

Without compression unless told otherwise; there are no pings unless asked for.
"""

import asyncio
import ssl

import command_line
import uvloop
from aiohttp import WSMsgType, web

MAX_SIZE = 2 << 20  # bytes of a message


async def listen(port: int, context: ssl.SSLContext | None, *, compress: bool) -> None:
    """Listen on loopback until killed."""

    async def echo(request: web.Request) -> web.WebSocketResponse:
        """Send back what came, as it came."""
        connection = web.WebSocketResponse(compress=compress, max_msg_size=MAX_SIZE)
        await connection.prepare(request)
        async for message in connection:
            if message.type == WSMsgType.TEXT:
                await connection.send_str(message.data)
            elif message.type == WSMsgType.BINARY:
                await connection.send_bytes(message.data)
        return connection

    application = web.Application()
    application.router.add_get("/", echo)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
    await asyncio.Event().wait()


def main() -> None:
    """Read the arguments and serve."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--compress", action="store_true")
    arguments = parser.parse_args()
    context = command_line.context_of(arguments)
    uvloop.run(listen(arguments.port, context, compress=arguments.compress))


if __name__ == "__main__":
    main()
