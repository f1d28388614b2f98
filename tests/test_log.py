"""What is written into a log, in which form and where, and what hostile clients can write there."""

import json
import logging
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateman import ConfigError
from gateman.log import (
    FORMAT_VARIABLE,
    SAMPLE_INTERVAL,
    Json,
    LogFile,
    RateLimitedLogger,
    Text,
    escape_control_characters,
    json_line,
    log_to_stderr,
    logger,
    one_line,
    source_location,
)
from tests.support.users import NOBODY, folder_of, needs_root


def test_the_logger_is_the_package_s() -> None:
    """An operator configures it by the name of the package, and hears warnings without that."""
    assert logger is logging.getLogger("gateman")


def test_one_line_per_cause_and_interval() -> None:
    """The first is written at once; the next one has the number of suppressed lines."""
    sampled = RateLimitedLogger(10.0)

    assert [
        sampled.line("flood", f"line {now}", now) for now in (0.0, 0.0, 9.9, 10.0, 19.9, 20.0, 40.0)
    ] == [
        "line 0.0",
        None,
        None,
        "line 10.0 (and 2 more like it)",
        None,
        "line 20.0 (and 1 more like it)",
        "line 40.0",
    ]


def test_causes_do_not_hide_each_other() -> None:
    """What floods the log silences itself only."""
    sampled = RateLimitedLogger()

    assert [sampled.line(cause, cause, 0.0) for cause in ("a", "b", "a", "a", "b")] == [
        "a",
        "b",
        None,
        None,
        None,
    ]
    assert [sampled.line(cause, cause, SAMPLE_INTERVAL) for cause in ("a", "b", "c")] == [
        "a (and 2 more like it)",
        "b (and 1 more like it)",
        "c",
    ]


def test_levels_and_traceback_of_what_is_written_once(caplog: pytest.LogCaptureFixture) -> None:
    """A warning has none; an error has one if something was raised."""
    rate_limited = RateLimitedLogger()
    error = ValueError("no number")
    for now in (0.0, 1.0):
        rate_limited.warning("slow", "too slow", now)
        rate_limited.error("it failed", error, now)
        rate_limited.error("it was refused", "refused", now)

    assert [
        (record.levelname, record.getMessage(), record.exc_info and record.exc_info[1])
        for record in caplog.records
    ] == [
        ("WARNING", "too slow", None),
        ("ERROR", "it failed", error),
        ("ERROR", "it was refused", None),
    ]


def _fail() -> None:
    raise ValueError


def test_a_place_is_a_line_of_the_program() -> None:
    """What is raised at one line is one cause for each line that led there."""
    places = set()
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^$") as caught:
            _fail()
        places.add(source_location(caught.value))
    with pytest.raises(ValueError, match=r"^$") as caught:
        _fail()

    line = _fail.__code__.co_firstlineno + 1
    (found,) = places
    assert re.fullmatch(
        rf"ValueError {re.escape(__file__)}:\d+ {re.escape(__file__)}:{line}", found
    )
    assert source_location(caught.value) != found
    assert source_location(KeyError("never raised")) == "KeyError"


def test_a_group_has_the_place_of_what_is_in_it() -> None:
    """Every TaskGroup raises at one line of asyncio."""
    with pytest.raises(ValueError, match=r"^$") as caught:
        _fail()

    assert source_location(ExceptionGroup("tasks failed", [caught.value])) == source_location(
        caught.value
    )


@pytest.mark.parametrize("has_root", [False, True])
def test_a_configuration_of_logging_silences_nothing(*, has_root: bool) -> None:
    """``disable_existing_loggers``, which is true by default, means loggers without a reader."""
    handlers = {"here": {"class": "logging.StreamHandler", "formatter": "own"}}
    config: dict[str, object] = {
        "version": 1,
        "formatters": {"own": {"format": "own %(message)s"}},
        "handlers": handlers,
        "root": {"handlers": ["here"]} if has_root else {},
    }
    program = f"""
import logging.config
from gateman.log import logger, log_to_stderr
{"" if has_root else "log_to_stderr({})"}
logging.config.dictConfig({config})
{"log_to_stderr({})" if has_root else ""}
logger.error("a handler failed")
"""

    assert lines_of(program) == [f"{'own' if has_root else 'ERROR'} a handler failed"]


def test_a_configuration_of_our_logger_holds() -> None:
    """An application that configures it gets its lines."""
    program = """
import logging.config
from gateman.log import logger, log_to_stderr
log_to_stderr({})
logging.config.dictConfig({"version": 1, "loggers": {"gateman": {"level": "CRITICAL"}}})
logger.error("a handler failed")
print(type(logging.getLogger("other")).__name__, file=__import__("sys").stderr)
"""

    assert lines_of(program) == ["Logger"]


# Writing to standard error, in a process whose logging may be changed.

FLOOD = """
import logging
from gateman.log import logger, log_to_stderr
{}
log_to_stderr({{}})
logger.debug("detail")
logger.info("listening")
engine = logging.getLogger("aiofastnet")
for number in range(3):
    engine.info("detail %s", number)
    engine.warning("slow %s", number)
    engine.error("broken %s", number)
"""


def lines_of(program: str) -> list[str]:
    """Run a program; gives what it writes to standard error, without times and process ids."""
    ended = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    line = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} pid:\d+ "
    return [re.sub(line, "", text) for text in ended.stderr.splitlines()]


def test_lines_for_people() -> None:
    """Without any setting, one reads what happens; of the library below, once per interval."""
    assert lines_of(FLOOD.format("")) == [
        "INFO listening",
        "WARNING slow 0",
        "ERROR broken 0",
    ]


def test_what_names_neither_worker_nor_client_is_left_out() -> None:
    """`on_close` reports data that is sent after the end of a connection."""
    behind = "\n".join(
        f"logging.getLogger('aiofastnet').warning({line!r})"
        for line in (
            "SSL connection is closed",
            "write() called after connection lost.",
            "socket.send() raised exception.",
        )
    )

    assert lines_of(f"{FLOOD.format('')}\n{behind}") == lines_of(FLOOD.format(""))
    alone = FLOOD.format("").partition("logger.debug")[0] + behind
    assert lines_of(alone) == []


def test_an_application_s_own_logging_stays() -> None:
    """Nothing is added to it, but peers cannot flood it either."""
    settings = "logging.basicConfig(format='%(name)s %(message)s', level=logging.INFO)"

    assert lines_of(FLOOD.format(settings)) == [
        "gateman listening",
        "aiofastnet detail 0",
        "aiofastnet slow 0",
        "aiofastnet broken 0",
        "aiofastnet detail 1",
        "aiofastnet detail 2",
    ]


def test_a_handler_of_the_logger_is_a_setting_too() -> None:
    """A logger with a handler of the application gets no second one."""
    settings = "logger.addHandler(logging.StreamHandler()); logger.setLevel(logging.INFO)"

    assert lines_of(FLOOD.format(settings)) == ["listening", "slow 0", "broken 0"]


# The two formats.


def record(message: str, *args: object, error: BaseException | None = None) -> logging.LogRecord:
    """Make a record of a known instant and process."""
    info = None if error is None else (type(error), error, error.__traceback__)
    made = logging.LogRecord("gateman", logging.WARNING, "", 0, message, args, info)
    made.created, made.msecs, made.process = 1_700_000_000.25, 250, 4711
    return made


def text(message: str, *args: object, error: BaseException | None = None) -> str:
    """Write a record for people; gives what is behind the time."""
    return Text().format(record(message, *args, error=error)).partition(" pid:")[2]


def test_a_line_for_people_has_time_process_and_level() -> None:
    """They come before the message, in local time."""
    local = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(1_700_000_000))

    assert Text().format(record("%s: slow", "chat")) == f"{local},250 pid:4711 WARNING chat: slow"


def test_a_line_for_programs_is_an_object() -> None:
    """Time in UTC, level, process, worker and message; a traceback only where there is one."""
    error = ValueError("wrong")

    assert json.loads(Json("chat/0").format(record("%s: slow", "chat"))) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "warning",
        "pid": 4711,
        "worker": "chat/0",
        "message": "chat: slow",
    }
    assert json.loads(Json().format(record("failed", error=error))) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "warning",
        "pid": 4711,
        "worker": None,
        "message": "failed",
        "traceback": "ValueError: wrong",
    }


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("a\rb\tc\0d\x7f\x9b", r"a\rb\tc\x00d\x7f\x9b"),
        ("\u202eevil\u2066\u2028", r"\u202eevil\u2066\u2028"),
        ("\ud800", r"\ud800"),
        ("聊天 ü", "聊天 ü"),
    ],
)
def test_control_characters_are_escaped(said: str, written: str) -> None:
    """Texts of peers cannot move the cursor or reverse the text; words stay words."""
    error = ValueError(said)

    assert text("%s", said) == f"4711 WARNING {written}"
    assert text("x", error=error) == f"4711 WARNING x\n    ValueError: {written}"
    assert json.loads(Json().format(record(said, error=error)))["message"] == written


def test_peers_cannot_forge_a_line() -> None:
    """Only the beginning of a record is at the beginning of a line."""
    forged = "x\n2026-11-23 17:05:19,123 pid:1 ERROR forged\n  of more lines"
    lines = text(forged, error=ValueError(forged)).splitlines()

    assert [line[:8] for line in lines] == [
        "4711 WAR",
        "    2026",
        "  of mor",
        "    Valu",
        "    2026",
        "      of",
    ]
    assert Json().format(record(forged)).count("\n") == 0


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("GET /chat?token=secret HTTP/1.1", "GET /chat?token=*** HTTP/1.1"),
        ("'/a?b=1&access_token=s%20x&c='", "'/a?b=***&access_token=***&c='"),
        ("wss://x/?t=eyJhbGciOi.J9-_=#top", "wss://x/?t=***#top"),
        ("the bus nats://a:1,b?name=chat is", "the bus nats://a:1,b?name=chat is"),
        ("nats://a?name=chat&token=t", "nats://a?name=chat&token=***"),
        ("is it so? a=b", "is it so? a=b"),
        ("a && b=c", "a && b=c"),
    ],
)
def test_tokens_in_query_strings_are_masked(said: str, written: str) -> None:
    """A value of a parameter is not shown, wherever it stands; its name is."""
    assert escape_control_characters(said) == written
    assert text("x", error=ValueError(said)) == f"4711 WARNING x\n    ValueError: {written}"


def test_what_a_process_writes_itself_becomes_a_line_too() -> None:
    """A line of the log stays as it is; any other becomes the message of one."""
    logged = Json("chat/0").format(record("slow"))

    assert json_line(logged, pid=1, worker="x", now=0.0) == logged
    assert json.loads(
        json_line('  File "server.py", line 5', pid=4711, worker="chat/1", now=1_700_000_000.25)
    ) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "info",
        "pid": 4711,
        "worker": "chat/1",
        "message": '  File "server.py", line 5',
    }


def test_the_environment_names_the_format() -> None:
    """Without a name it is text; a wrong one is refused."""
    program = (
        "import os; from gateman.log import logger, log_to_stderr\n"
        "log_to_stderr(os.environ, 'chat/0'); logger.info('up')"
    )

    def written(name: str) -> str:
        ended = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, FORMAT_VARIABLE: name},
            check=True,
            capture_output=True,
            text=True,
        )
        return ended.stderr

    assert json.loads(written("json"))["message"] == "up"
    assert written("").endswith("INFO up\n")
    with pytest.raises(ConfigError, match=r"^.jsonl. is not a log format: did you mean .json.\?$"):
        log_to_stderr({FORMAT_VARIABLE: "jsonl"})


# The file.

MOVED = """
import os, sys
from pathlib import Path
from gateman.log import LogFile

path = Path(sys.argv[1])
file = LogFile(path, (1, 2))
os.system("echo first")
path.rename(path.with_name("old"))
os.system("echo second >&2")
file.reopen()
os.system("echo third")
"""


def test_standard_error_goes_to_a_file_that_may_be_moved(tmp_path: Path) -> None:
    """Until it is opened again, the moved file is written to; children write there too."""
    path = tmp_path / "gateman.log"
    path.write_text("before\n")
    subprocess.run([sys.executable, "-c", MOVED, str(path)], check=True)

    assert (tmp_path / "old").read_text() == "before\nfirst\nsecond\n"
    assert path.read_text() == "third\n"
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_file_that_cannot_be_opened_again_leaves_the_old_one(tmp_path: Path) -> None:
    """That is a line in the old file, and the end of nothing."""
    program = MOVED.replace("file.reopen()", "path.mkdir(); file.reopen()")
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "log")], check=True)

    assert (tmp_path / "old").read_text() == (
        f"first\nsecond\nthe log file {tmp_path / 'log'} cannot be opened again: Is a directory\n"
        "third\n"
    )


def test_a_file_that_cannot_be_written_to_is_a_mistake(tmp_path: Path) -> None:
    """Its folder is not made: it may be one that is not mounted yet."""
    path = tmp_path / "missing" / "log"

    with pytest.raises(ConfigError) as refused:
        LogFile(path)
    assert str(refused.value) == (
        f"the log file {path} cannot be written to: No such file or directory: name a file in"
        " a folder that exists, and that only this user or root can write to."
    )


def test_a_text_that_stays_in_its_line() -> None:
    """It is safe for a terminal, and begins no line."""
    assert one_line("a\nb\x1b[2J\x85c") == r"a\nb\x1b[2J\x85c"
    assert one_line("nats://host?name=chat") == "nats://host?name=chat"


@needs_root
def test_a_link_in_another_user_s_folder_is_not_followed(tmp_path: Path) -> None:
    """Neither at the start nor when the file is opened again: what it leads to is not touched."""
    folder, precious = folder_of(NOBODY, tmp_path / "logs"), tmp_path / "precious"
    path = folder / "log"
    program = MOVED.replace("file.reopen()", f"path.symlink_to({str(precious)!r}); file.reopen()")
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)

    assert "cannot be opened again: another user may have made a link" in (
        (folder / "old").read_text()
    )
    assert not precious.exists()
    with pytest.raises(ConfigError, match="another user may have made a link on its path: name"):
        LogFile(path)
