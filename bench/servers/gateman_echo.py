"""
An echo as a user of gateman would write it, with everything on that is on by default.

Heartbeat, UTF-8 check, the closing handshake and all limits are in force, but two, which count what
a load generator alone is too much for: connections of one address, and handshakes.
"""

import logging

import command_line

from gateman import Connection, Deflate, Worker


def echo(connection: Connection, message: str | bytes) -> None:
    """Send back what came, as it came."""
    connection.send(message)


async def echo_async(connection: Connection, message: str | bytes) -> None:
    """Send back what came, from a coroutine."""
    connection.send(message)


def main() -> None:
    """Read the arguments and serve."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--async", dest="is_async", action="store_true")
    parser.add_argument("--compress", action="store_true")
    parser.add_argument("--scheme", default="websocket")
    arguments = parser.parse_args()
    worker = Worker(
        **command_line.listening(arguments, arguments.scheme),
        compression=Deflate() if arguments.compress else None,
        limits={"max_connections_per_ip": None, "max_handshakes_per_second": None},
    )
    worker.on_message = echo_async if arguments.is_async else echo
    logging.getLogger("gateman").setLevel(logging.WARNING)
    Worker.run_all()


if __name__ == "__main__":
    main()
