"""
What the operator reads: one logger, and a limit on how often one cause may write to it.

Hostile clients must not be able to fill a disk, so every line that a peer can cause goes
through a :class:`Sampled`. No line carries a payload.
"""

import logging
import sys
import time

logger = logging.getLogger("gateman")

_FORMAT = "%(asctime)s pid:%(process)d %(levelname)s %(message)s"

# One line per cause and ten seconds: an operator sees it, a flood costs 6 lines a minute.
SAMPLE_INTERVAL = 10.0  # seconds


class Sampled:
    """
    Write at most one line per cause and interval, and say how many were left out.

    Time is passed in, so that it can be tested by equality.
    """

    __slots__ = ("_interval", "_suppressed", "_written_at")

    def __init__(self, interval: float = SAMPLE_INTERVAL) -> None:
        """
        Start with nothing written.

        Args:
            interval: Seconds between two lines of one cause.
        """
        self._interval = interval
        # Bounded: causes are literals in our own code, never a peer's words.
        self._written_at: dict[str, float] = {}
        self._suppressed: dict[str, int] = {}

    def line(self, cause: str, message: str, now: float) -> str | None:
        """
        Decide what to write.

        Args:
            cause: What the line is about; a literal of our code.
            message: The line.
            now: Monotonic seconds.

        Returns:
            The line, with the number of those left out since the last; ``None`` to write
            nothing.
        """
        written_at = self._written_at.get(cause)
        if written_at is not None and now - written_at < self._interval:
            self._suppressed[cause] = self._suppressed.get(cause, 0) + 1
            return None
        self._written_at[cause] = now
        suppressed = self._suppressed.pop(cause, 0)
        return f"{message} (and {suppressed} more like it)" if suppressed else message


def place(error: BaseException) -> str:
    """
    Tell where an exception was raised, as a cause for :class:`Sampled`.

    Args:
        error: The exception.

    Returns:
        Its class, file and line: as few as the program has lines.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    return f"{type(error).__name__} {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"


class _OncePerInterval(logging.Filter):
    """Lets one warning, and one error, of another library through per interval."""

    def __init__(self) -> None:
        super().__init__()
        self._sampled = Sampled()

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is written; what is below a warning, somebody has asked for."""
        if record.levelno < logging.WARNING:
            return True
        return self._sampled.line(record.levelname, "", time.monotonic()) is not None


def write_to_stderr() -> None:
    """Write lines for people, unless the application has set up logging itself."""
    # What it may write is about single connections: peers must not fill a disk through it.
    engine = logging.getLogger("aiofastnet")
    engine.addFilter(_OncePerInterval())
    if logging.getLogger().handlers or logger.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(_FORMAT))
    logger.addHandler(handler)
    engine.addHandler(handler)
    engine.propagate = False
    logger.setLevel(logging.INFO)
    logger.propagate = False
