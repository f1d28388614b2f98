"""
The engine alone, as a user of picows would write an echo: our ceiling.

Plain asyncio with aiofastnet's transports, as gateman runs it. Every default is picows' own.
"""

import argparse
import asyncio
import ssl

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


def listener(_request: WSUpgradeRequest) -> WSListener:
    """Make the listener of one connection."""
    return Echo()


async def serve(port: int, context: ssl.SSLContext | None) -> None:
    """Listen on loopback until killed."""
    server = await ws_create_server(listener, "127.0.0.1", port, ssl=context, use_aiofastnet=True)
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
    asyncio.run(serve(arguments.port, context))


if __name__ == "__main__":
    main()
