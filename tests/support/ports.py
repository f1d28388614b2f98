"""Ports for servers that cannot take port 0 and tell which they got."""

import itertools
import os
import socket
from contextlib import suppress

# Not from the kernel's range for clients, where a connection could take the port before the server
# does; and above 10080, the last one that browsers refuse. Processes that run tests in parallel
# begin far apart.
_PORTS = itertools.cycle(range(10_081, 32_000))
next(itertools.islice(_PORTS, os.getpid() * 1009 % 21_919, None))


def free_port() -> int:
    """Return a loopback port on which nothing listens now; no port is returned twice soon."""
    for port in itertools.islice(_PORTS, 21_919):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise RuntimeError("no port is free")
