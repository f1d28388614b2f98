"""What processes write reaches the master's standard error, as it is or as JSON."""

import json
import subprocess
import sys

import pytest

from gateman.master.relay import Objects

# A master of nothing but a relay: its process writes a mebibyte, and a line without an end.
PROGRAM = """
import os, selectors, socket, subprocess, sys
from gateman.master.events import Slot
from gateman.master.relay import Relay
from gateman.master.spawn import Offspring

selector = selectors.DefaultSelector()
relay = Relay(selector, is_json=sys.argv[1] == "json")
read, write = os.pipe()
os.set_blocking(read, False)
writes = "import sys; sys.stderr.write('x' * 1023 + '\\\\n'); " * 1024 + "sys.stderr.write('end')"
process = subprocess.Popen([sys.executable, "-c", writes], stderr=write)
os.close(write)
offspring = Offspring(Slot(0, 0), process, socket.socket(), read)
relay.add(offspring, "chat/0")
turns = 0
while offspring.errors >= 0:
    for key, _ in selector.select():
        key.data()
    turns += 1
while selector.get_map():
    for key, _ in selector.select():
        key.data()
relay.remove(offspring)
process.wait()
offspring.close()
print(turns, offspring.last_lines[-2:] == ("x" * 500, "end"))
"""


def relayed(form: str) -> tuple[str, str]:
    """Run the program; gives what it wrote to standard error, read slowly, and what it printed."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, form],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        errors = "".join(iter(lambda: process.stderr.read(100_000), ""))  # type: ignore[union-attr]
        printed = process.stdout.read()
    assert process.returncode == 0
    return errors, printed.partition(" ")[2]


def test_every_byte_is_relayed() -> None:
    """However much there is, in order; the last lines are kept."""
    errors, printed = relayed("text")

    assert errors == ("x" * 1023 + "\n") * 1024 + "end"
    assert printed == "True\n"


def test_every_line_becomes_an_object() -> None:
    """Where the log is JSON, each line is one, and so is what has no end."""
    errors, printed = relayed("json")
    objects = [json.loads(line) for line in errors.splitlines()]

    assert [one["message"] for one in objects] == ["x" * 1023] * 1024 + ["end"]
    assert {one["worker"] for one in objects} == {"chat/0"}
    assert printed == "True\n"


def test_pieces_may_be_cut_anywhere() -> None:
    """Lines are put together from pieces; empty ones are left out."""
    written = "einß\n\nzwei\ndrei".encode()

    for cut in range(len(written) + 1):
        objects = Objects(4711, "chat/0")
        pieces = [objects.feed(written[:cut], 0.0), objects.feed(written[cut:], 0.0)]
        lines = b"".join((*pieces, objects.end(0.0))).splitlines()

        assert [json.loads(line)["message"] for line in lines] == ["einß", "zwei", "drei"]


def test_lines_of_the_log_stay_as_they_are() -> None:
    """What is an object already is not put into another."""
    line = '{"time": "2023-11-14T22:13:20.250Z", "level": "info", "message": "up"}\n'

    assert Objects(1, "chat/0").feed(line.encode(), 0.0).decode() == line


@pytest.mark.parametrize("size", [64 << 10, (64 << 10) + 1])
def test_a_line_without_an_end_is_bounded(size: int) -> None:
    """A program that writes megabytes without a line feed is not kept in memory."""
    objects = Objects(1, "chat/0")
    written = objects.feed(b"x" * size, 0.0)

    assert bool(written) == (size > 64 << 10)
