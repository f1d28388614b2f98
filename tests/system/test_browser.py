"""
Real browsers, which verify the certificate, against a real worker: directly and through proxies.

Chromium takes all three ways; Firefox, whose handshake differs, takes the direct one. A browser
takes longer to start than all of its tests to run, so each is started once.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import trustme

from gateman.ops import proxy
from gateman.ops.certificates import DevelopmentCertificate, development_certificate
from tests.support import proxies
from tests.support.browser import Browser, BrowserError, Chromium, Firefox
from tests.support.master import echo, master
from tests.support.service import DOMAIN, Service, serve

SERVER = """
import json
import sys

from gateman import Worker

worker = Worker(sys.argv[1], json.loads(sys.argv[2]))
watchers = []


@worker.on_message
def answer(connection, message):
    if message == "watch":
        watchers.append(connection)
        connection.send("watching")
    elif message == "close":
        connection.close(4001, "bye")
    else:
        connection.send(message)


@worker.on_close
def report(connection, code, reason):
    for watcher in watchers:
        watcher.send(json.dumps([code, reason]))


Worker.run_all()
"""

# What every page of these tests gets: a WebSocket whose events can be awaited.
PEER = """
globalThis.Peer = class {
    constructor(address) {
        this.socket = new WebSocket(address);
        this.socket.binaryType = "arraybuffer";
        this.messages = [];
        this.waiting = [];
        this.closed = new Promise((resolve) => {
            this.socket.onclose = (event) => resolve([event.code, event.reason, event.wasClean]);
        });
        this.opened = new Promise((resolve, reject) => {
            this.socket.onopen = () => resolve(this);
            this.closed.then((event) => reject(new Error("did not open: " + event)));
        });
        this.opened.catch(() => {});
        this.socket.onmessage = ({ data }) => {
            const resolve = this.waiting.shift();
            if (resolve) resolve(data); else this.messages.push(data);
        };
    }
    receive() {
        if (this.messages.length) return Promise.resolve(this.messages.shift());
        return new Promise((resolve, reject) => {
            this.waiting.push(resolve);
            this.closed.then((event) => reject(new Error("closed: " + event)));
        });
    }
};
"""

# RFC 6455, section 7.4.1, has 1015 for a failed TLS handshake. Firefox says so; Chromium tells a
# page 1006 for all reasons.
REFUSED = ([1006, "", False], [1015, "", False])

Proxy = Callable[[proxy.Site], AbstractContextManager[int]]


class Page:
    """The page of an origin, and the address of the same origin that its scripts connect to."""

    def __init__(self, browser: Browser, address: str) -> None:
        self._browser = browser
        self._address = address

    def run(self, body: str) -> Any:
        """Run the body of an async function that has ``peer``, connected, and ``address``."""
        url = self._address.replace("wss://", "https://")
        shown = "globalThis.Peer ? location.href : null"
        if not (self._browser.evaluate(shown) or "").startswith(url):
            # As a user would; the test before may have shown another page.
            self._browser.open(url)
            self._browser.paste(PEER)
        return self._browser.evaluate(
            f"(async (address) => {{ const peer = await new Peer(address).opened; {body} }})"
            f"({self._address!r})"
        )


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Make an authority that no system trusts."""
    return trustme.CA()


@pytest.fixture(scope="module")
def secure(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run a worker that speaks TLS itself."""
    with serve(SERVER, tmp_path_factory.mktemp("secure"), authority=authority) as service:
        yield service


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run a worker that leaves TLS to a proxy."""
    with serve(SERVER, tmp_path_factory.mktemp("plain")) as service:
        yield service


@pytest.fixture(scope="module")
def development(tmp_path_factory: pytest.TempPathFactory) -> DevelopmentCertificate:
    """Make a certificate as ``gateman cert dev`` does, with an authority that signs few names."""
    folder = tmp_path_factory.mktemp("development")
    return development_certificate(["chat.example.com"], folder, data=folder / "data")


@pytest.fixture(scope="module")
def browser_of(
    authority: trustme.CA, development: DevelopmentCertificate
) -> Iterator[Callable[[str], Browser]]:
    """Start a browser that trusts both authorities; a test is skipped where it is missing."""
    trusted = [authority.cert_pem.bytes().decode(), development.authority.read_text()]
    with ExitStack() as stack:

        @cache
        def start(kind: str) -> Browser:
            browser = Chromium if kind == "chromium" else Firefox
            if missing := browser.missing():
                pytest.skip(missing)
            names = [DOMAIN, "other.test", "chat.example.com"]
            return stack.enter_context(browser(trusted, names))

        yield start


@pytest.fixture(
    scope="module",
    params=["chromium-direct", "chromium-nginx", "chromium-apache", "firefox-direct"],
)
def page(
    request: pytest.FixtureRequest,
    authority: trustme.CA,
    browser_of: Callable[[str], Browser],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Page]:
    """Give a page on each way to a worker."""
    kind, way = request.param.split("-")
    browser = browser_of(kind)
    if way == "direct":
        service: Service = request.getfixturevalue("secure")
        yield Page(browser, f"wss://{DOMAIN}:{service.port}/")
        return
    service = request.getfixturevalue("plain")
    site = site_of(authority, tmp_path_factory.mktemp("site"), service.port)
    in_front: Proxy = getattr(proxies, way)
    with in_front(site) as port:
        yield Page(browser, f"wss://{DOMAIN}:{port}/wss")


def site_of(authority: trustme.CA, folder: Path, upstream: int) -> proxy.Site:
    """Write a site's certificate and say what its proxy serves."""
    certificate = authority.issue_cert(DOMAIN)
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    return proxy.Site(
        domain=DOMAIN,
        upstream=f"127.0.0.1:{upstream}",
        certificate=str(folder / "cert.pem"),
        key=str(folder / "key.pem"),
    )


def test_text_comes_back(page: Page) -> None:
    """Text of any script arrives and comes back as text."""
    text = "Grüße, 你好, 🙂"

    actual = page.run(f"peer.socket.send({text!r}); return peer.receive();")

    assert text == actual


def test_binary_comes_back(page: Page) -> None:
    """Every byte arrives and comes back, as an ArrayBuffer."""
    actual = page.run("""
        peer.socket.send(Uint8Array.from({ length: 256 }, (_, i) => i));
        const data = await peer.receive();
        return [data instanceof ArrayBuffer, Array.from(new Uint8Array(data))];
    """)

    assert [True, list(range(256))] == actual


def test_empty_messages_come_back(page: Page) -> None:
    """A message of no bytes is a message, as text and as binary."""
    actual = page.run("""
        peer.socket.send("");
        peer.socket.send(new ArrayBuffer(0));
        return [await peer.receive(), (await peer.receive()).byteLength];
    """)

    assert actual == ["", 0]


@pytest.mark.parametrize("kind", ["text", "binary"])
def test_a_large_message_comes_back(page: Page, kind: str) -> None:
    """A message of 1 MiB, which is the default limit, comes back unchanged."""
    actual = page.run(
        """
        const bytes = Uint8Array.from({ length: 1 << 20 }, (_, i) => 32 + (i * 31 + (i >> 8)) % 90);
        const text = new TextDecoder().decode(bytes);
        if (%r === "text") {
            peer.socket.send(text);
            return await peer.receive() === text;
        }
        peer.socket.send(bytes);
        const answer = new Uint8Array(await peer.receive());
        return answer.length === bytes.length && answer.every((byte, i) => byte === bytes[i]);
    """.replace("%r", repr(kind))
    )

    assert actual is True


def test_messages_stay_in_order(page: Page) -> None:
    """A thousand messages sent at once come back in the order in which they were sent."""
    actual = page.run("""
        for (let i = 0; i < 1000; i++) peer.socket.send(String(i));
        const answers = [];
        while (answers.length < 1000) answers.push(await peer.receive());
        return answers;
    """)

    assert [str(number) for number in range(1000)] == actual


def test_the_workers_close_reaches_the_page(page: Page) -> None:
    """The code and the reason that the application gave are what the page is told."""
    actual = page.run('peer.socket.send("close"); return peer.closed;')

    assert actual == [4001, "bye", True]


@pytest.mark.parametrize(
    ("arguments", "told", "echoed"),
    [
        ('1000, "done"', [1000, "done"], [1000, "done", True]),
        ('4711, "Köln"', [4711, "Köln"], [4711, "Köln", True]),
        ("", [1005, ""], [1000, "", True]),
    ],
)
def test_the_pages_close_reaches_the_worker(
    page: Page, arguments: str, told: list[int | str], echoed: list[int | str | bool]
) -> None:
    """The code and the reason that the page gave are what the application is told."""
    actual = page.run(f"""
        const watcher = await new Peer(address).opened;
        watcher.socket.send("watch");
        await watcher.receive();
        peer.socket.close({arguments});
        const seen = [JSON.parse(await watcher.receive()), await peer.closed];
        watcher.socket.close();
        return seen;
    """)

    assert actual == [told, echoed]


@pytest.mark.parametrize("kind", ["chromium", "firefox"])
def test_an_untrusted_certificate_is_refused(
    kind: str, browser_of: Callable[[str], Browser], tmp_path: Path
) -> None:
    """Without the authority in its store the browser opens neither the page nor the WebSocket."""
    browser = browser_of(kind)
    with serve(SERVER, tmp_path, authority=trustme.CA()) as service:
        with pytest.raises(BrowserError, match=r"CERT_AUTHORITY_INVALID|UNKNOWN_ISSUER"):
            browser.open(f"https://{DOMAIN}:{service.port}/")
        actual = attempted(browser, f"wss://{DOMAIN}:{service.port}")

    assert actual in REFUSED


@pytest.mark.parametrize("kind", ["chromium", "firefox"])
def test_a_certificate_for_another_name_is_refused(
    kind: str, browser_of: Callable[[str], Browser], secure: Service
) -> None:
    """A trusted certificate is none for a domain that it does not name."""
    browser = browser_of(kind)
    with pytest.raises(BrowserError, match=r"CERT_COMMON_NAME_INVALID|BAD_CERT_DOMAIN"):
        browser.open(f"https://other.test:{secure.port}/")

    assert attempted(browser, f"wss://other.test:{secure.port}") in REFUSED


def attempted(browser: Browser, address: str) -> Any:
    """Return how an attempt to connect from an empty page ends."""
    browser.open("about:blank")
    browser.paste(PEER)
    return browser.evaluate(f"new Peer({address!r}).closed")


@pytest.mark.parametrize("kind", ["chromium", "firefox"])
def test_certificates_for_development_are_accepted(
    kind: str,
    browser_of: Callable[[str], Browser],
    development: DevelopmentCertificate,
    tmp_path: Path,
) -> None:
    """By all names of this machine, with an authority that may sign for few names."""
    files = {"local_cert": str(development.certificate), "local_pk": str(development.key)}
    script = echo("wss://127.0.0.1:0", f"context={ {'ssl': files}!r}")
    with master(script, tmp_path) as service:
        for host in ("localhost", "127.0.0.1", "chat.example.com"):
            page = Page(browser_of(kind), f"wss://{host}:{service.port}/")
            assert page.run("peer.socket.send('tom'); return await peer.receive()").endswith("tom")
