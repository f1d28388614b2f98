"""
An echo as a user of socketify (uWebSockets, called from Python) would write it.

Without compression unless told otherwise.
"""

from typing import Any

import command_line
from socketify import App, AppListenOptions, AppOptions, CompressOptions, OpCode

MAX_SIZE = 2 << 20  # bytes of a message, and of what waits to be sent


def echo(connection: Any, message: str | bytes, opcode: OpCode) -> None:
    """Send back what came, as it came."""
    connection.send(message, opcode)


def echo_compressed(connection: Any, message: str | bytes, opcode: OpCode) -> None:
    """Send back what came, compressed."""
    connection.send(message, opcode, compress=True)


def main() -> None:
    """Read the arguments and serve."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--compress", action="store_true")
    arguments = parser.parse_args()
    pem = arguments.certificate
    app = App(AppOptions(key_file_name=pem, cert_file_name=pem)) if pem else App()
    # SHARED keeps no context between messages.
    compression = CompressOptions.SHARED_COMPRESSOR if arguments.compress else 0
    app.ws(
        "/*",
        {
            "compression": compression,
            "max_payload_length": MAX_SIZE,
            "max_backpressure": 2 * MAX_SIZE,
            "message": echo_compressed if arguments.compress else echo,
        },
    )
    app.listen(AppListenOptions(port=arguments.port, host="127.0.0.1"))
    app.run()


if __name__ == "__main__":
    main()
