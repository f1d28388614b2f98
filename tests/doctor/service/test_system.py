"""What Linux tells of sockets, processes and rights."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gateman.doctor.service import system
from gateman.doctor.service.observations import ListenerSeen, RightsSeen
from tests.support.master import until

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"
TABLE = HEAD + (
    "   0: 0100007F:205A 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 111 1\n"
    "   1: 00000000:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 222 1\n"
    "   2: 0100007F:205A 0100007F:9999 01 00000000:00000000 00:00000000 00000000  0 0 333 1\n"
)
TABLE_6 = HEAD + (
    "   0: 00000000000000000000000001000000:205A 00000000000000000000000000000000:0000 0A"
    " 00000000:00000000 00:00000000 00000000  0 0 444 1\n"
)


def test_tables_of_sockets_are_read() -> None:
    assert system.parse_sockets(TABLE, {8282, 443}, is_ipv6=False) == [
        ("127.0.0.1", 8282, "111"),
        ("0.0.0.0", 443, "222"),
    ]
    assert system.parse_sockets(TABLE, {1}, is_ipv6=False) == []
    assert system.parse_sockets(TABLE_6, {8282}, is_ipv6=True) == [("::1", 8282, "444")]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_the_owner_of_a_port_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        name = Path("/proc/self/comm").read_text().strip()

        assert system.listeners({port}, [os.getpid()]) == (
            ListenerSeen(
                address="127.0.0.1", port=port, owner=f"{name} (pid {os.getpid()})", is_own=True
            ),
        )
        assert not (system.listeners({port}, []) or ())[0].is_own


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_what_processes_tell() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            until(lambda: system.name(process.pid) == "sleep")
            assert system.command(process.pid) == ["sleep", "60"]
            assert system.folder(process.pid) == Path.cwd()
            assert system.uid(process.pid) == os.geteuid()
            assert process.pid in system.processes_named({"sleep"})
            assert (system.open_files(process.pid) or 0) > 10
        finally:
            process.kill()

    assert system.name(process.pid) == ""
    assert system.folder(process.pid) == Path("/")
    assert system.open_files(process.pid) is None


def test_rights_on_the_way_to_a_socket(tmp_path: Path) -> None:
    nobody = system.user_of("nobody")
    root = system.user_of(0)
    assert nobody is not None
    assert root is not None
    # Its parents may be closed to others, too.
    folder = tmp_path / "a"
    folder.mkdir()
    path = folder / "w.sock"
    path.touch()
    for one in (tmp_path, *tmp_path.parents):
        if one.stat().st_uid == os.geteuid() and one != Path("/"):
            one.chmod(one.stat().st_mode | 0o111)
    folder.chmod(0o700)
    path.chmod(0o600)
    found = system.denied(path, nobody)

    assert isinstance(found, RightsSeen)
    assert (found.path, found.right, found.mode) == (str(folder), "enter", "drwx------")
    folder.chmod(0o755)
    found = system.denied(path, nobody)
    assert found is not None
    assert (found.path, found.right) == (str(path), "write to")
    path.chmod(0o666)
    assert system.denied(path, nobody) is None
    assert system.denied(path, root) is None
    assert system.denied(tmp_path / "missing" / "w.sock", nobody) is None


def test_a_user_is_found_by_name_and_number() -> None:
    found = system.user_of("0")

    assert found is not None
    assert found.pw_uid == 0
    assert system.user_of("nobody-of-that-name") is None


def test_the_end_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("0123456789")

    assert system.tail(path, 4) == "6789"
    assert system.tail(tmp_path / "missing") == ""
