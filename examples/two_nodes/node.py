"""One node of the cluster that cluster.py starts: a service of two processes."""

import os

from gateman import Connection, Worker, hub

NAME = os.environ["NAME"]

worker = Worker(
    f"websocket://127.0.0.1:{os.environ['PORT']}",
    name=NAME,
    count=2,
    bus=os.environ["BUS"],
    test_page=True,
)


@worker.on_open
async def welcome(connection: Connection) -> None:
    """Add a new client to the group of all."""
    await connection.join("everybody")
    connection.send(f"This is {NAME}, process {os.getpid()}.")


@worker.on_message
def tell(connection: Connection, message: str | bytes) -> None:
    """Pass a line on, over NATS if a member is on the other node."""
    hub.send_to_group("everybody", f"{NAME}: {message!r}")


Worker.run_all()
