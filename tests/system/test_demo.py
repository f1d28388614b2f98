"""``examples/demo.py``, which ``make demo`` runs: started, opened, talked to, and stopped."""

import os
import signal
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.support.proxies import free_port

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"
TIMEOUT = 20.0  # seconds


@dataclass(frozen=True, slots=True)
class Demo:
    """
    The running demo.

    Attributes:
        process: Its process, which listens.
        port: Where.
        said: What it printed until it listened.
        trust: The context of a client that trusts its authority.
    """

    process: subprocess.Popen[str]
    port: int
    said: str
    trust: ssl.SSLContext


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    """Start it as ``make demo`` does, with a data folder and a port of its own."""
    port = free_port()
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "XDG_DATA_HOME": str(tmp_path),
        "PORT": str(port),
    }
    environment.pop("ADDRESS", None)
    with subprocess.Popen(
        [sys.executable, str(DEMO)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            said = ""
            # The log's line; the test's own deadline ends this if it never comes.
            while "listens on" not in said:
                line = process.stdout.readline()
                assert line, said
                said += line
            authority = next(tmp_path.rglob("ca.pem"))
            trust = ssl.create_default_context(cafile=authority)
            # websockets' sync client reads and writes in two threads, and with TLS 1.3's tickets
            # hangs about once in 500 connections.
            trust.maximum_version = ssl.TLSVersion.TLSv1_2
            yield Demo(process, port, said, trust)
        finally:
            process.kill()


def test_it_says_what_to_do(demo: Demo) -> None:
    """It prints the address to open and how to trust its authority."""
    assert f"https://localhost:{demo.port}/" in demo.said
    assert "ca.pem" in demo.said
    assert "Firefox" in demo.said


def test_it_is_a_chat(demo: Demo) -> None:
    """Everybody sees who comes, what everybody writes, and who leaves."""
    address = f"wss://localhost:{demo.port}"
    with ExitStack() as stack:
        first = stack.enter_context(connect(address, ssl=demo.trust, proxy=None))
        seen = [first.recv(TIMEOUT)]
        with connect(address, ssl=demo.trust, proxy=None) as second:
            second.send("Hello")
            also_seen = [second.recv(TIMEOUT), second.recv(TIMEOUT)]
            first.send(b"\x00\xff")
            also_seen.append(second.recv(TIMEOUT))
        seen += [first.recv(TIMEOUT) for _ in range(4)]

    assert also_seen == ["guest 2 is here, which makes 2", "guest 2: Hello", b"\x00\xff"]
    assert seen == ["guest 1 is here, which makes 1", *also_seen, "guest 2 left (1000)"]


def test_its_page_is_the_test_page(demo: Demo) -> None:
    """The address that it prints is the test page."""
    with urllib.request.urlopen(
        f"https://localhost:{demo.port}/", context=demo.trust, timeout=TIMEOUT
    ) as answer:
        page = answer.read().decode()

    assert "<title>gateman test page</title>" in page


def test_ctrl_c_stops_it(demo: Demo) -> None:
    """Ctrl-C closes the connections with 1001 and ends it in order, with no traceback."""
    with connect(f"wss://localhost:{demo.port}", ssl=demo.trust, proxy=None) as client:
        client.recv(TIMEOUT)
        demo.process.send_signal(signal.SIGINT)
        # Python's own keep-alive would end it too: this is the worker's close.
        for _ in client:
            pass
        code = client.close_code
    rest = demo.process.communicate(timeout=TIMEOUT)[0]

    assert code == 1001
    assert demo.process.returncode == 0
    assert "Traceback" not in rest
