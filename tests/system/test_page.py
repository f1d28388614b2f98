"""The test page, served by a real worker and used in Chromium as a person would."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

import gateman
from gateman.findings.catalogue import CATALOGUE
from tests.support.browser import Chromium
from tests.support.service import DOMAIN, Service, serve

PAGE = Path(gateman.__file__).parent / "pages" / "test.html"

MAX_PAGE_SIZE = 20_000  # bytes

SERVER = """
import json
import sys

from gateman import Worker

worker = Worker(sys.argv[1], json.loads(sys.argv[2]), test_page=True)


@worker.on_message
def answer(connection, message):
    if message == "close":
        connection.close(4001, "bye")
    else:
        connection.send(message)


Worker.run_all()
"""

# What a person does with the page, and sees on it; its own script brings $.
HANDS = """
globalThis.until = (check) => new Promise((resolve) => {
    const look = () => check() ? resolve(null) : setTimeout(look, 5);
    look();
});
globalThis.entries = () => Array.from(
    document.querySelectorAll("#log li"),
    (item) => [item.querySelector(".what").textContent, item.querySelector(".body").textContent],
);
globalThis.say = async (text, kind) => {
    const count = entries().length;
    $("message").value = text;
    document.querySelector(`input[value=${kind}]`).click();
    $("send").click();
    await until(() => entries().length >= count + 2);
    return entries().slice(count);
};
"""
CONNECT = '$("connect").click(), until(() => $("state").textContent === "open")'


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Make an authority that no system trusts."""
    return trustme.CA()


@pytest.fixture(scope="module")
def service(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run a worker with the test page."""
    with serve(SERVER, tmp_path_factory.mktemp("service"), authority=authority) as running:
        yield running


@pytest.fixture(scope="module")
def chromium(authority: trustme.CA) -> Iterator[Chromium]:
    """Run a browser that trusts the authority."""
    if missing := Chromium.missing():
        pytest.skip(missing)
    names = [DOMAIN, "other.test"]
    with Chromium([authority.cert_pem.bytes().decode()], names) as browser:
        yield browser


@pytest.fixture
def page(chromium: Chromium, service: Service) -> Chromium:
    """Open the page."""
    chromium.resize(1280, 800)
    chromium.open(f"https://{DOMAIN}:{service.port}/")
    chromium.paste(HANDS)
    return chromium


def test_the_page_is_small() -> None:
    """It is sent whole each time, so it stays small."""
    assert PAGE.stat().st_size < MAX_PAGE_SIZE


def test_it_connects_to_where_it_came_from(page: Chromium, service: Service) -> None:
    """Without a word typed, connecting leads to the worker that served the page."""
    page.evaluate(CONNECT)

    assert page.evaluate('$("address").value') == f"wss://{DOMAIN}:{service.port}"
    assert page.evaluate("entries().map(([what]) => what)") == ["connecting", "open"]


@pytest.mark.parametrize(
    ("typed", "kind", "what", "shown"),
    [
        ("tom", "text", "text, 3 bytes", "tom"),
        ("", "text", "text, 0 bytes", ""),
        ("Grüße", "binary", "binary, 7 bytes", "47 72 c3 bc c3 9f 65"),
        ("00 ff:7E,0x0a", "hex", "binary, 4 bytes", "00 ff 7e 0a"),
        ("<img src=x onerror=alert(1)>", "text", "text, 28 bytes", "<img src=x onerror=alert(1)>"),
    ],
)
def test_it_shows_what_goes_and_what_comes(
    page: Chromium, typed: str, kind: str, what: str, shown: str
) -> None:
    """A message is listed as sent and, echoed, as received; whatever it is, as text."""
    page.evaluate(CONNECT)

    actual = page.evaluate(f"say({typed!r}, {kind!r})")

    assert actual == [[f"sent {what}", shown], [f"received {what}", shown]]
    assert page.evaluate('document.querySelectorAll("#log img").length') == 0


def test_it_shows_the_workers_close(page: Chromium) -> None:
    """Code and reason of the worker's close are listed, and one can connect again."""
    page.evaluate(CONNECT)

    page.evaluate('say("close", "text")')

    assert page.evaluate("entries().at(-1)") == ["closed", "Code 4001, reason: bye"]
    assert page.evaluate('[$("state").textContent, $("connect").textContent]') == [
        "closed",
        "Connect",
    ]


def test_it_disconnects(page: Chromium) -> None:
    """Disconnecting is a close with 1000."""
    page.evaluate(CONNECT)

    page.evaluate('$("connect").click(), until(() => $("state").textContent === "closed")')

    assert page.evaluate("entries().at(-1)[1]") == "Code 1000 (normal), no reason"


def test_it_says_what_is_no_hex(page: Chromium) -> None:
    """What cannot be sent is explained and not sent."""
    page.evaluate(CONNECT)

    page.evaluate(
        '$("message").value = "xyz", document.querySelector("input[value=hex]").click(),'
        ' $("send").click(), null'
    )

    assert page.evaluate('$("mistake").textContent').startswith("That is no hex")
    assert page.evaluate("entries().length") == 2


def test_it_explains_a_certificate_that_is_refused(page: Chromium, service: Service) -> None:
    """When it fails before it opens, one sentence names the certificate and where to look."""
    address = f"wss://other.test:{service.port}"

    page.evaluate(
        f'$("address").value = "{address}", $("connect").click(),'
        ' until(() => $("state").textContent === "failed")'
    )

    assert "does not trust the certificate" in page.evaluate('$("trouble").textContent')
    assert page.evaluate('$("trouble").querySelector("a").href') == (
        f"https://other.test:{service.port}/"
    )


def test_it_explains_why_plain_ws_is_refused(page: Chromium, service: Service) -> None:
    """A page that came over TLS may not connect without, and is told so."""
    page.evaluate(
        f'$("address").value = "ws://{DOMAIN}:{service.port}", $("connect").click(), null'
    )

    assert page.evaluate('$("trouble").textContent') == (
        "A page that came over https:// may only open wss:// addresses (MIXED_CONTENT)."
    )


def test_it_explains_a_close(page: Chromium) -> None:
    page.evaluate(CONNECT)

    page.evaluate('say("close", "text")')

    assert page.evaluate('$("trouble").textContent') == (
        "This code is the application's own (APPLICATION_REFUSED)."
    )


@pytest.mark.parametrize(
    ("code", "silence", "expected"),
    [
        (1000, 0, ""),
        (1006, 0, "It broke without a Close: the network, or the server's process, ended."),
        (
            1006,
            60_000,
            "It broke after 60 s of silence: a proxy cuts silent connections, or the network did"
            " (IDLE_CUT).",
        ),
        (1011, 0, "A callback of the server raised an error: see its log (APPLICATION_FAILED)."),
    ],
)
def test_it_explains_close_codes(page: Chromium, code: int, silence: int, expected: str) -> None:
    assert page.evaluate(f"adviceOnClose({{ code: {code} }}, {silence})") == expected


def test_its_names_of_findings_are_those_of_the_doctor() -> None:
    named = set(re.findall(r"\(([A-Z][A-Z0-9_]{5,})\)", PAGE.read_text()))

    assert named
    assert named <= set(CATALOGUE)


@pytest.mark.parametrize("is_tls", [False, True])
def test_it_explains_the_wrong_scheme(
    chromium: Chromium, service: Service, tmp_path: Path, *, is_tls: bool
) -> None:
    """From a page of http://, both schemes can be tried."""
    with serve(SERVER, tmp_path) as plain:
        chromium.open(f"http://{DOMAIN}:{plain.port}/")
        chromium.paste(HANDS)
        port = plain.port if is_tls else service.port
        wrong, right = ("wss", "ws") if is_tls else ("ws", "wss")
        told = "plain ws:// and not wss:// (TLS_ON_PLAIN_PORT)"
        if not is_tls:
            told = "wss:// and not ws:// (PLAIN_ON_TLS_PORT)"
        chromium.evaluate(
            f'$("address").value = "{wrong}://{DOMAIN}:{port}/", $("connect").click(),'
            ' until(() => $("trouble").textContent.startsWith("This port speaks"))'
        )

        assert chromium.evaluate('$("trouble").textContent') == (
            f"This port speaks {told}: connect to {right}://{DOMAIN}:{port}/"
        )


def test_its_lines_work_in_the_console(page: Chromium, service: Service) -> None:
    """The three lines, pasted, send the document's "tom" and print the answer."""
    lines = page.evaluate('$("lines").textContent')
    page.paste("var said = []; console.log = (text) => said.push(text)")

    page.paste(lines)
    page.evaluate("until(() => said.length)")

    assert lines.splitlines()[0] == f'ws = new WebSocket("wss://{DOMAIN}:{service.port}");'
    assert len(lines.splitlines()) == 3
    assert page.evaluate("said") == ["tom"]


@pytest.mark.parametrize("width", [320, 390])
def test_it_fits_a_phone(page: Chromium, width: int) -> None:
    """Nothing is wider than the screen, fields do not make iOS zoom, and fingers find targets."""
    page.resize(width, 700, is_phone=True)

    overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    sizes = page.evaluate(
        'Array.from(document.querySelectorAll("input[type=text], textarea"),'
        " (field) => parseFloat(getComputedStyle(field).fontSize))"
    )
    heights = page.evaluate(
        'Array.from(document.querySelectorAll("button, input[type=text], textarea, .choice label"),'
        " (target) => target.getBoundingClientRect().height)"
    )

    assert overflow <= 0
    # iOS zooms into fields below 16 px; Apple's smallest target is 44 px.
    assert min(sizes) >= 16
    assert min(heights) >= 44


def test_its_fields_have_names(page: Chromium) -> None:
    """A screen reader can name every field, and is told of states and messages."""
    named = page.evaluate(
        'Array.from(document.querySelectorAll("input, textarea"), (field) => field.labels.length)'
    )
    roles = page.evaluate('["state", "log", "trouble"].map((id) => $(id).getAttribute("role"))')

    assert set(named) == {1}
    assert roles == ["status", "log", "alert"]


@pytest.mark.parametrize("dark", [False, True])
def test_it_follows_the_colour_scheme(page: Chromium, *, dark: bool) -> None:
    """A dark system gets a dark page, a light one a light one."""
    page.resize(1280, 800, dark=dark)

    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")

    assert colour == ("rgb(15, 20, 25)" if dark else "rgb(243, 245, 247)")
