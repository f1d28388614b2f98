"""
An echo over uvicorn, as plain ASGI: without a framework on top.

On uvloop and httptools, with the WebSocket implementation that it chooses by itself and that is its
fastest here (``websockets-sansio``); without compression unless told otherwise.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import command_line
import uvicorn

MAX_SIZE = 2 << 20  # bytes of a message

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def echo(_scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Send back what came, as it came."""
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        text = event.get("text")
        if text is None:
            await send({"type": "websocket.send", "bytes": event["bytes"]})
        else:
            await send({"type": "websocket.send", "text": text})


def main() -> None:
    """Read the arguments and serve."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--compress", action="store_true")
    parser.add_argument("--ws", default="websockets-sansio", help="its implementation")
    arguments = parser.parse_args()
    uvicorn.run(
        echo,
        host="127.0.0.1",
        port=arguments.port,
        loop="uvloop",
        http="httptools",
        ws=arguments.ws,
        ws_max_size=MAX_SIZE,
        ws_per_message_deflate=arguments.compress,
        lifespan="off",
        log_level="warning",
        ssl_certfile=arguments.certificate,
        ssl_keyfile=arguments.certificate,
        ssl_ciphers="DEFAULT",
    )


if __name__ == "__main__":
    main()
