"""A chat for containers, of which each is a node; NATS connects them. See docs/containers.md."""

import os
import socket

from gateman import Worker, hub

# The networks of the proxies or load balancers in front, such as "10.0.0.0/8 192.168.0.0/16".
PROXIES = os.environ.get("TRUSTED_PROXIES", "").split()
MAX_CLIENTS = int(os.environ.get("MAX_CLIENTS", "10000"))

worker = Worker(
    "websocket://0.0.0.0:8282", name="chat", trusted_proxies=PROXIES or None, test_page=True
)


@worker.on_health
def has_room(worker):
    """Send new clients to another container if this one has enough."""
    return len(worker.connections) < MAX_CLIENTS


@worker.on_open
async def enter(connection):
    await connection.join("everybody")
    connection.send(f"This is {socket.gethostname()}.")


@worker.on_message
def say(connection, message):
    hub.send_to_group("everybody", message)


if __name__ == "__main__":
    Worker.run_all()
