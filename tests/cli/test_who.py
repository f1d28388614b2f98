"""``gateman who``, about a running service of two processes."""

import os
import signal
from pathlib import Path

from websockets.sync.client import connect

from tests.support.master import GATEMAN, Master, master, run
from tests.support.suspend import suspend

from .test_push import ROOMS, until_all_know_each_other


def who(service: Master, *words: str) -> tuple[int, list[str], str]:
    """Give the command; tell its exit code and what it printed."""
    done = run([*GATEMAN, "who", "--service", str(service.path), *words], service.path.parent)
    return done.returncode, done.stdout.splitlines(), done.stderr


def test_it_lists_the_connected_clients(tmp_path: Path) -> None:
    """Client ids, a line each, or numbers of all."""
    with master(ROOMS, tmp_path) as service:
        url = f"ws://127.0.0.1:{service.port}"
        with connect(url) as ann, connect(url) as bob, connect(url):
            ids = []
            for client in (ann, bob):
                client.send("jazz")
                ids.append(str(client.recv()))

            assert who(service) == (0, ["clients  3", "users    1", "groups   1"], "")
            assert who(service, "--uid", "fan of jazz") == (0, sorted(ids), "")
            assert who(service, "--group", "jazz") == (0, sorted(ids), "")
            assert who(service, "--group", "nobody is here") == (0, [], "")
            assert who(service, "--group", "a", "--uid", "b")[0] == 2


def test_the_error_names_what_is_missing(tmp_path: Path) -> None:
    """A process that is stuck makes the answer one that may be too short, and the exit code 1."""
    with master(ROOMS, tmp_path) as service:
        until_all_know_each_other(service)
        stopped = service.pids()[0]
        suspend(stopped)
        code, lines, error = who(service)
        os.kill(stopped, signal.SIGCONT)

        assert (code, lines) == (1, ["clients  0", "users    0", "groups   0"])
        assert error.startswith("gateman: the result may be incomplete: no answer from ")
