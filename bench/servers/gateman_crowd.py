"""Everybody gets what anybody says, as a user of gateman would write it, through the hub."""

import command_line

from gateman import Connection, Worker, hub


async def join(connection: Connection) -> None:
    """Put everybody into one group."""
    await connection.join("crowd")


def tell(_: Connection, message: str) -> None:
    """Send each message to all clients, including its sender."""
    hub.send_to_group("crowd", message)


def main() -> None:
    """Read the arguments and serve."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--count", type=int, default=1, help="processes")
    arguments = parser.parse_args()
    worker = Worker(
        **command_line.listening(arguments),
        count=arguments.count,
        limits={"max_connections_per_ip": None},
    )
    worker.on_open = join
    worker.on_message = tell
    Worker.run_all()


if __name__ == "__main__":
    main()
