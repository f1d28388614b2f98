"""
Frames to messages: order, reserved bits, UTF-8, sizes, and the bounds on all of them.

The engine below has checked what one frame can break alone: opcode, mask, minimal length,
control frames' size. What only a sequence of data frames can break is checked here. This
module knows nothing of connections: frames in, messages or a :class:`ProtocolError` out. After
an error the assembler is not fed any more; the connection closes.

    text or binary, FIN ──────────────────────────────► message
    text or binary, not FIN ─► partial ─ continuation ─► partial … FIN ─► message
"""

from codecs import utf_8_decode

from ..errors import ProtocolError
from .close import CloseCode
from .deflate import Inflater
from .encoding import Opcode

MAX_EMPTY_FRAGMENTS = 128
"""
Empty frames per message, the final one not counted; the next one closes with 1008.

They add no bytes, so no size limit ends them, and a message of them would never end. A
stream that flushes now and then with nothing to send stays far below; no standard and no
precedent gives a number.
"""

_RSV1 = 0b100

# Plain ints: comparing with an enum's members took most of the time of a whole frame.
_CONTINUATION = int(Opcode.CONTINUATION)
_TEXT = int(Opcode.TEXT)


def check_control(rsv: int) -> None:
    """Refuse reserved bits on a control frame with 1002 (RFC 6455, 5.2; RFC 7692, 6.1)."""
    if rsv:
        raise _reserved("reserved bits in a control frame")


class _Partial:
    """A message whose last frame is not here yet."""

    __slots__ = ("buffer", "empty_count", "inflater", "is_text", "undecoded")

    def __init__(self, inflater: Inflater | None, *, is_text: bool) -> None:
        self.inflater = inflater
        self.is_text = is_text
        # Bytes, also for text: a str of many short fragments would take up to 50 times the
        # size that was limited.
        self.buffer = bytearray()
        # At most the first 3 bytes of a character whose rest is in the next frame.
        self.undecoded = b""
        self.empty_count = 0


class Assembler:
    """Put the data frames of one connection together to messages; an idle one takes 64 bytes."""

    __slots__ = ("_inflater", "_max_message_size", "_partial", "in_message")

    def __init__(self, max_message_size: int, inflater: Inflater | None = None) -> None:
        self._max_message_size = max_message_size
        self._inflater = inflater
        # The bytes that have arrived: at most max_message_size, and an eighth, as bytearray grows.
        self._partial: _Partial | None = None
        # While it is false, a frame with FIN, opcode 1 or 2 and no reserved bits is a message of
        # its own, and need not be fed if its size and UTF-8 are checked.
        self.in_message = False

    @property
    def is_inflating(self) -> bool:
        """Whether the message that has begun is compressed."""
        return self._partial is not None and self._partial.inflater is not None

    @property
    def size(self) -> int:
        """Bytes that are held of an incomplete message."""
        return 0 if self._partial is None else len(self._partial.buffer)

    def feed(
        self,
        opcode: int,
        fin: bool,  # noqa: FBT001  # A frame's fields in the order of the wire.
        rsv: int,
        payload: bytes | bytearray | memoryview,
    ) -> str | bytes | None:
        """Take one data frame; return a message, or ``None`` before its last frame."""
        # RFC 6455, sections 5.2, 5.4, 5.6 and 8.1; RFC 7692, section 6.
        partial = self._partial
        if opcode == _CONTINUATION:
            if partial is None:
                raise _out_of_order("continuation of no message")
            if rsv:
                raise _reserved("reserved bits on a continuation frame")
        else:
            if partial is not None:
                raise _out_of_order("new message inside another one")
            inflater = self._inflater if rsv == _RSV1 else None
            if rsv and inflater is None:
                raise reserved_bits()
            if fin:
                return self._whole(opcode, inflater, payload)
            partial = self._partial = _Partial(inflater, is_text=opcode == _TEXT)
            self.in_message = True
        self._extend(partial, payload, fin=fin)
        if not fin:
            return None
        self._partial = None
        self.in_message = False
        return partial.buffer.decode() if partial.is_text else bytes(partial.buffer)

    def _whole(
        self, opcode: int, inflater: Inflater | None, payload: bytes | bytearray | memoryview
    ) -> str | bytes:
        if inflater is not None:
            payload = inflater.inflate(payload, fin=True, max_length=self._max_message_size)
        elif len(payload) > self._max_message_size:
            raise too_big(self._max_message_size)
        if opcode != _TEXT:
            return bytes(payload)
        try:
            return str(payload, "utf-8")
        except UnicodeDecodeError:
            raise not_utf8() from None

    def _extend(
        self, partial: _Partial, payload: bytes | bytearray | memoryview, *, fin: bool
    ) -> None:
        if not payload and not fin:
            partial.empty_count += 1
            if partial.empty_count > MAX_EMPTY_FRAGMENTS:
                raise ProtocolError(
                    CloseCode.POLICY_VIOLATION, "too many empty fragments", cause="empty_fragments"
                )
        left = self._max_message_size - len(partial.buffer)
        if partial.inflater is not None:
            payload = partial.inflater.inflate(payload, fin=fin, max_length=left)
        elif len(payload) > left:
            raise too_big(self._max_message_size)
        if partial.is_text:
            data = partial.undecoded + payload if partial.undecoded else payload
            try:
                # Fails on the first byte after which no text can follow, also in a cut character.
                _, decoded_size = utf_8_decode(data, "strict", fin)
            except UnicodeDecodeError:
                raise not_utf8() from None
            partial.undecoded = bytes(data[decoded_size:])
            # But for a surrogate's first two bytes it waits for the third, for the sake of
            # its "surrogatepass" mode.
            if partial.undecoded[:1] == b"\xed" and partial.undecoded[1:] >= b"\xa0":
                raise not_utf8()
        partial.buffer += payload


def too_big(max_message_size: int) -> ProtocolError:
    """Make the error for a message that is larger than it may be."""
    return ProtocolError(
        CloseCode.MESSAGE_TOO_BIG,
        f"a message may have {max_message_size} bytes",
        cause="message_too_big",
        limit="limits.max_message_size",
    )


def not_utf8() -> ProtocolError:
    """Make the error for a text that is not UTF-8."""
    return ProtocolError(
        CloseCode.INVALID_PAYLOAD_DATA, "the text is not UTF-8", cause="text_not_utf8"
    )


def reserved_bits() -> ProtocolError:
    """Make the error for a data frame with reserved bits that mean nothing."""
    return _reserved("reserved bits without an extension")


def _reserved(reason: str) -> ProtocolError:
    return ProtocolError(CloseCode.PROTOCOL_ERROR, reason, cause="reserved_bits")


def _out_of_order(reason: str) -> ProtocolError:
    return ProtocolError(CloseCode.PROTOCOL_ERROR, reason, cause="frames_out_of_order")
