"""``examples/demo.py``, which ``make demo`` runs: started, opened, talked to, and stopped."""

import os
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
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


# What a test does with a page, and waits for.
HANDS = """
globalThis.until = (check) => new Promise((done) => {
    const look = () => check() ? done(true) : setTimeout(look, 20);
    look();
});
globalThis.messages = () => Array.from(field("messages").children, (item) => item.textContent);
globalThis.guests = () => Array.from(field("here").children, (item) => item.textContent);
globalThis.say = (text) => {
    field("message").value = text;
    document.querySelector("#form button").click();
    return until(() => field("message").value === "");
};
globalThis.rename = (text) => {
    field("name").value = text;
    document.querySelector("#naming button").click();
    return until(() => guests().includes(text));
};
globalThis.returns = () => messages().filter((text) => text.startsWith("Back after")).length;
"""


@contextmanager
def page(demo: Demo) -> Iterator[Chromium]:
    """Open the page, as somebody who trusts its authority."""
    if missing := Chromium.missing():
        pytest.skip(missing)
    with Chromium([demo.authority.read_text()]) as browser:
        browser.open(f"https://localhost:{demo.port}/")
        browser.paste(HANDS)
        browser.evaluate('until(() => field("state").textContent === "connected")')
        yield browser


def test_it_is_a_chat_that_loses_nothing(demo: Demo) -> None:
    """It shows who is here and what was said before; a reload and a killed process are a blip."""
    with page(demo) as ann, page(demo) as bob:
        ann.evaluate('rename("Ann")')
        bob.evaluate('until(() => guests().includes("Ann"))')
        ann.evaluate('say("hello")')
        bob.evaluate('until(() => messages().includes("Ann: hello"))')
        for number, button in enumerate(("reload", "kill"), start=1):
            before = ann.evaluate("returns()")
            ann.evaluate(f'(field("{button}").click(), until(() => returns() > {before}))')
            bob.evaluate(f'say("{button}")')
            ann.evaluate(f'until(() => messages().some((text) => text.endsWith(": {button}")))')
            told = f"{number + 1} messages received, 0 missing."
            for browser in (ann, bob):
                browser.evaluate(f'until(() => field("received").textContent === "{told}")')
        late = ann.evaluate("messages().filter((text) => !text.startsWith('Back after'))")
        # Who comes later sees the same.
        bob.open(f"https://localhost:{demo.port}/")
        bob.paste(HANDS)
        bob.evaluate(f"until(() => messages().length === {len(late)})")

        assert bob.evaluate("messages()") == late
        assert late[0] == "Ann: hello"


def test_what_it_does_not_take(demo: Demo) -> None:
    """A name and a message have a length; other paths have no page."""
    with page(demo) as ann:
        ann.evaluate(f'(rename("{"x" * 41}"), until(() => guests().includes("{"x" * 40}")))')
        refusal = "room.publish({from: self, number, text: 7}).catch(({ code }) => code)"
        assert ann.evaluate(refusal) == 400
        assert ann.evaluate('fetch("other").then(({ status }) => status)') == 404


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
    shutil.copytree(DEMO.parent / "chat", tmp_path / "chat")

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
    """Ctrl-C closes the connections with 3001, so that they come back, and ends it in order."""
    with connect(f"wss://localhost:{demo.port}", ssl=demo.trust, proxy=None) as client:
        client.send('{"id":1,"connect":{}}')
        client.recv(TIMEOUT)
        demo.process.send_signal(signal.SIGINT)
        # Python's own keep-alive would end it too: this is the worker's close.
        with suppress(ConnectionClosed):
            for _ in client:
                pass
        code = client.close_code
    rest = demo.process.communicate(timeout=TIMEOUT)[0]

    assert code == 3001
    assert demo.process.returncode == 0
    assert "Traceback" not in rest
