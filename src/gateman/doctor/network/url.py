"""The URL of a WebSocket: what clients make of it. PURE."""

from ..target import Target


def parse(url: str) -> Target:
    """
    Read a URL.

    Raises:
        ConfigError: It is not the URL of a WebSocket.
    """
    raise NotImplementedError
