"""
The log: one logger, its two formats and its file.

Hostile clients must not fill a disk, so every line that a peer can cause goes through a
:class:`RateLimitedLogger`. No line contains a payload. Texts of peers cannot begin a line, move a
terminal's cursor, or show the value of a query's parameter.

Formats:
    ``text``
        ``2026-11-23 17:05:19,123 pid:4711 WARNING chat: ...``, in local time. Continuation lines,
        such as a traceback, begin with spaces.
    ``json``
        One object per line: ``time`` (ISO 8601, UTC), ``level``, ``pid``, ``worker`` (``"chat/0"``;
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
        """Ignore it; level and handlers decide."""


logger = logging.getLogger("gateman")
# In place: the application may have a reference already.
logger.__class__ = _Logger

FORMATS = ("text", "json")

FORMAT_VARIABLE = "GATEMAN_LOG_FORMAT"
"""The environment variable with the format; processes inherit it from their master."""

QUIET_VARIABLE = "GATEMAN_LOG_QUIET"
"""If this environment variable is set, only warnings and errors are logged."""

# C0 except the line feed, DEL, C1; Unicode's line separators and bidirectional controls; and
# surrogates, which cannot be encoded.
_UNSAFE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)

# The value of a query parameter, which may be a token; except the name in a bus's URL.
_QUERY_VALUE = re.compile(
    r"((?:nats|tls)://[^\s?]*\?name=[A-Za-z0-9_-]*)|([?&][^\s=&?#'\"<>]{1,64}=)[^\s&#'\"<>]+"
)

_PACKAGE = str(Path(__file__).parent) + os.sep

# Begins a line that is already in the JSON format.
_OBJECT = '{"time":'

# An operator notices one line per cause in ten seconds; a flood costs 6 lines a minute.
SAMPLE_INTERVAL = 10.0  # seconds


error_observers: list[Callable[[str, BaseException | str], object]] = []
"""Called with each error of :class:`RateLimitedLogger` until one returns true; for tests."""


class RateLimitedLogger:
    """Writes at most one line per cause and interval, with the number of suppressed lines."""

    __slots__ = ("_interval", "_suppressed", "_written_at")

    def __init__(self, interval: float = SAMPLE_INTERVAL) -> None:
        self._interval = interval
        # Bounded: causes are literals in this package, never texts of a peer.
        self._written_at: dict[str, float] = {}
        self._suppressed: dict[str, int] = {}

    def line(self, cause: str, message: str, now: float) -> str | None:
        """Return the line to write, or ``None``; ``now`` is in seconds."""
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
        """Write an exception with its traceback, or an error that has only a cause."""
        any(observer(message, error) for observer in error_observers)
        raised = error if isinstance(error, BaseException) else None
        cause = str(error) if raised is None else source_location(raised)
        line = self.line(cause, message, now)
        if line is not None:
            logger.error(line, exc_info=raised)


def source_location(error: BaseException) -> str:
    """Return where an exception was raised, as a cause for :class:`RateLimitedLogger`."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    lines = [
        f"{trace.f_code.co_filename}:{number}"
        for trace, number in traceback.walk_tb(error.__traceback__)
    ]
    # Several places of an application often fail in the same line of a library, so the cause has
    # the application's outermost line and the line that raised. With more of the stack, a peer
    # could produce many causes.
    outside = [line for line in lines if not line.startswith(_PACKAGE)]
    return " ".join(dict.fromkeys((type(error).__name__, *(outside or lines)[:1], *lines[-1:])))


# aiofastnet writes these lines if data is sent after the end of a connection. They name neither the
# worker nor the client, and `on_close` reports the end.
_AFTER_THE_END = (
    "SSL connection is closed",
    "() called after connection lost.",
    "socket.send() raised exception.",
)


class _OncePerInterval(logging.Filter):
    """Passes one warning and one error of another library per interval."""

    def __init__(self) -> None:
        super().__init__()
        self._rate_limited = RateLimitedLogger()

    def filter(self, record: logging.LogRecord) -> bool:
        """Pass everything below a warning: only an application that wants it enables it."""
        if record.levelno < logging.WARNING:
            return True
        if record.getMessage().endswith(_AFTER_THE_END):
            return False
        return self._rate_limited.line(record.levelname, "", time.monotonic()) is not None


def escape_control_characters(text: str) -> str:
    """Make a text safe for terminals and files, and hide values of query parameters."""
    return escaped(_QUERY_VALUE.sub(lambda found: found[1] or f"{found[2]}***", text))


def escaped(text: str) -> str:
    """Escape control characters except line feeds."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """Escape control characters, including line feeds."""
    return escaped(text).replace("\n", "\\n")


class Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Return lines of which only the first one begins without a space."""
        # Indented lines stay as they are.
        message = re.sub(r"\n(?! )", "\n    ", escape_control_characters(record.getMessage()))
        text = f"{self.formatTime(record)} pid:{record.process} {record.levelname} {message}"
        trace = _trace(record)
        return "\n    ".join((text, *trace.split("\n"))) if trace else text


class Json(logging.Formatter):
    def __init__(self, worker: str = "") -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        return _object(
            record.created,
            record.levelname,
            pid=record.process,
            worker=self._worker,
            message=record.getMessage(),
            trace=_trace(record),
        )


def json_line(line: str, *, pid: int, worker: str, now: float) -> str:
    """Convert a line of a process's standard error to the JSON format."""
    if line.startswith(_OBJECT):
        return line
    return _object(now, "INFO", pid=pid, worker=worker, message=line)


def is_json() -> bool:
    return os.environ.get(FORMAT_VARIABLE) == "json"


def write_to_user(text: str, *, level: str = "ERROR", error: BaseException | None = None) -> None:
    """Write a text that is not a log record, such as a user's mistake, to standard error."""
    # Python has none if the shell has closed it (2>&-).
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
    # The text may be from a running master, or from the server of a bus.
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
    # Not record.exc_text, which is the cache of another handler's formatter.
    if record.exc_info:
        parts.append(logging.Formatter().formatException(record.exc_info))
    if record.stack_info:
        parts.append(record.stack_info)
    return escape_control_characters("\n".join(parts))


def log_to_stderr(environment: Mapping[str, str], worker: str = "") -> None:
    """Log to standard error, unless the application has configured logging."""
    name = environment.get(FORMAT_VARIABLE) or "text"
    if name not in FORMATS:
        raise ConfigError.unknown("log format", name, FORMATS)
    # It logs errors of single connections, with which peers could fill a disk.
    aiofastnet_logger = logging.getLogger("aiofastnet")
    aiofastnet_logger.addFilter(_OncePerInterval())
    if logging.getLogger().handlers or logger.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Json(worker) if name == "json" else Text())
    logger.addHandler(handler)
    aiofastnet_logger.addHandler(handler)
    aiofastnet_logger.propagate = False
    logger.setLevel(logging.WARNING if environment.get(QUIET_VARIABLE) else logging.INFO)
    logger.propagate = False


class LogFile:
    """A file for the standard error of this process and of the processes that it starts."""

    def __init__(self, path: Path, descriptors: Sequence[int] = (2,)) -> None:
        self._path = path.absolute()
        self._descriptors = descriptors
        try:
            self._open()
        except OSError as error:
            raise ConfigError(
                f"the log file {path} cannot be written to: {error.strerror}",
                "name a file in a folder that exists, and that only this user or root can write to",
            ) from None

    def reopen(self) -> None:
        """Open the file again, after it was moved; if that fails, keep the old one."""
        try:
            self._open()
        except OSError as error:
            logger.error("the log file %s cannot be opened again: %s", self._path, error.strerror)

    def _open(self) -> None:
        # Not only root writes to it: so do processes that have given up root.
        fd = open_file(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        try:
            for descriptor in self._descriptors:
                os.dup2(fd, descriptor)
        finally:
            os.close(fd)
