"""What systemd is sent, over a real socket, and by a real master."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateman.master.sd_notify import Notifier
from tests.support.deadlines import TIMEOUT
from tests.support.master import echo, master, until


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket that systemd would listen on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(TIMEOUT)
        yield sock


def notes(sock: socket.socket, count: int) -> list[str]:
    """Receive notes."""
    return [sock.recv(4096).decode() for _ in range(count)]


def test_notes_arrive(systemd: socket.socket) -> None:
    """One datagram each, with the instant at which a reload began."""
    notifier = Notifier({"NOTIFY_SOCKET": systemd.getsockname()})
    notifier.ready()
    notifier.alive()
    notifier.reloading()
    notifier.stopping()
    ready, alive, reloading, stopping = notes(systemd, 4)
    name, _, microseconds = reloading.partition("=1\nMONOTONIC_USEC=")

    assert [ready, alive, stopping] == ["READY=1", "WATCHDOG=1", "STOPPING=1"]
    assert (name, microseconds.isdigit()) == ("RELOADING", True)


def test_the_socket_may_have_no_file() -> None:
    """A name that begins with @ is one of Linux's abstract sockets."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("")
        Notifier({"NOTIFY_SOCKET": "@" + sock.getsockname()[1:].decode()}).ready()

        assert sock.recv(100) == b"READY=1"


def test_without_systemd_nothing_is_sent(tmp_path: Path) -> None:
    """A notification that is not read does not fail either."""
    Notifier({}).ready()
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready()


@pytest.mark.parametrize(
    ("variables", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_a_watchdog_is_for_one_process(variables: dict[str, str], interval: float | None) -> None:
    """Signs of life are due in half of its time; no child inherits anything of it."""
    environment = {"NOTIFY_SOCKET": "/run/nobody", "HOME": "/", **variables}

    assert Notifier(environment).alive_interval == interval
    assert environment == {"HOME": "/"}
    assert Notifier({**variables}).alive_interval is None


def test_a_stuck_reader_does_not_block_the_master(systemd: socket.socket) -> None:
    """A sign of life that finds no room is left out."""
    notifier = Notifier({"NOTIFY_SOCKET": systemd.getsockname()})
    for _ in range(1000):
        notifier.alive()

    assert notes(systemd, 1) == ["WATCHDOG=1"]


def test_a_master_reports_its_state(systemd: socket.socket, tmp_path: Path) -> None:
    """That it lives, each half of the watchdog's time; that it serves, reloads and ends."""
    variables = {"NOTIFY_SOCKET": systemd.getsockname(), "WATCHDOG_USEC": "400000"}
    heard: list[str] = []

    def listen() -> None:
        # All the time, as systemd does: a queue has room for ten of them.
        while not heard or heard[-1] != "STOPPING=1":
            heard.extend(notes(systemd, 1))

    listener = threading.Thread(target=listen)
    listener.start()
    with master(echo(), tmp_path, environment=variables) as running:
        until(lambda: "WATCHDOG=1" in heard)
        assert running.command("reload").returncode == 0
        assert running.command("stop").returncode == 0
        assert running.wait() == 0
    listener.join(10)

    assert [note.partition("\n")[0] for note in heard if note != "WATCHDOG=1"] == [
        "READY=1",
        "RELOADING=1",
        "READY=1",
        "STOPPING=1",
    ]
