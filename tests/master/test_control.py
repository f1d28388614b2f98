"""The control socket: whose it is, and what it makes of nonsense."""

import os
import socket
from pathlib import Path

import pytest

from tests.support.master import echo, master


@pytest.mark.parametrize(
    "request_line", [b"nonsense\n", b"[]\n", b"x" * 5000, b'{"command": "explode"}\n', b""]
)
def test_nonsense_is_refused(tmp_path: Path, request_line: bytes) -> None:
    """Whatever is sent to the control socket, the master lives."""
    with master(echo(), tmp_path) as service:
        (path,) = tmp_path.glob("*.sock")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            fd = os.open(path.parent, os.O_PATH)
            sock.connect(f"/proc/self/fd/{fd}/{path.name}")
            os.close(fd)
            sock.sendall(request_line)
            sock.shutdown(socket.SHUT_WR)
            answer = sock.recv(4096)

        assert answer in {
            b"",
            b'{"ok":false,"error":"the running master knows no such command."}\n',
        }
        assert service.status()["ok"]
