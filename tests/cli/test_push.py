"""``gateman push``, to a running service of two processes."""

import os
import signal
import sys
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.support.deadlines import TIMEOUT
from tests.support.master import GATEMAN, Master, master, run, until
from tests.support.suspend import suspend

ROOMS = """
from gateman import Worker

worker = Worker("websocket://127.0.0.1:0", name="rooms", count=2)

@worker.on_message
async def enter(connection, message):
    await connection.join(message)
    await connection.bind(f"fan of {message}")
    connection.send(connection.client_id)

Worker.run_all()
"""


def push(service: Master, *words: str) -> tuple[int, str, str]:
    """Give the command; tell its exit code and what it printed."""
    done = run([*GATEMAN, "push", "--service", str(service.path), *words], service.path.parent)
    return done.returncode, done.stdout, done.stderr


def until_all_know_each_other(service: Master) -> None:
    """Wait until both processes serve, and have answered each other's hello."""
    until(lambda: [slot["state"] for slot in service.status()["slots"]] == ["running"] * 2)
    # Each process answers the command after the hellos that came before it.
    assert push(service, "--all", "text")[0] == 0


def test_it_reaches_the_named_clients(tmp_path: Path) -> None:
    """Groups, users, clients, or all clients, in all processes."""
    with master(ROOMS, tmp_path) as service:
        url = f"ws://127.0.0.1:{service.port}"
        with connect(url) as jazz, connect(url) as rock:
            jazz.send("jazz")
            rock.send("rock")
            ids = [jazz.recv(), rock.recv()]
            for words, printed in [
                (("--group", "jazz", "for jazz"), "sent to 1 client\n"),
                (("--group", "jazz", "--group", "rock", "for both"), "sent to 2 clients\n"),
                (("--uid", "fan of rock", "for rock's fans"), "sent to 1 client\n"),
                (("--client", str(ids[0]), "for one"), "sent to 1 client\n"),
                (("--all", "for all"), "sent to 2 clients\n"),
                (("--uid", "fan of folk", "x"), "sent to 0 clients: no such client is connected\n"),
                (("--client", "nobody-1", "x"), "sent to 0 clients: no such client is connected\n"),
            ]:
                assert push(service, *words) == (0, printed, "")

            assert [jazz.recv(timeout=TIMEOUT) for _ in range(4)] == [
                "for jazz",
                "for both",
                "for one",
                "for all",
            ]
            assert [rock.recv(timeout=TIMEOUT) for _ in range(3)] == [
                "for both",
                "for rock's fans",
                "for all",
            ]


def test_silent_processes_are_named(tmp_path: Path) -> None:
    """A process that is stuck may have more of them; the message is on its way."""
    with master(ROOMS, tmp_path) as service:
        until_all_know_each_other(service)
        stopped = service.pids()[0]
        suspend(stopped)
        code, printed, error = push(service, "--all", "text")
        os.kill(stopped, signal.SIGCONT)

        assert (code, error) == (0, "")
        assert printed.startswith("sent to 0 clients at least: no answer from ")


def test_it_reads_standard_input(tmp_path: Path) -> None:
    """A dash stands for what a program before it writes."""
    with master(ROOMS, tmp_path) as service, connect(f"ws://127.0.0.1:{service.port}") as client:
        client.send("jazz")
        client.recv()
        words = f"{sys.executable} -m gateman push --all - --service {service.path}"

        assert run(["sh", "-c", f"echo piped | {words}"], tmp_path).returncode == 0
        assert client.recv(timeout=TIMEOUT) == "piped\n"


@pytest.mark.parametrize("words", [(), ("--all", "--uid", "42"), ("--group", "a", "--uid", "b")])
def test_receivers_are_required(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Without a receiver nothing is sent to all clients."""
    done = run(
        [*GATEMAN, "push", "text", *words, "--bus", "nats://127.0.0.1:1?name=test"], tmp_path
    )

    assert done.returncode == 2
    assert "Name the receivers: one of --all, --group, --uid and --client." in done.stderr


@pytest.mark.parametrize(
    "words", [("push", "server.py", "--all", "x"), ("push", "--all", "hello", "x"), ("who", "x")]
)
def test_a_script_without_its_option_is_told(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Other commands take the script as an argument."""
    done = run([*GATEMAN, *words], tmp_path)

    assert done.returncode == 2
    assert done.stderr.endswith(
        "Error: Got unexpected extra argument (x): write a script behind --service, and a text in"
        " quotes.\n"
    )


def test_invalid_names_are_refused(tmp_path: Path) -> None:
    """A client id that is none is one sentence, and nothing is sent."""
    with master(ROOMS, tmp_path) as service:
        assert push(service, "--client", "ann", "text") == (
            78,
            "",
            "gateman: 'ann' is not a client id: take it from connection.client_id, as it is.\n",
        )
