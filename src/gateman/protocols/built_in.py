"""The protocols on a byte stream that gateman speaks, by the scheme of their addresses. PURE."""

from .base import PacketProtocol, PacketReader
from .frame import Frame
from .raw import Raw
from .text import LineReader, Text

BUILT_IN: dict[str, PacketProtocol] = {"tcp": Raw(), "text": Text(), "frame": Frame()}


def make_reader(protocol: PacketProtocol, max_size: int) -> PacketReader:
    """Make what cuts one stream into the messages of a protocol."""
    kind = LineReader if type(protocol) is Text else PacketReader
    return kind(protocol, max_size)  # type: ignore[arg-type] # Text goes with LineReader
