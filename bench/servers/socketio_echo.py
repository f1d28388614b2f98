"""
An echo as a user of python-socketio would write it, under uvicorn.

WebSocket only, uvloop and httptools. Its messages carry a frame of their own (``42["message",…]``),
which counts as part of their size.
"""

import command_line
import socketio
import uvicorn

MAX_SIZE = 2 << 20  # bytes of a message
PING_INTERVAL = 600  # seconds: the load generator answers none

server = socketio.AsyncServer(
    async_mode="asgi",
    transports=["websocket"],
    max_http_buffer_size=MAX_SIZE,
    http_compression=False,
    ping_interval=PING_INTERVAL,
)


@server.event  # type: ignore[untyped-decorator]  # it may be missing
async def message(client: str, data: str) -> None:
    """Send back what came."""
    await server.send(data, to=client)


def main() -> None:
    """Read the arguments and serve."""
    arguments = command_line.parser(__doc__).parse_args()
    uvicorn.run(
        socketio.ASGIApp(server),
        host="127.0.0.1",
        port=arguments.port,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        ws_max_size=MAX_SIZE,
        ws_per_message_deflate=False,
        lifespan="off",
        log_level="warning",
        ssl_certfile=arguments.certificate,
        ssl_keyfile=arguments.certificate,
        ssl_ciphers="DEFAULT",
    )


if __name__ == "__main__":
    main()
