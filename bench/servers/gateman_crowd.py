"""Everybody gets what anybody says, as a user of gateman would write it, through the hub."""

import argparse

from gateman import Connection, Worker, hub


async def join(connection: Connection) -> None:
    """Put everybody into one group."""
    await connection.join("crowd")


def tell(_: Connection, message: str) -> None:
    """Pass on what somebody says, to all, also to whoever said it."""
    hub.send_to_group("crowd", message)


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--certificate", help="PEM with the key in it; without, plain ws")
    parser.add_argument("--count", type=int, default=1, help="processes")
    arguments = parser.parse_args()
    pem = arguments.certificate
    worker = Worker(
        f"websocket://127.0.0.1:{arguments.port}",
        {"ssl": {"local_cert": pem, "local_pk": pem}} if pem else None,
        transport="ssl" if pem else "tcp",
        count=arguments.count,
        limits={"max_connections_per_ip": None},
    )
    worker.on_open = join
    worker.on_message = tell
    Worker.run_all()


if __name__ == "__main__":
    main()
