"""
An echo as a user of Tornado would write it, on uvloop.

Without compression unless told otherwise; there are no pings unless asked for.
"""

import asyncio
import ssl
from typing import Any

import command_line
import uvloop
from tornado.web import Application
from tornado.websocket import WebSocketClosedError, WebSocketHandler

MAX_SIZE = 2 << 20  # bytes of a message


class Echo(WebSocketHandler):  # type: ignore[misc]  # it may be missing
    """Send back what came, as it came."""

    def initialize(self, *, compress: bool) -> None:
        """Take what the routing table holds for it."""
        self._compress = compress

    def check_origin(self, origin: str) -> bool:
        """Let everybody in."""
        return bool(origin)

    def get_compression_options(self) -> dict[str, Any] | None:
        """Compress, or not."""
        return {} if self._compress else None

    async def on_message(self, message: str | bytes) -> None:
        """Send back what came; waiting is what makes slow readers wait."""
        try:
            await self.write_message(message, binary=isinstance(message, bytes))
        except WebSocketClosedError:
            return


async def listen(port: int, context: ssl.SSLContext | None, *, compress: bool) -> None:
    """Listen on loopback until killed."""
    application = Application(
        [("/", Echo, {"compress": compress})],
        websocket_max_message_size=MAX_SIZE,
        log_function=lambda _: None,
    )
    application.listen(port, "127.0.0.1", ssl_options=context)
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
