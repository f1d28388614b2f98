"""
The programs of ``docs/clients.md``: the page shows the files, and the files run here.

Each runs as it is, but that an address written into it is replaced: against a real worker, whose
certificate it verifies. Only WeChat is not there: ``tests/support/wechat.js`` stands in for what a
page of a mini program has, over a real connection.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import pytest
import trustme

from gateman.ops import proxy
from tests.support import proxies
from tests.support.browser import Chromium
from tests.support.deadlines import TIMEOUT
from tests.support.ports import free_port
from tests.support.service import DOMAIN, Service, serve

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "clients.md"
CLIENTS = ROOT / "examples" / "clients"
WECHAT = ROOT / "tests" / "support" / "wechat.js"

WRITTEN_ADDRESS = "wss://example.com/wss"
# Debian's folder of packages for Node, where node-ws is.
NODE_PATH = "/usr/share/nodejs"

# The first connection is closed as by a restart, the second for good.
SERVER = """
import json
import sys

from gateman import Worker

worker = Worker(sys.argv[1], json.loads(sys.argv[2]))
closings = [(1012, "back soon"), (1000, "bye")]


@worker.on_message
def answer(connection, message):
    connection.send("ok")
    connection.close(*closings.pop(0))


Worker.run_all()
"""

# Answers what it is told, and says when somebody has left.
ECHO = """
import json
import sys

from gateman import Worker

worker = Worker(sys.argv[1], json.loads(sys.argv[2]))


@worker.on_message
def answer(connection, message):
    for other in worker.connections.values():
        other.send(message)


@worker.on_close
def tell(connection, code, reason):
    for other in worker.connections.values():
        other.send(f"left with {code}")


Worker.run_all()
"""


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Make an authority that no system trusts."""
    return trustme.CA()


@pytest.fixture
def service(authority: trustme.CA, tmp_path: Path) -> Iterator[Service]:
    """Run the worker that closes twice."""
    with serve(SERVER, tmp_path, authority=authority) as running:
        yield running


@pytest.fixture(scope="module")
def chromium(authority: trustme.CA) -> Iterator[Chromium]:
    """Run a browser that trusts the authority."""
    if missing := Chromium.missing():
        pytest.skip(missing)
    with Chromium([authority.cert_pem.bytes().decode()], [DOMAIN]) as browser:
        yield browser


def program(name: str) -> list[str]:
    """Return the command line of a client, or skip the test where its language is missing."""
    if name.endswith(".py"):
        return [sys.executable, str(CLIENTS / name)]
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed (nodejs)")
    if not (Path(NODE_PATH) / "ws").exists():
        pytest.skip("the package ws for Node is not installed (node-ws)")
    return [node, str(CLIENTS / name)]


@contextlib.contextmanager
def started(
    command: Sequence[str], authority: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run a client that trusts ``authority``, and end it with the block."""
    environment = {**os.environ, "NODE_PATH": NODE_PATH}
    if authority is not None:
        environment |= {"SSL_CERT_FILE": str(authority), "NODE_EXTRA_CA_CERTS": str(authority)}
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as client:
        try:
            yield client
        finally:
            client.kill()


def lines_of(client: subprocess.Popen[str]) -> list[str]:
    """Return what a client prints until it ends by itself, which is a success."""
    output = client.communicate(timeout=TIMEOUT)[0]
    assert client.returncode == 0, output
    return output.splitlines()


def readdressed(name: str, address: str) -> str:
    """Return a program of the document with another address in it."""
    text = (CLIENTS / name).read_text()
    assert text.count(WRITTEN_ADDRESS) == 1
    return text.replace(WRITTEN_ADDRESS, address)


def states(stdout: IO[str] | None, *, until: str) -> list[object]:
    """Return the states that the mini program's page takes, up to the given one."""
    assert stdout is not None
    seen: list[object] = []
    for line in stdout:
        said = json.loads(line)
        seen.append(said["data"]["state"] if "data" in said else said["warning"])
        if seen[-1] == until:
            return seen
    raise AssertionError(f"ended after {seen}")


def test_the_document_shows_the_files() -> None:
    """The programs in the document are the files, all of them and nothing else."""
    text = DOCUMENT.read_text()
    block = r"^\[`([^`]+)`\]\(\.\./examples/clients/\1\):\n\n```\w+\n(.*?)^```$"
    shown = dict(re.findall(block, text, re.MULTILINE | re.DOTALL))

    assert shown == {path.name: path.read_text() for path in CLIENTS.iterdir()}
    assert text.count("```") == 2 * len(shown)


@pytest.mark.parametrize("name", ["client.py", "client.js"])
def test_a_program_comes_back(name: str, service: Service) -> None:
    """It sends, receives, comes back after a restart of the server, and stays away after a 1000."""
    with started([*program(name), f"wss://localhost:{service.port}"], service.authority) as client:
        actual = lines_of(client)

    assert actual == ["received ok", "closed 1012", "received ok", "closed 1000"]


@pytest.mark.parametrize("name", ["client.py", "client.js"])
def test_a_program_waits_for_its_server(name: str, authority: trustme.CA, tmp_path: Path) -> None:
    """It may be started before its server, and tries until that is there."""
    port = free_port()
    trusted = tmp_path / "trusted.pem"
    authority.cert_pem.write_to_path(trusted)

    with started([*program(name), f"wss://localhost:{port}"], trusted) as client:
        assert client.stdout is not None
        first = client.stdout.readline()
        with serve(SERVER, tmp_path, authority=authority, port=port):
            actual = lines_of(client)

    assert first.startswith("failed:")
    assert [line for line in actual if line.startswith("received")] == ["received ok"] * 2


@pytest.mark.parametrize("name", ["client.py", "client.js"])
def test_a_program_verifies_the_certificate(name: str, service: Service) -> None:
    """A certificate from an authority that it does not know is refused, in so many words."""
    with started([*program(name), f"wss://localhost:{service.port}"]) as client:
        assert client.stdout is not None
        actual = client.stdout.readline()

    assert actual.startswith("failed:")
    assert "certificate" in actual


def test_the_lines_for_the_console(chromium: Chromium, service: Service) -> None:
    """Pasted into a browser's console, they send "tom" and print the answer."""
    chromium.open(f"https://{DOMAIN}:{service.port}/healthz")
    chromium.paste("var said = []; console.log = (text) => said.push(text)")

    chromium.paste(readdressed("console.js", f"wss://{DOMAIN}:{service.port}"))
    actual = chromium.evaluate(
        "new Promise((done) => { const look = () => said.length ? done(said)"
        " : setTimeout(look, 5); look(); })"
    )

    assert actual == ["ok"]


def test_the_page(authority: trustme.CA, chromium: Chromium, tmp_path: Path) -> None:
    """Served by Nginx beside its worker, it sends, shows the answer, and comes back."""
    with contextlib.ExitStack() as stack:
        worker = stack.enter_context(serve(SERVER, tmp_path))
        # Nginx's own user reads the site, and pytest's folders are for their owner only.
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        root.chmod(0o755)
        certificate = authority.issue_cert(DOMAIN)
        certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
        certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
        site = proxy.Site(
            domain=DOMAIN,
            upstream=f"127.0.0.1:{worker.port}",
            certificate=str(tmp_path / "cert.pem"),
            key=str(tmp_path / "key.pem"),
            root=str(root),
        )
        port = stack.enter_context(proxies.nginx(site, extra="types { text/html html; }"))
        (root / "page.html").write_text(readdressed("page.html", f"wss://{DOMAIN}:{port}/wss"))

        chromium.open(f"https://{DOMAIN}:{port}/page.html")
        chromium.paste("""
            const field = (id) => document.getElementById(id);
            const until = (check) => new Promise((done) => {
                const look = () => check() ? done(null) : setTimeout(look, 5);
                look();
            });
            const talk = async (count) => {
                await until(() => field("state").textContent === "open");
                field("message").value = "tom";
                document.querySelector("button").click();
                await until(() => document.querySelectorAll("#messages li").length === count);
                await until(() => field("state").textContent !== "open");
                return field("state").textContent;
            };
        """)
        actual = [chromium.evaluate("talk(1)"), chromium.evaluate("talk(2)")]

    assert actual == ["closed (1012)", "closed (1000)"]


def test_the_mini_program_comes_back(service: Service, tmp_path: Path) -> None:
    """It sends, receives, comes back after a restart of the server, and stays away after a 1000."""
    file = tmp_path / "chat.js"
    file.write_text(readdressed("wechat.js", f"wss://{DOMAIN}:{service.port}"))
    node, _ = program("wechat.js")

    with started([node, str(WECHAT), str(file), DOMAIN], service.authority) as client:
        said = client.communicate("onShow\n", timeout=TIMEOUT)[0].splitlines()

    actual = [json.loads(line)["data"] for line in said]
    assert [data["state"] for data in actual] == [
        "connecting",
        "open",
        "open",
        "closed (1012)",
        "connecting",
        "open",
        "open",
        "closed (1000)",
    ]
    assert actual[-1]["messages"] == ["ok", "ok"]


def test_the_mini_program_leaves_in_the_background(authority: trustme.CA, tmp_path: Path) -> None:
    """Hidden, it closes its connection with 1000; shown again, it connects again."""
    with serve(ECHO, tmp_path, authority=authority) as service:
        file = tmp_path / "chat.js"
        file.write_text(readdressed("wechat.js", f"wss://{DOMAIN}:{service.port}"))
        node, _ = program("wechat.js")
        with started([node, str(WECHAT), str(file), DOMAIN], service.authority) as client:
            assert client.stdin is not None
            client.stdin.write("onShow\n")
            client.stdin.flush()
            shown = states(client.stdout, until="open")
            client.stdin.write("onHide\n")
            client.stdin.flush()
            hidden = states(client.stdout, until="closed")
            client.stdin.write("onShow\n")
            client.stdin.flush()
            again = states(client.stdout, until="open")

    assert shown == ["connecting", "open"]
    # The echo of "tom" may come in between.
    assert [state for state in hidden if state != "open"] == ["closed"]
    assert again == ["connecting", "open"]


@pytest.mark.parametrize(
    ("address", "warning"),
    [
        ("ws://example.test:1", "the protocol is not wss"),
        ("wss://127.0.0.1:1", "an address is no domain"),
        ("wss://www.example.test", "url not in domain list"),
    ],
)
def test_the_stand_in_keeps_the_rules(address: str, warning: str, tmp_path: Path) -> None:
    """What the platform would refuse is refused here, so the tests above mean something."""
    file = tmp_path / "chat.js"
    file.write_text(readdressed("wechat.js", address))
    node, _ = program("wechat.js")

    with started([node, str(WECHAT), str(file), DOMAIN]) as client:
        said = client.communicate("onShow\n", timeout=TIMEOUT)[0].splitlines()

    assert json.loads(said[-1]) == {"warning": f"connectSocket:fail {warning}"}
