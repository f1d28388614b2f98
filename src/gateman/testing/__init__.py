"""
Tests for handlers, on the test's own event loop: no ports, no processes, no waiting.

    async with testing.connect(worker, "/chat?token=t") as client:
        await client.send("hi")
        assert await client.receive() == "hello"

The client is that of `websockets <https://websockets.readthedocs.io>`_. The server is what
production runs, from accept on; only TLS is left out. It works with any runner of async tests:
pytest's plugins, ``unittest.IsolatedAsyncioTestCase``, ``asyncio.run``.
"""

from ..errors import ConfigError

try:
    from .client import Client, Closed, Refused
    from .clock import advance
    from .connecting import connect, open_stream, refused
    from .errors import expected
    from .loading import load
    from .packets import cut_at_every_byte
    from .process import Process
    from .service import Service, service
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] != "websockets":
        raise
    raise ConfigError(
        "gateman.testing needs the package websockets, which is not installed",
        "pip install 'gateman[testing]'",
    ) from None

__all__ = [
    "Client",
    "Closed",
    "Process",
    "Refused",
    "Service",
    "advance",
    "connect",
    "cut_at_every_byte",
    "expected",
    "load",
    "open_stream",
    "refused",
    "service",
]
