"""What a protocol is: three pure functions, as Workerman's have them. PURE."""

from collections.abc import Iterator
from contextlib import suppress
from operator import index
from typing import Any, Protocol

from ..errors import ConfigError, PacketError


class PacketProtocol(Protocol):
    """
    A protocol on a byte stream: it cuts the stream into packets, and packets are messages.

    A protocol keeps nothing between calls; all connections share it.
    """

    def packet_size(self, data: bytearray) -> int | None:
        """
        Return how long the first packet is.

        Args:
            data: What has arrived and is not read yet: at least a byte.

        Returns:
            Its size in bytes with everything that frames it, as soon as that is known; the packet
            may still be incomplete. ``None`` if more has to arrive.

        Raises:
            PacketError: This is not the protocol; the connection ends.
        """

    def decode(self, packet: bytes) -> Any:
        """
        Make a message of a packet.

        Args:
            packet: A whole one, as long as :meth:`packet_size` said.

        Raises:
            PacketError: This is not the protocol; the connection ends.
        """

    def encode(self, message: Any) -> bytes:
        """
        Make a packet of a message.

        Args:
            message: What the application sends.

        Raises:
            ValueError: The message cannot be a packet; nothing is sent.
        """


def too_big(max_size: int) -> PacketError:
    return PacketError("too_big", f"a packet is longer than {max_size} bytes")


INCOMPLETE: Any = object()
"""What :meth:`PacketReader.next` returns while more has to arrive."""


class PacketReader:
    """Cuts one stream into messages; keeps what has arrived and is not read yet."""

    __slots__ = ("_max_size", "_protocol", "data")

    def __init__(self, protocol: PacketProtocol, max_size: int) -> None:
        self._protocol = protocol
        self._max_size = max_size
        self.data = bytearray()

    def add(self, arrived: bytes | bytearray) -> Any:
        """Take what has arrived; return a message that is all of it, or ``INCOMPLETE``."""
        self.data += arrived
        return INCOMPLETE

    def next(self) -> Any:
        """Return the next message, or ``INCOMPLETE``; raises what the protocol raises."""
        data = self.data
        if not data:
            return INCOMPLETE
        size = self._protocol.packet_size(data)
        if type(size) is not int and size is not None:
            size = _as_size(self._protocol, size)
        # A length is judged before the packet is there, and what has no length yet as well.
        if (len(data) if size is None else size) > self._max_size:
            raise too_big(self._max_size)
        if size is None or size > len(data):
            return INCOMPLETE
        if size <= 0:
            raise PacketError("malformed", f"a packet of {size} bytes")
        packet = bytes(data[:size])
        del data[:size]
        return self._protocol.decode(packet)

    def feed(self, data: bytes) -> Iterator[Any]:
        """
        Take what has arrived, and return the messages that it completes.

        The iteration raises PacketError after the messages that precede the faulty packet.
        """
        return self._messages(self.add(data))

    def _messages(self, message: Any) -> Iterator[Any]:
        if message is not INCOMPLETE:
            yield message
        while (message := self.next()) is not INCOMPLETE:
            yield message

    @property
    def is_incomplete(self) -> bool:
        """Whether the stream has ended within a packet, if it ends now."""
        return bool(self.data)


def _as_size(protocol: PacketProtocol, size: Any) -> int:
    if not isinstance(size, bool):
        with suppress(TypeError):
            return index(size)
    raise ConfigError(
        f"{type(protocol).__name__}.packet_size returned {_named(size)}",
        "return the size of the packet as an int, or None if more has to arrive",
    )


def as_packet(protocol: PacketProtocol, packet: Any) -> bytes:
    """Read what ``encode`` returned; raises TypeError."""
    if isinstance(packet, (bytes, bytearray, memoryview)):
        return bytes(packet)
    raise TypeError(
        f"{type(protocol).__name__}.encode returned {_named(packet)}: return the packet as bytes."
    )


def _named(value: object) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__}"
