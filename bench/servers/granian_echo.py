"""
An echo over granian, by its own interface (RSGI), which is its fastest.

One worker, one runtime thread, uvloop. It compresses no WebSocket.
"""

from pathlib import Path
from typing import Any

import command_line
from granian import Granian
from granian.constants import Interfaces, Loops
from granian.rsgi import WebsocketMessageType


async def echo(_scope: Any, protocol: Any) -> None:
    """Send back what came, as it came."""
    connection = await protocol.accept()
    while (message := await connection.receive()).kind != WebsocketMessageType.close:
        if message.kind == WebsocketMessageType.string:
            await connection.send_str(message.data)
        else:
            await connection.send_bytes(message.data)
    protocol.close()


def main() -> None:
    """Read the arguments and serve."""
    arguments = command_line.parser(__doc__).parse_args()
    pem = Path(arguments.certificate) if arguments.certificate else None
    Granian(
        "granian_echo:echo",
        "127.0.0.1",
        arguments.port,
        interface=Interfaces.RSGI,
        workers=1,
        runtime_threads=1,
        loop=Loops.uvloop,
        working_dir=Path(__file__).parent,
        log_enabled=False,
        ssl_cert=pem,
        ssl_key=pem,
    ).serve()


if __name__ == "__main__":
    main()
