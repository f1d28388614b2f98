"""What processes write reaches the master's standard error, as it is or as JSON."""

import json
import subprocess
import sys

import pytest

from gateman.master.stderr_relay import JsonLines, PlainLines
from tests.support.deadlines import TIMEOUT

# A master of nothing but a relay, of what a process writes that runs the second argument.
BEGINNING = """
import os, selectors, socket, subprocess, sys
from gateman.master.events import SlotId
from gateman.master.selector_loop import run_once
from gateman.master.stderr_relay import StderrRelay
from gateman.master.spawn import ChildProcess

selector = selectors.DefaultSelector()
relay = StderrRelay(selector, is_json=sys.argv[1] == "json")
read, write = os.pipe()
os.set_blocking(read, False)
process = subprocess.Popen([sys.executable, "-c", sys.argv[2]], stderr=write)
os.close(write)
child = ChildProcess(SlotId(0, 0), process, socket.socket(), read)
relay.add(child, "chat/0")
"""

# Its output is not read until it reports that it waits for that.
WHILE_IT_RUNS = """
waits = False
while child.stderr_fd >= 0 or selector.get_map():
    run_once(selector, None)
    if selector.get_map() and 2 in selector.get_map() and not waits:
        waits = True
        print("waits", flush=True)
"""

WHEN_IT_HAS_ENDED = """
print("waits", flush=True)
process.wait()
"""

END = """
relay.remove(child)
relay.remove(child)
relay.close()
process.wait()
child.close()
print(child.last_lines[-2:])
"""

MUCH = """
import sys
for _ in range(1024):
    sys.stderr.write("x" * 1023 + "\\n")
sys.stderr.write("end")
"""
LITTLE = "import sys; sys.stderr.write('first\\n' * 1000 + 'end')"


def relayed(form: str, middle: str, writes: str) -> tuple[str, str]:
    """Run a program; gives what it wrote to standard error, and what it printed."""
    with subprocess.Popen(
        [sys.executable, "-c", BEGINNING + middle + END, form, writes],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        printed, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0
    return errors, printed


def test_every_byte_is_relayed() -> None:
    """However much there is, in order, to the end of a line; the last lines are kept."""
    errors, printed = relayed("text", WHILE_IT_RUNS, MUCH)

    assert errors == ("x" * 1023 + "\n") * 1024 + "end\n"
    assert printed == f"{('x' * 500, 'end')}\n"


def test_every_line_becomes_an_object() -> None:
    """Where the log is JSON, each line is one, and so is what has no end."""
    errors, printed = relayed("json", WHILE_IT_RUNS, MUCH)
    objects = [json.loads(line) for line in errors.splitlines()]

    assert [one["message"] for one in objects] == ["x" * 1023] * 1024 + ["end"]
    assert {one["worker"] for one in objects} == {"chat/0"}
    assert printed == f"{('x' * 500, 'end')}\n"


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_last_output_is_relayed(form: str) -> None:
    """What is still in the pipe when a process has ended is not lost."""
    errors, printed = relayed(form, WHEN_IT_HAS_ENDED, LITTLE)
    lines = errors.splitlines()

    assert [json.loads(line)["message"] if form == "json" else line for line in lines] == [
        *["first"] * 1000,
        "end",
    ]
    assert printed == "('first', 'end')\n"


def test_pieces_may_be_cut_anywhere() -> None:
    """Lines are put together from pieces; empty ones are left out."""
    written = "einß\n\nzwei\ndrei".encode()

    for cut in range(len(written) + 1):
        objects = JsonLines(4711, "chat/0")
        pieces = [objects.feed(written[:cut], 0.0), objects.feed(written[cut:], 0.0)]
        lines = b"".join((*pieces, objects.end(0.0))).splitlines()

        assert [json.loads(line)["message"] for line in lines] == ["einß", "zwei", "drei"]


def test_lines_of_the_log_stay_as_they_are() -> None:
    """What is an object already is not put into another."""
    line = '{"time": "2023-11-14T22:13:20.250Z", "level": "info", "message": "up"}\n'

    assert JsonLines(1, "chat/0").feed(line.encode(), 0.0).decode() == line


def test_no_line_is_in_the_midst_of_another() -> None:
    """Processes that write a line in pieces, as print does with PYTHONUNBUFFERED."""
    one, other = PlainLines(), PlainLines()
    pieces = [one.feed(b"one: 1", 0.0), other.feed(b"other: 1", 0.0)]
    pieces += [one.feed(b"\none: 2", 0.0), other.feed(b"\n", 0.0), one.end(0.0), other.end(0.0)]

    assert b"".join(pieces) == b"one: 1\nother: 1\none: 2\n"


def test_progress_is_shown() -> None:
    """A bar that is drawn again on its own line, before that line has an end."""
    assert PlainLines().feed(b"\r10 %\r20 %", 0.0) == b"\r10 %\r"


@pytest.mark.parametrize("size", [64 << 10, (64 << 10) + 1])
@pytest.mark.parametrize("lines", [PlainLines(), JsonLines(1, "chat/0")])
def test_a_line_without_an_end_is_bounded(lines: PlainLines | JsonLines, size: int) -> None:
    """A program that writes megabytes without a line feed is not kept in memory."""
    written = lines.feed(b"x" * size, 0.0)
    lines.end(0.0)

    assert bool(written) == (size > 64 << 10)
