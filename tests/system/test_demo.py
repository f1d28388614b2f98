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

from tests.support.browser import Chromium
from tests.support.certificates import for_threads
from tests.support.deadlines import TIMEOUT
from tests.support.ports import free_port

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"


@dataclass(frozen=True, slots=True)
class Demo:
    """
    The running demo.

    Attributes:
        process: Its process, which listens.
        port: Where.
        said: What it printed until it listened.
        authority: A file with its authority.
        trust: The context of a client that trusts that.
    """

    process: subprocess.Popen[str]
    port: int
    said: str
    authority: Path
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
            # What one process says, and the log's line; the test's own deadline ends this if one
            # of them never comes.
            while "Ctrl-C ends it" not in said or "listens on" not in said:
                line = process.stdout.readline()
                assert line, said
                said += line
            authority = next(tmp_path.rglob("ca.pem"))
            trust = for_threads(ssl.create_default_context(cafile=authority))
            yield Demo(process, port, said, authority, trust)
        finally:
            process.kill()


def test_it_says_what_to_do(demo: Demo) -> None:
    """It prints the address to open and how to trust its authority."""
    assert f"https://localhost:{demo.port}/" in demo.said
    assert "ca.pem" in demo.said
    assert "Firefox" in demo.said


class Guest:
    """
    Somebody in the chat.

    Attributes:
        name: What the chat calls them at first.
    """

    def __init__(self, demo: Demo, stack: ExitStack) -> None:
        self._client = stack.enter_context(
            connect(f"wss://localhost:{demo.port}", ssl=demo.trust, proxy=None)
        )
        self.name = str(self.read()).removeprefix("Welcome, ").partition("!")[0]

    def say(self, message: str | bytes) -> None:
        """Write something."""
        self._client.send(message)

    def read(self) -> str | bytes:
        """Read the next message."""
        return self._client.recv(TIMEOUT)

    @property
    def process(self) -> str:
        """Which process serves them, as far as their name tells."""
        return process_of(self.name)


def process_of(name: str) -> str:
    """Tell a guest's process, as far as the name tells that the chat gives."""
    return name.partition("-")[2].partition("-")[0]


def test_it_is_a_chat(demo: Demo) -> None:
    """Everybody sees who comes, what everybody writes, and who leaves, whoever serves them."""
    with ExitStack() as stack:
        first = Guest(demo, stack)
        assert first.read() == f"{first.name} is in lobby, which makes 1"
        with ExitStack() as others:
            # Each process has its share; the second may take a while to come.
            second = Guest(demo, others)
            count = 2
            assert first.read() == second.read() == f"{second.name} is in lobby, which makes 2"
            while second.process == first.process:
                second = Guest(demo, others)
                count += 1
                arrival = f"{second.name} is in lobby, which makes {count}"
                assert first.read() == second.read() == arrival
            second.say("Hello")
            assert first.read() == second.read() == f"{second.name}: Hello"
            first.say(b"\x00\xff")
            assert first.read() == second.read() == b"\x00\xff"
        left = {str(first.read()) for _ in range(count - 1)}

    assert f"{second.name} left (1000)" in left


def test_it_has_names_and_rooms(demo: Demo) -> None:
    """Who goes to another room is read there, and no more where they were."""
    with ExitStack() as stack:
        ann = Guest(demo, stack)
        assert ann.read() == f"{ann.name} is in lobby, which makes 1"
        bob = Guest(demo, stack)
        assert ann.read() == bob.read() == f"{bob.name} is in lobby, which makes 2"
        ann.say("/name Ann")
        assert ann.read() == bob.read() == f"{ann.name} is now Ann"
        bob.say("/name Bob")
        assert ann.read() == bob.read() == f"{bob.name} is now Bob"
        bob.say("/who")
        assert bob.read() == "In lobby: Ann, Bob"
        bob.say("/room jazz")
        assert ann.read() == "Bob went to jazz"
        assert bob.read() == "Bob is in jazz, which makes 1"
        ann.say("Is anybody here?")
        assert ann.read() == "Ann: Is anybody here?"
        bob.say("/rooms")
        assert bob.read() == "Rooms: jazz, lobby"
        bob.say("/dance")
        assert str(bob.read()).startswith("Write, and all in your room read it.")


# What a person does with the page, and sees on it; its own script brings $.
HANDS = """
globalThis.until = (check) => new Promise((resolve) => {
    const look = () => check() ? resolve(null) : setTimeout(look, 5);
    look();
});
globalThis.heard = () => Array.from(
    document.querySelectorAll("#log .received .body"), (body) => body.textContent);
globalThis.hears = (text) => until(() => heard().includes(text));
globalThis.say = (text) => { $("message").value = text; $("send").click(); };
"""


def test_browsers_of_two_processes_talk(demo: Demo) -> None:
    """The page that the demo names is a way into the chat, whatever process it got to."""
    if missing := Chromium.missing():
        pytest.skip(missing)
    with Chromium([demo.authority.read_text()]) as page, ExitStack() as stack:
        page.open(f"https://localhost:{demo.port}/")
        page.paste(HANDS)
        page.evaluate('$("connect").click(), until(() => heard().length >= 2)')
        name = page.evaluate("heard()")[0].removeprefix("Welcome, ").partition("!")[0]
        guest = Guest(demo, stack)
        while guest.process == process_of(name):
            guest = Guest(demo, stack)
        guest.say("/name Ann")
        guest.say("Hello, browser")
        page.evaluate('hears("Ann: Hello, browser")')
        page.evaluate(f'say("/name Bob"), hears("{name} is now Bob")')
        page.evaluate('say("Hello, Ann"), hears("Bob: Hello, Ann")')
        lines: list[str] = []
        while lines[-1:] != ["Bob: Hello, Ann"]:
            lines.append(str(guest.read()))

    # The guests before this one, which got to the browser's process, may be announced late.
    assert [line for line in lines if " is in lobby, " not in line] == [
        f"{guest.name} is now Ann",
        "Ann: Hello, browser",
        f"{name} is now Bob",
        "Bob: Hello, Ann",
    ]


def test_its_page_is_the_test_page(demo: Demo) -> None:
    """The address that it prints is the test page."""
    with urllib.request.urlopen(
        f"https://localhost:{demo.port}/", context=demo.trust, timeout=TIMEOUT
    ) as answer:
        page = answer.read().decode()

    assert "<title>gateman test page</title>" in page


def test_it_has_the_commands_of_a_service(tmp_path: Path) -> None:
    """What it says of itself, ``{start|stop|…}``, is true."""
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "XDG_DATA_HOME": str(tmp_path),
        "PORT": "0",
    }
    demo = tmp_path / "demo.py"
    demo.write_text(DEMO.read_text())

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, demo, *words],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT,
        )

    started = run("start", "-d")
    try:
        assert started.returncode == 0, started.stderr
        assert "chat/1" in run("status").stdout
    finally:
        stopped = run("stop")

    assert (stopped.returncode, stopped.stdout) == (0, "stopped\n")


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
