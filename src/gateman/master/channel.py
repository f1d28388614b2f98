"""
What the master and a process say to each other: a line of JSON at a time, over a socket pair.

From the process: ``{"say": "ready", ...}``, ``{"say": "beat", ...}`` each second and ``{"say":
"answer", "to": number, ...}``. From the master: ``{"do": "accept", "numbers": [...]}``, ``{"do":
"drain"}``, ``{"do": "stop"}`` and ``{"do": "report", "number": ...}``, ``{"do": "connections",
"number": ..., "limit": ...}``, which want an answer with that number.

The end of it is the end of the other side.
"""

import json
from typing import Any

# The longest is a list of connections.
MAX_LINE_SIZE = 8 << 20  # bytes


class Lines:
    """Turns received bytes into messages, cut wherever they may be."""

    def __init__(self, max_size: int = MAX_LINE_SIZE) -> None:
        """
        Start with nothing received.

        Args:
            max_size: Bytes that a line may have.
        """
        self._received = bytearray()
        self._max_size = max_size

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """
        Take bytes.

        Args:
            data: What was received.

        Returns:
            The messages that are complete now.

        Raises:
            ValueError: A line is too long, or is no JSON object.
        """
        self._received += data
        *lines, rest = self._received.split(b"\n")
        self._received = rest
        if max(map(len, (rest, *lines))) > self._max_size:
            raise ValueError(f"a line has more than {self._max_size} bytes")
        messages = [json.loads(line) for line in lines]
        if not all(isinstance(message, dict) for message in messages):
            raise ValueError("a line is no JSON object")
        return messages


def line(message: dict[str, Any]) -> bytes:
    """
    Write a message.

    Args:
        message: A JSON object.

    Returns:
        Its line.
    """
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"
