"""
The engine alone, as a user of picows would write an echo.

Plain asyncio with aiofastnet's transports. Every default is picows' own. With
``--str`` text is handed over as ``str``, as applications want it, and not as the bytes that came.
"""

import asyncio
import ssl

import command_line
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server


class Echo(WSListener):
    """Send back what came, as it came."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Echo a message; answer a close."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        else:
            transport.send(frame.msg_type, frame.get_payload_as_bytes())


class EchoStr(Echo):
    """Send back text as an application does: decoded, and encoded again."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Echo a text; leave the rest."""
        if frame.msg_type == WSMsgType.TEXT:
            transport.send(frame.msg_type, frame.get_payload_as_utf8_text())
        else:
            super().on_ws_frame(transport, frame)


async def serve(port: int, context: ssl.SSLContext | None, echo: type[WSListener]) -> None:
    """Listen on loopback until killed."""

    def listener(_request: WSUpgradeRequest) -> WSListener:
        return echo()

    server = await ws_create_server(listener, "127.0.0.1", port, ssl=context, use_aiofastnet=True)
    await server.serve_forever()


def main() -> None:
    """Read the arguments and serve."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--str", action="store_true")
    arguments = parser.parse_args()
    echo = EchoStr if arguments.str else Echo
    asyncio.run(serve(arguments.port, command_line.context_of(arguments), echo))


if __name__ == "__main__":
    main()
