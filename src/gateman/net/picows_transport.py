"""
What picows sees around it.

picows tells of a parser's verdict only through its logger, and then ends the transport by
itself. So what it gets as logger and as transport is one object that passes everything on,
but tells the engine of the verdict and leaves the end to it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from ..errors import ProtocolError
from ..log import logger
from ..websocket.close import CloseCode

# How picows begins to say what is wrong with a frame; the close reason, and the cause to count.
_REFUSED = (
    ("Received frame with invalid opcode=", "a frame has a reserved opcode", "reserved_opcode"),
    ("Received un-masked frame", "a frame is not masked", "unmasked_frame"),
    ("Received fragmented control frame", "a control frame is fragmented", "bad_control_frame"),
    (
        "Received control frame with payload size",
        "a control frame has more than 125 bytes",
        "bad_control_frame",
    ),
    (
        "Received frame with invalid 16-bit payload len",
        "the length of a frame is not in its shortest form",
        "bad_frame_length",
    ),
    (
        "Received frame with invalid 64-bit payload len",
        "the length of a frame is not in its shortest form, or has its highest bit set",
        "bad_frame_length",
    ),
    ("Received frame with payload size exceeding", "a message is too large", "message_too_big"),
    ("Received CLOSE with invalid close code size", "a Close frame has one byte", "bad_close"),
    ("Received CLOSE with invalid close code", "invalid close code", "bad_close"),
    ("Received CLOSE with invalid UTF-8 reason", "the close reason is not UTF-8", "bad_close"),
)


class ErrorListener(Protocol):
    """Whom a verdict is told."""

    def parser_failed(self, error: ProtocolError) -> None:
        """Close for a frame that picows refused, with the code that it would send."""


class PicowsTransport:
    """
    A transport whose end is ours to decide, and a logger that tells the engine.

    Attributes:
        large_size: While a large message is being written, its size in bytes, else 0.
    """

    __slots__ = ("_engine", "_transport", "large_size", "write")

    def __init__(self, engine: ErrorListener, transport: Any) -> None:
        self._engine = engine
        self._transport = transport
        self.large_size = 0
        self.write = transport.write

    def writelines(self, parts: list[Any]) -> None:
        """Write a header and the message behind it: picows' way for messages above 8 KiB."""
        self.large_size = len(parts[1])
        try:
            self._transport.writelines(parts)
        finally:
            self.large_size = 0

    @property
    def get_write_buffer_size(self) -> Any:
        """The transport's own method."""
        return self._transport.get_write_buffer_size

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Give the transport's answer, but of the socket only its number."""
        value = self._transport.get_extra_info(name, default)
        return _Socket(value.fileno()) if name == "socket" else value

    @contextmanager
    def muted(self) -> Iterator[None]:
        """Swallow what picows writes: the answer to a handshake that only it has seen."""
        write, self.write = self.write, _swallow
        try:
            yield
        finally:
            self.write = write

    def close(self) -> None:
        """Picows wants the connection ended; it already is, by ``WebSocketProtocol.error``."""

    def abort(self) -> None:
        """Nobody calls this: ``disconnect(graceful=False)`` is not used."""

    # The logger: picows writes at INFO and DEBUG for itself, and at ERROR what we must know.

    def isEnabledFor(self, _level: int) -> bool:  # noqa: N802 - logging's name
        """Save picows the work for lines that nobody reads."""
        return False

    def debug(self, *_args: object) -> None:
        """Picows' own business."""

    info = warning = log = debug

    def error(self, _message: str, arguments: tuple[int, str]) -> None:
        """Tell the engine: picows' parser refused a frame, with this code and text."""
        code, text = arguments
        reason, cause = next(
            (words for beginning, *words in _REFUSED if text.startswith(beginning)),
            ("frame breaks RFC 6455", "protocol_error"),
        )
        self._engine.parser_failed(ProtocolError(CloseCode(code), reason, cause=cause))

    def exception(self, message: str, *_args: object) -> None:
        """Log a fault of ours: what the application raises never gets here."""
        logger.exception("the frame engine failed: %s", message)
        self._engine.parser_failed(
            ProtocolError(CloseCode.INTERNAL_ERROR, "internal error", cause="engine_failed")
        )


class _Socket:
    """
    A socket without TCP's options.

    picows sets two without asking, and reads four for a log that nobody reads. The one of them
    that lasts, TCP_NODELAY, aiofastnet has set. On a unix socket they would raise, and the first
    byte then dereference a transport that was never made (docs/decisions.md, upstream).
    """

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def setsockopt(self, *_args: object) -> None:
        """Ignore TCP_NODELAY and TCP_QUICKACK."""

    def getsockopt(self, *_args: object) -> int:
        return 0


def _swallow(_data: object) -> None:
    """Write nothing."""
