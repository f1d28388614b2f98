"""The protocols on a byte stream that gateman speaks, by the scheme of their addresses. PURE."""

from .base import PacketProtocol
from .frame import Frame
from .raw import Raw
from .text import Text

BUILT_IN: dict[str, PacketProtocol] = {"tcp": Raw(), "text": Text(), "frame": Frame()}
