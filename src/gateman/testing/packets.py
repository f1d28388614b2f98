"""A test of a protocol on a byte stream: its messages are the same, however the stream is cut."""

from typing import Any

from ..protocols.base import PacketProtocol, PacketReader


def cut_at_every_byte(
    protocol: PacketProtocol | type[PacketProtocol], stream: bytes, *, max_size: int = 1 << 20
) -> list[Any]:
    """
    Decode a stream that arrives whole, in two parts cut at every byte, and byte by byte.

        packets = b"".join(map(protocol.encode, messages))
        assert testing.cut_at_every_byte(protocol, packets) == messages

    Args:
        protocol: What is tested: an instance, or a class that is made without arguments.
        stream: Whole packets. The time that this takes grows with the square of its size.
        max_size: The ``limits.max_message_size`` of the worker, in bytes.

    Returns:
        The messages.

    Raises:
        AssertionError: A cut changes the messages, the stream ends within a packet, or
            ``packet_size`` changes the bytes that it is given.
        PacketError: The protocol refuses the stream.
        Exception: What the protocol's functions raise.
    """
    made: PacketProtocol = protocol() if isinstance(protocol, type) else protocol
    checked = _Checked(made)
    whole, rest = _read(checked, [stream], max_size)
    assert not rest, f"the stream ends within a packet, of which {rest} bytes are there"
    cuts = {f"cut after {at} bytes": [stream[:at], stream[at:]] for at in range(1, len(stream))}
    cuts["cut at every byte"] = [stream[at : at + 1] for at in range(len(stream))]
    for name, parts in cuts.items():
        messages, rest = _read(checked, parts, max_size)
        assert messages == whole, f"{name}, the messages are {messages}, and not {whole}"
        assert not rest, f"{name}, {rest} bytes are left"
    return whole


def _read(protocol: PacketProtocol, parts: list[bytes], max_size: int) -> tuple[list[Any], int]:
    reader = PacketReader(protocol, max_size)
    messages = [message for part in parts for message in reader.feed(part)]
    return messages, len(reader.data)


class _Checked:
    """A protocol whose ``packet_size`` must only look."""

    def __init__(self, protocol: PacketProtocol) -> None:
        self._protocol = protocol
        self.decode = protocol.decode
        self.encode = protocol.encode

    def packet_size(self, data: bytearray) -> int | None:
        before = bytes(data)
        size = self._protocol.packet_size(data)
        assert data == before, "packet_size changes the bytes that it is given"
        return size
