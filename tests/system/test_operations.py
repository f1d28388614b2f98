"""``docs/operations.md`` says what the commands do, and its examples work."""

import json
import logging
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from gateman.cli import gateman
from gateman.cli.views import status_lines
from gateman.errors import ExitCode
from gateman.log import Json
from gateman.ops.systemd import UnitSettings, unit

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
COMMANDS = ("start", "stop", "restart", "reload", "status", "connections", "check", "systemd")


def block(language: str, *, number: int = 0) -> str:
    """Read a block of the page."""
    found: list[str] = re.findall(rf"(?ms)^```{language}\n(.*?)^```$", PAGE)
    return found[number]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_on_the_page(name: str) -> None:
    """Of those that are about a running service."""
    command = gateman.get_command(click.Context(gateman), name)
    assert command is not None
    options = [option.opts for option in command.params if isinstance(option, click.Option)]

    assert f"| `{name}" in PAGE
    assert [names for names in options if not any(word in PAGE for word in names)] == []


def test_the_page_names_exit_codes_as_they_are() -> None:
    """A number that it names means what it says."""
    sentence = PAGE.partition("tell a shell what happened: ")[2].partition(".\n")[0]
    codes = [ExitCode(int(number)) for number in re.findall(r"\d+", sentence)]

    assert [code.name for code in codes] == [
        "NOT_RUNNING",
        "ALREADY_RUNNING",
        "CONFIG",
        "LOAD_FAILED",
        "CRASHED",
    ]


def process(pid: int, **more: Any) -> dict[str, Any]:
    """Describe a process of the page's example."""
    return {"pid": pid, "certificate_days": 61, "counts": {}, **more}


def test_status_looks_as_shown() -> None:
    """The page's picture is what is printed in a terminal of 80 columns."""
    shared = {"worker": "chat", "listen": "wss://0.0.0.0:8282", "state": "running"}
    first = process(
        4712,
        status="idle",
        uptime=259_300,
        memory=32_925_286,
        connections=12034,
        messages=1_203_400,
        qps=1203.2,
        send_fail=12,
        timers=2,
        lag=0.0004,
        counts={"dropped_slow_peer": 12, "unmasked_frame": 3, "connections": 9},
        hub={"published": 90210, "received": 90188, "lost": 2},
    )
    second = process(
        9020,
        status="busy",
        uptime=7300,
        memory=31_247_564,
        connections=11988,
        messages=88213,
        qps=1180.0,
        send_fail=0,
        timers=2,
        lag=0.002,
    )
    slots = [
        {**shared, "slot": 0, "restarts": 0, "last_exit": None, "processes": [first]},
        {
            **shared,
            "slot": 1,
            "restarts": 1,
            "last_exit": "was killed by SIGKILL after 3 days",
            "processes": [second],
        },
    ]
    answer = {
        "master": {
            "pid": 4711,
            "script": "/srv/chat/server.py",
            "uptime": 259_300,
            "state": "running",
        },
        "workers": [{"name": "chat", "listen": "wss://0.0.0.0:8282", "count": 2}],
        "slots": slots,
    }
    shown = "\n".join(line.text for line in status_lines(answer, 80))

    assert f"```\n$ gateman status server.py\n{shown}\n```\n" in PAGE


def test_a_log_for_programs_looks_as_shown() -> None:
    """The example has the keys that a line has."""
    record = logging.LogRecord("gateman", logging.WARNING, "", 0, "…", (), None)

    assert list(json.loads(block("json"))) == list(json.loads(Json("chat/0").format(record)))


def test_the_socket_unit_fits_the_service(tmp_path: Path) -> None:
    """Systemd accepts both together."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    socket = block("ini")
    facts = UnitSettings(
        name="chat", program="/srv/server.py", python=Path(sys.executable), folder=Path("/")
    )
    (tmp_path / "chat.socket").write_text(socket)
    (tmp_path / "chat.service").write_text(unit(facts))
    verified = subprocess.run(
        [analyze, "verify", "--man=no", str(tmp_path / "chat.socket")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert socket.startswith("# chat.socket\n")
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
