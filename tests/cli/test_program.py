"""``python server.py COMMAND``: what a program of the user's does when it is run."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.master import ask, echo, files_beside, master, open_to, plain, secure

# As users start it: not forked.
STARTED = (sys.executable, "server.py")


@pytest.mark.parametrize("words", [[], ["start"]])
def test_a_program_serves(tmp_path: Path, words: list[str]) -> None:
    """``python server.py`` and ``python server.py start`` serve, with a process per slot."""
    with master(echo(options="count=2"), tmp_path, *words, command=STARTED) as service:
        assert ask(service.port)[1:] == ["1", "hello"]
        assert int(ask(service.port)[0]) in service.pids()
        assert len(set(service.pids())) == 2
        service.signal(signal.SIGTERM)

        assert service.wait() == 0
    assert files_beside(service.path) == []


def test_without_a_command_the_usage_is_one_line(tmp_path: Path) -> None:
    """A user who does not know the commands sees them, and the service starts."""
    with master(echo(), tmp_path) as service:
        assert service.wait_for("usage") == (
            "usage: python server.py {start|stop|restart|reload|status|connections|check"
            "|certificates|doctor} [--help]; without a command it starts in the foreground"
        )
    with master(echo(), tmp_path, "start") as service:
        service.signal(signal.SIGTERM)

        assert service.wait() == 0
        assert "usage" not in service.stderr


def test_code_after_run_all_runs_once(tmp_path: Path) -> None:
    """When the service has ended, the program continues; its processes do not."""
    script = echo() + "\nopen('ended', 'a').write('once')\n"
    with master(script, tmp_path, command=STARTED) as service:
        service.signal(signal.SIGINT)

        assert service.wait() == 0
    assert (tmp_path / "ended").read_text() == "once"


@pytest.mark.parametrize(("number", "protect"), [(signal.SIGINT, plain), (signal.SIGTERM, secure)])
def test_a_fast_stop_says_going_away(
    tmp_path: Path, number: signal.Signals, protect: Callable[[str], str]
) -> None:
    """Clients see 1001, and a reason."""
    with master(protect(echo()), tmp_path) as service, open_to(service) as client:
        service.signal(number)
        with pytest.raises(Exception, match="1001"):
            client.recv(10)
        assert service.wait() == 0


def test_ctrl_c_reaches_all_processes_and_only_the_master_acts(tmp_path: Path) -> None:
    """A terminal signals the whole group; no process shows a traceback."""
    with master(echo(options="count=2"), tmp_path, start_new_session=True) as service:
        os.killpg(service.pid, signal.SIGINT)

        assert service.wait() == 0
        assert "Traceback" not in service.stderr


def test_a_word_that_is_nearly_a_command(tmp_path: Path) -> None:
    """A typo does not start a service."""
    with master(echo(), tmp_path, "relaod", listens=False) as service:
        assert service.wait() == 2
        assert service.stderr == "'relaod' is not a command: did you mean 'reload'?"
