"""The README's and the guide's programs are those of examples/, and they work as shown."""

import re
import shutil
import signal
import ssl
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from gateman import Worker
from gateman.config.callbacks import SIGNATURES
from tests.support.loop import on_loop
from tests.support.server import authority, certificate, child

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "docs" / "guide.md").read_text()
OPTIONS = (ROOT / "docs" / "options.md").read_text()
ANY_PORT = {"0.0.0.0:8282": "127.0.0.1:0", "127.0.0.1:8282": "127.0.0.1:0"}


def program(name: str, *, anywhere: bool = False) -> str:
    """Read an example, with its port left to the system if asked."""
    text = (ROOT / "examples" / name).read_text()
    for address, other in ANY_PORT.items() if anywhere else ():
        text = text.replace(address, other)
    return text


def body(text: str) -> str:
    """Give a program without its docstring."""
    return re.sub(r'\A""".*?"""\n+', "", text, flags=re.DOTALL)


@pytest.fixture
def trusting() -> ssl.SSLContext:
    """A client that trusts the authority of this run."""
    return authority().trusting_client()


def test_the_readme_shows_the_examples() -> None:
    """Each Python block of the README is an example, or a part of one."""
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names = (
        "wss.py",
        "ws.py",
        "clients/chat_server.py",
        "rooms.py",
        "notifications/with_django.py",
        "test_ws.py",
    )
    examples = [body(program(name)) for name in names]

    assert len(blocks) == 6
    assert blocks[:3] == examples[:3]
    assert blocks[3] in examples[3]
    assert blocks[4] in examples[4]
    assert blocks[5] in examples[5]


def test_the_guide_shows_how_to_serve_on_an_own_loop() -> None:
    """The block is the example, whose FastAPI application serves both."""
    assert f"```python\n{body(program('own_loop.py'))}```" in GUIDE


def test_the_guide_shows_a_typed_service() -> None:
    shown = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    [typed] = [block for block in shown if "TypedDict" in block]
    assert typed in program("typed.py")


def test_the_guide_names_every_callback() -> None:
    """The guide's tables have every callback."""
    tables = re.findall(r"^\| `(\w+)[^|]*\|", GUIDE, re.MULTILINE)

    assert set(SIGNATURES) <= set(tables)


def test_the_options_page_names_every_option() -> None:
    """The page's tables have every argument of Worker."""
    named = set(re.findall(r"^\| `(\w+)` \|", OPTIONS, re.MULTILINE))

    assert len(Worker.options) > 20
    assert set(Worker.options) <= named


@on_loop
async def test_the_five_lines_serve_wss(tmp_path: Path, trusting: ssl.SSLContext) -> None:
    """The README's first program, run as it is with a certificate, answers over wss."""
    issued = certificate()
    shutil.copy(issued.certificate, tmp_path / "server.pem")
    shutil.copy(issued.key, tmp_path / "server.key")
    with child(program("wss.py", anywhere=True), tmp_path) as server:
        async with connect(f"wss://localhost:{server.port}", ssl=trusting) as client:
            await client.send("tom")
            answer = await client.recv()
        server.signal(signal.SIGTERM)

        assert answer == "ok"
        assert server.wait() == 0


@on_loop
async def test_the_program_behind_a_proxy_serves_ws(tmp_path: Path) -> None:
    """The README's second program answers over ws."""
    with child(program("ws.py", anywhere=True), tmp_path) as server:
        async with connect(f"ws://127.0.0.1:{server.port}") as client:
            await client.send("tom")
            answer = await client.recv()

    assert answer == "ok"


@on_loop
async def test_rooms_keep_people_apart(tmp_path: Path) -> None:
    """The chat with rooms refuses without a token, and tells a room only its own lines."""
    with child(program("rooms.py", anywhere=True), tmp_path) as server:
        base = f"ws://127.0.0.1:{server.port}"
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"{base}/red?token=wrong")
        async with (
            connect(f"{base}/red?token=secret-of-ann") as ann,
            connect(f"{base}/red?token=secret-of-bob") as bob,
            connect(f"{base}/blue?token=secret-of-bob") as elsewhere,
        ):
            await ann.send("hello")
            heard = [await ann.recv(), await bob.recv()]
            await elsewhere.send("alone")
            heard_elsewhere = await elsewhere.recv()

    assert refused.value.response.status_code == 401
    assert heard == ["ann: hello", "ann: hello"]
    assert heard_elsewhere == "bob: alone"


def anchors(page: Path) -> set[str]:
    """List what the headings of a page are linked by."""
    text = re.sub(r"(?ms)^ *```.*?^ *```$", "", page.read_text())
    headings = re.findall(r"(?m)^#+ (.*)$", text)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_somewhere() -> None:
    """No page of the documentation links to a file or a heading that is not there."""
    names = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "bench/README.md")
    pages = [*(ROOT / name for name in names), *(ROOT / "docs").glob("*.md")]
    missing = []
    for page in pages:
        for link in re.findall(r"\]\(([^):]+)\)", page.read_text()):
            name, _, anchor = link.partition("#")
            target = page.parent / name if name else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                missing.append(f"{page.name}: {link}")

    assert missing == []
