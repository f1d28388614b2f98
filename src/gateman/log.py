"""
What the operator reads: one logger, its two formats and its file.

Hostile clients must not be able to fill a disk, so every line that a peer can cause goes
through a :class:`RateLimitedLogger`. No line carries a payload, and none can be forged: what a
peer has said cannot begin a line, move a terminal's cursor, or show the value of a query's
parameter.

Formats:
    ``text``
        ``2026-11-23 17:05:19,123 pid:4711 WARNING chat: ...``, in local time. What belongs to the
        line before, such as a traceback, begins with spaces.
    ``json``
        An object a line: ``time`` (ISO 8601, UTC), ``level``, ``pid``, ``worker`` (``"chat/0"``;
        ``null`` for the master), ``message``, and ``traceback`` where there is one.
"""

import json
import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from .errors import ConfigError
from .safe_files import open_file


class _Logger(logging.Logger):
    """A logger that ``disable_existing_loggers``, on by default in ``dictConfig``, leaves alone."""

    @property
    def disabled(self) -> bool:
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None:
        """Its level and its handlers say what is written."""


logger = logging.getLogger("gateman")
# In place: the application may have asked for it before.
logger.__class__ = _Logger

FORMATS = ("text", "json")

FORMAT_VARIABLE = "GATEMAN_LOG_FORMAT"
"""Names the format, in the environment: processes have it from their master."""

QUIET_VARIABLE = "GATEMAN_LOG_QUIET"
"""Leaves out what is below a warning, if it is set; as above."""

# C0 but for the line feed, DEL, C1; what Unicode has to break lines and to turn text around;
# and surrogates, which no file takes.
_UNSAFE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)

# The value of a parameter in a query, which may be a token; but not the name in a bus's URL.
_QUERY_VALUE = re.compile(
    r"((?:nats|tls)://[^\s?]*\?name=[A-Za-z0-9_-]*)|([?&][^\s=&?#'\"<>]{1,64}=)[^\s&#'\"<>]+"
)

# Where frames of our own are.
_PACKAGE = str(Path(__file__).parent) + os.sep

# What a process writes itself to standard error, in the other format, is not an object yet.
_OBJECT = '{"time":'

# One line per cause and ten seconds: an operator sees it, a flood costs 6 lines a minute.
SAMPLE_INTERVAL = 10.0  # seconds


error_observers: list[Callable[[str, BaseException | str], object]] = []
"""Called with each error of :class:`RateLimitedLogger` until one returns true; for tests."""


class RateLimitedLogger:
    """
    Write at most one line per cause and interval, and say how many were left out.

    The caller passes the time in, in seconds.
    """

    __slots__ = ("_interval", "_suppressed", "_written_at")

    def __init__(self, interval: float = SAMPLE_INTERVAL) -> None:
        self._interval = interval
        # Bounded: causes are literals in our own code, never a peer's words.
        self._written_at: dict[str, float] = {}
        self._suppressed: dict[str, int] = {}

    def line(self, cause: str, message: str, now: float) -> str | None:
        """Decide what to write."""
        written_at = self._written_at.get(cause)
        if written_at is not None and now - written_at < self._interval:
            self._suppressed[cause] = self._suppressed.get(cause, 0) + 1
            return None
        self._written_at[cause] = now
        suppressed = self._suppressed.pop(cause, 0)
        return f"{message} (and {suppressed} more like it)" if suppressed else message

    def warning(self, cause: str, message: str, now: float) -> None:
        line = self.line(cause, message, now)
        if line is not None:
            logger.warning(line)

    def error(self, message: str, error: BaseException | str, now: float) -> None:
        """Write an exception with its traceback, or an error of which only the cause is known."""
        any(observer(message, error) for observer in error_observers)
        raised = error if isinstance(error, BaseException) else None
        cause = str(error) if raised is None else source_location(raised)
        line = self.line(cause, message, now)
        if line is not None:
            logger.error(line, exc_info=raised)


def source_location(error: BaseException) -> str:
    """
    Tell where an exception was raised, as a cause for :class:`RateLimitedLogger`.

    Two places of an application often fail in one line of a library, so both are told: the
    application's outermost line, and the line that raised. More of the stack would make as many
    causes as a peer can make the program take ways.
    """
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    lines = [
        f"{trace.f_code.co_filename}:{number}"
        for trace, number in traceback.walk_tb(error.__traceback__)
    ]
    outside = [line for line in lines if not line.startswith(_PACKAGE)]
    return " ".join(dict.fromkeys((type(error).__name__, *(outside or lines)[:1], *lines[-1:])))


# What aiofastnet writes when something is sent behind the end of a connection. It names neither the
# worker nor the client, and `on_close` tells of the end.
_BEHIND_THE_END = (
    "SSL connection is closed",
    "() called after connection lost.",
    "socket.send() raised exception.",
)


class _OncePerInterval(logging.Filter):
    """Lets one warning, and one error, of another library through per interval."""

    def __init__(self) -> None:
        super().__init__()
        self._rate_limited = RateLimitedLogger()

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is written; what is below a warning, somebody has asked for."""
        if record.levelno < logging.WARNING:
            return True
        if record.getMessage().endswith(_BEHIND_THE_END):
            return False
        return self._rate_limited.line(record.levelname, "", time.monotonic()) is not None


def escape_control_characters(text: str) -> str:
    """Make a text safe to be read in a terminal and in a file."""
    return escaped(_QUERY_VALUE.sub(lambda found: found[1] or f"{found[2]}***", text))


def escaped(text: str) -> str:
    """Make a text safe for a terminal: control characters are escaped but for line feeds."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """Make a text safe as :func:`escaped` does, and its line feeds too: it stays in its line."""
    return escaped(text).replace("\n", "\\n")


class Text(logging.Formatter):
    """Writes lines for people."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record; only its first line begins without a space."""
        # Lines of it that are indented already stay where they are.
        message = re.sub(r"\n(?! )", "\n    ", escape_control_characters(record.getMessage()))
        text = f"{self.formatTime(record)} pid:{record.process} {record.levelname} {message}"
        trace = _trace(record)
        return "\n    ".join((text, *trace.split("\n"))) if trace else text


class Json(logging.Formatter):
    """Writes an object a line, for programs."""

    def __init__(self, worker: str = "") -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        return _object(
            record.created,
            record.levelname,
            pid=record.process,
            worker=self._worker,
            message=record.getMessage(),
            trace=_trace(record),
        )


def json_line(line: str, *, pid: int, worker: str, now: float) -> str:
    """Make a line of the log of what a process wrote to standard error in any form."""
    if line.startswith(_OBJECT):
        return line
    return _object(now, "INFO", pid=pid, worker=worker, message=line)


def is_json() -> bool:
    """Tell whether the environment asks for JSON."""
    return os.environ.get(FORMAT_VARIABLE) == "json"


def write_beside(text: str, *, level: str = "ERROR", error: BaseException | None = None) -> None:
    """Write what is not a record of the log, such as a user's mistake, to standard error."""
    # Python has none where the shell closed it (2>&-).
    if sys.stderr is None:
        return
    trace = "" if error is None else "".join(traceback.format_exception(error))
    if is_json():
        now = time.time()
        text = _object(
            now,
            level,
            pid=os.getpid(),
            worker="",
            message=text,
            trace=escape_control_characters(trace),
        )
        trace = ""
    # A running master, or a server of a bus, may have worded it.
    sys.stderr.write(f"{trace}{escaped(text)}\n")
    sys.stderr.flush()


def _object(
    created: float, level: str, *, pid: int | None, worker: str, message: str, trace: str = ""
) -> str:
    moment = datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds")
    written = {
        "time": moment.replace("+00:00", "Z"),
        "level": level.lower(),
        "pid": pid,
        "worker": worker or None,
        "message": escape_control_characters(message),
    }
    if trace:
        written["traceback"] = trace
    return json.dumps(written)


def _trace(record: logging.LogRecord) -> str:
    parts = []
    # Not record.exc_text: it is what another handler's formatter has made of it.
    if record.exc_info:
        parts.append(logging.Formatter().formatException(record.exc_info))
    if record.stack_info:
        parts.append(record.stack_info)
    return escape_control_characters("\n".join(parts))


def write_to_stderr(environment: Mapping[str, str], worker: str = "") -> None:
    """
    Write to standard error, unless the application has set up logging itself.

    Raises:
        ConfigError: There is no such format.
    """
    name = environment.get(FORMAT_VARIABLE) or "text"
    if name not in FORMATS:
        raise ConfigError.unknown("log format", name, FORMATS)
    # What it may write is about single connections: peers must not fill a disk through it.
    engine = logging.getLogger("aiofastnet")
    engine.addFilter(_OncePerInterval())
    if logging.getLogger().handlers or logger.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Json(worker) if name == "json" else Text())
    logger.addHandler(handler)
    engine.addHandler(handler)
    engine.propagate = False
    logger.setLevel(logging.WARNING if environment.get(QUIET_VARIABLE) else logging.INFO)
    logger.propagate = False


class LogFile:
    """A file to which standard error goes: this process's, and that of those which it starts."""

    def __init__(self, path: Path, descriptors: Sequence[int] = (2,)) -> None:
        """
        Send it there from now on.

        Raises:
            ConfigError: It cannot be written to.
        """
        self._path = path.absolute()
        self._descriptors = descriptors
        try:
            self._open()
        except OSError as error:
            raise ConfigError(
                f"the log file {path} cannot be written to: {error.strerror}",
                "name a file in a folder that exists, and in which only this user, or root, writes",
            ) from None

    def reopen(self) -> None:
        """Begin the file anew, after it was moved away; if that fails, go on as before."""
        try:
            self._open()
        except OSError as error:
            logger.error("the log file %s cannot be opened again: %s", self._path, error.strerror)

    def _open(self) -> None:
        # What is written may come from other users: processes that gave up root write there too.
        fd = open_file(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        try:
            for descriptor in self._descriptors:
                os.dup2(fd, descriptor)
        finally:
            os.close(fd)
