"""
The chat of ``docs/clients.md``: its server, and its clients in each language, talk to each other.

They run as they are, but for the address that is written into them: with verified certificates,
the page and React in Chromium, the mini program on the stand-in of ``tests/support/wechat.js``.
"""

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import trustme
from click.testing import CliRunner

from gateman.cli import gateman
from tests.support.browser import Chromium
from tests.support.deadlines import TIMEOUT
from tests.support.proxies import program
from tests.support.sdk import need_packages
from tests.support.service import DOMAIN, Service, serve

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / "examples" / "clients"

# A whole application in React, which shows the hook's state and messages, and says "react".
APPLICATION = """
import { Centrifuge } from "centrifuge";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { useChannel } from "./use-channel";

const client = new Centrifuge("wss://example.com/wss");
client.connect();

function Room() {
  const { messages, state, publish } = useChannel<string>(client, "chat:1");
  return <>
    <p id="state">{state}</p>
    <button onClick={() => publish("react")}>Send</button>
    <ol id="messages">{messages.map((text, number) => <li key={number}>{text}</li>)}</ol>
  </>;
}

createRoot(document.getElementById("root")!).render(<StrictMode><Room /></StrictMode>);
"""

# What the pages show, for a test to wait for.
HANDS = """
globalThis.until = (check) => new Promise((done) => {
    const look = () => check() ? done(true) : setTimeout(look, 10);
    look();
});
globalThis.items = () => document.querySelectorAll("#messages li");
globalThis.heard = () => Array.from(items(), (item) => item.textContent);
globalThis.hears = (text) => until(() => heard().includes(text));
"""


class Program:
    """A client in a child process, whose lines a test waits for."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def hears(self, wanted: str | Callable[[str], bool]) -> None:
        """Wait for a line."""
        is_it = wanted if callable(wanted) else wanted.__eq__
        seen: list[str] = []
        while not seen or not is_it(seen[-1]):
            seen.append(self._lines.get(timeout=TIMEOUT))

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.strip())


def shows(text: str) -> Callable[[str], bool]:
    """Tell whether the mini program's page shows a message."""
    return lambda line: text in json.loads(line)["data"]["messages"]


class Chat:
    """The running server of the chat, and its clients."""

    def __init__(self, service: Service, folder: Path, stack: ExitStack) -> None:
        self.address = f"wss://{DOMAIN}:{service.port}"
        self._service = service
        self._folder = folder
        self._stack = stack

    def run(self, *command: str) -> Program:
        """Start a client, which trusts the server's certificate."""
        environment = {
            **os.environ,
            "NODE_PATH": str(need_packages()),
            "NODE_EXTRA_CA_CERTS": str(self._service.authority),
            "SSL_CERT_FILE": str(self._service.authority),
        }
        process = self._stack.enter_context(
            subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        self._stack.callback(process.kill)
        return Program(process)

    def write(self, name: str, text: str | None = None) -> Path:
        """Write a client with the server's address, and return its path."""
        path = self._folder / name
        text = (CLIENTS / name).read_text() if text is None else text
        path.write_text(text.replace("wss://example.com/wss", self.address))
        return path


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Make an authority that no system trusts."""
    return trustme.CA()


@pytest.fixture(scope="module")
def chromium(authority: trustme.CA) -> Iterator[Chromium]:
    """Run a browser that trusts it."""
    if missing := Chromium.missing():
        pytest.skip(missing)
    with Chromium([authority.cert_pem.bytes().decode()], [DOMAIN]) as browser:
        yield browser


@contextmanager
def chat(authority: trustme.CA, folder: Path) -> Iterator[Chat]:
    """Run the server of the page."""
    need_packages()
    script = (CLIENTS / "chat_server.py").read_text()
    written = '"websocket://127.0.0.1:8282", '
    assert written in script
    script = script.replace(written, "sys.argv[1], json.loads(sys.argv[2]), ")
    script = script.replace("from gateman", "import json\nimport sys\n\nfrom gateman", 1)
    with serve(script, folder, authority=authority) as service, ExitStack() as stack:
        yield Chat(service, folder, stack)


@pytest.fixture
def running(authority: trustme.CA, tmp_path: Path) -> Iterator[Chat]:
    """Run the chat."""
    with chat(authority, tmp_path) as found:
        yield found


def test_programs(running: Chat) -> None:
    """Node, Python and the mini program hear each other."""
    node = running.run(
        program("node"), str(CLIENTS / "chat.js"), running.address.replace(DOMAIN, "localhost")
    )
    node.hears("connected")
    python = running.run(
        sys.executable, str(CLIENTS / "chat.py"), running.address.replace(DOMAIN, "localhost")
    )
    node.hears("received tom")
    python.hears("received tom")
    module = CliRunner().invoke(gateman, ["client", "wechat"])
    running.write("gateman-mini-program.js", module.stdout)
    page = running.write("wechat-chat.js")
    wechat = running.run(program("node"), str(ROOT / "tests/support/wechat.js"), str(page), DOMAIN)
    wechat.say("onLoad")
    # What was said before it came.
    wechat.hears(shows("tom"))
    node.say("from Node")

    wechat.hears(shows("from Node"))
    python.hears("received from Node")
    wechat.say("offline")
    wechat.hears(lambda line: json.loads(line)["data"]["state"] == "connecting")
    node.say("meanwhile")
    wechat.say("online")
    wechat.hears(shows("meanwhile"))
    wechat.say("send")
    python.hears("received tom")
    wechat.say("onUnload")
    wechat.hears(lambda line: json.loads(line)["data"]["state"] == "disconnected")


def test_the_page(running: Chat, chromium: Chromium, tmp_path: Path) -> None:
    """It shows what was said before, who is here, and what is said."""
    node = running.run(
        program("node"), str(CLIENTS / "chat.js"), running.address.replace(DOMAIN, "localhost")
    )
    node.hears("connected")
    node.say("before")
    node.hears("received before")
    shutil.copy(need_packages() / "centrifuge/dist/centrifuge.js", tmp_path)
    page = running.write("chat.html")
    chromium.open(f"file://{page}")
    chromium.paste(HANDS)

    chromium.evaluate('hears("before")')
    chromium.evaluate('until(() => field("here").textContent === "2")')
    chromium.evaluate(
        '(field("message").value = "from the page",'
        ' document.querySelector("button").click(), hears("from the page"))'
    )
    node.hears("received from the page")
    node.say("after")
    chromium.evaluate('hears("after")')
    assert chromium.evaluate("heard()") == ["before", "from the page", "after"]


def test_react(running: Chat, chromium: Chromium, tmp_path: Path) -> None:
    """The hook has strict types, and works in strict mode, which mounts everything twice."""
    node = running.run(
        program("node"), str(CLIENTS / "chat.js"), running.address.replace(DOMAIN, "localhost")
    )
    node.hears("connected")
    node.say("before")
    node.hears("received before")
    (tmp_path / "node_modules").symlink_to(need_packages())
    running.write("use-channel.tsx")
    application = running.write("application.tsx", APPLICATION)
    (tmp_path / "page.html").write_text(
        '<!doctype html><meta charset="utf-8">'
        '<div id="root"></div><script src="bundle.js"></script>'
    )
    bundled = subprocess.run(
        [
            *(program("node"), str(need_packages() / "esbuild/bin/esbuild"), str(application)),
            *("--bundle", "--jsx=automatic", "--outfile=bundle.js", "--log-level=warning"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (bundled.returncode, bundled.stderr) == (0, "")
    chromium.open(f"file://{tmp_path / 'page.html'}")
    chromium.paste(HANDS)

    chromium.evaluate('hears("before")')
    chromium.evaluate('until(() => document.getElementById("state").textContent === "subscribed")')
    chromium.evaluate('(document.querySelector("button").click(), hears("react"))')
    node.hears("received react")
    assert chromium.evaluate("heard()") == ["before", "react"]


def test_the_types_of_the_hook(tmp_path: Path) -> None:
    """TypeScript accepts it in its strict mode."""
    (tmp_path / "node_modules").symlink_to(need_packages())
    shutil.copy(CLIENTS / "use-channel.tsx", tmp_path)
    done = subprocess.run(
        [
            *(program("node"), str(need_packages() / "typescript/bin/tsc")),
            *("--noEmit", "--strict", "--skipLibCheck", "--jsx", "react-jsx"),
            *("--moduleResolution", "bundler", "--module", "esnext", "--target", "es2020"),
            "use-channel.tsx",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, "")
