"""
What hostile peers are let loose on: gateman with its default limits, and compression.

It echoes; or it never comes to an end with a message; or it stops reading at the first; or it sends
to those that asked for it.
"""

import asyncio
import logging

import command_line

from gateman import Connection, Deflate, Worker

# Seconds until a peer that asked for it is sent to: time for it to do something first.
PUSH_DELAY = 2.0
# Too small to be compressed, and so many that the kernel does not take them all.
PUSH_SIZE = 250  # bytes
PUSH_COUNT = 40_000  # messages


def echo(connection: Connection, message: str | bytes) -> None:
    """Send back what came; to one that asks for a push, more than may wait for it."""
    if message == "push":
        asyncio.get_running_loop().call_later(PUSH_DELAY, push, connection)
    else:
        connection.send(message)


def push(connection: Connection) -> None:
    """Send what the kernel takes, and until nothing more may wait."""
    for _ in range(PUSH_COUNT):
        connection.send(bytes(PUSH_SIZE))


async def hang(_connection: Connection, _message: str | bytes) -> None:
    """Never come to an end."""
    await asyncio.Event().wait()


def pause(connection: Connection, _message: str | bytes) -> None:
    """Stop reading, for ever."""
    connection.pause_recv()


def main() -> None:
    """Read the arguments and serve."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--hang", action="store_true")
    parser.add_argument("--pause", action="store_true")
    arguments = parser.parse_args()
    worker = Worker(
        **command_line.listening(arguments),
        compression=Deflate(window_bits=15, context_takeover=True),
    )
    worker.on_message = hang if arguments.hang else pause if arguments.pause else echo
    # Dropped messages and broken limits are what this is about.
    logging.getLogger("gateman").addHandler(logging.NullHandler())
    Worker.run_all()


if __name__ == "__main__":
    main()
