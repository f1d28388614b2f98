"""Sockets that systemd passes: taken over by who they are for, and matched by address."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gateman.listen import ListenAddress
from gateman.net.socket_activation import inherited, matching
from tests.support.deadlines import TIMEOUT

# Prints what it inherits on the descriptors from 3 on, and what is left of the variables.
SCRIPT = """
import os
from gateman.net.socket_activation import inherited
if {is_for_us}:
    os.environ["LISTEN_PID"] = str(os.getpid())
found = inherited(os.environ)
print([(sock.fileno(), sock.getblocking(), sock.get_inheritable()) for sock in found])
print([name for name in os.environ if name.startswith("LISTEN_")])
"""


@pytest.mark.parametrize(
    ("count", "is_for_us", "expected"),
    [
        ("1", True, "[(3, False, False)]"),
        # What is no socket is left alone.
        ("2", True, "[(3, False, False)]"),
        ("1", False, "[]"),
        ("0", True, "[]"),
        ("many", True, "[]"),
    ],
)
def test_sockets_are_taken_over(count: str, expected: str, *, is_for_us: bool) -> None:
    """Only by the process they are for; and nobody else is told of them."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        script = SCRIPT.format(is_for_us=is_for_us)
        launcher = (
            f"import os, sys; os.dup2({sock.fileno()}, 3); os.set_inheritable(3, True);"
            f" os.execv(sys.executable, [sys.executable, '-c', {script!r}])"
        )
        done = subprocess.run(
            [sys.executable, "-c", launcher],
            env={"LISTEN_PID": "1", "LISTEN_FDS": count, "LISTEN_FDNAMES": "chat"},
            pass_fds=(sock.fileno(),),
            capture_output=True,
            text=True,
            check=True,
            timeout=TIMEOUT,
        )

    assert done.stdout.splitlines() == [expected, "[]"]


def test_without_the_variables_nothing_is_inherited() -> None:
    """As in a terminal."""
    assert inherited({}) == []


def test_sockets_are_matched_by_address(tmp_path: Path) -> None:
    """IPv4, IPv6 and unix sockets; a name needs all of its addresses."""
    path = tmp_path / "chat.sock"
    with (
        socket.create_server(("127.0.0.1", 0)) as four,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as six,
        socket.socket(socket.AF_UNIX) as local,
    ):
        local.bind(str(path))
        passed = [four, six, local]
        port, other = four.getsockname()[1], six.getsockname()[1]
        cases = {
            f"ws://127.0.0.1:{port}": [four],
            f"ws://127.0.0.1:{other}": [],
            f"ws://0.0.0.0:{port}": [],
            f"ws://[::1]:{other}": [six],
            f"websocket+unix://{path}": [local],
            f"websocket+unix://{path}.other": [],
        }

        assert {
            address: matching(ListenAddress.parse(address), passed) for address in cases
        } == cases
        assert matching(ListenAddress.parse(f"ws://127.0.0.1:{port}"), []) == []
