"""Connections that real proxies cut, limits of real servers, and pages."""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateman.doctor.lasting.judgement import judge
from gateman.doctor.lasting.observations import LastingSeen
from gateman.doctor.lasting.probes import look, look_at_page
from gateman.doctor.target import Settings
from gateman.findings import Finding, Software
from tests.doctor.upgrade.looking import target_of
from tests.doctor.upgrade.test_servers import ACCEPTED, UPGRADE
from tests.support.backends import backends, says
from tests.support.haproxy import haproxy
from tests.support.ports import free_port
from tests.support.proxies import apache_command, nginx_command, program, running

SERVICE = """
import sys

from gateman import Worker

worker = Worker(
    sys.argv[1],
    timeouts={"ping_interval": float(sys.argv[2]) or None, "pong": 1},
    limits={"max_message_size": 100_000, "max_connections_per_ip": 5},
    trusted_proxies=[],
)
Worker.run_all()
"""


def looked(url: str, settings: Settings) -> tuple[LastingSeen, list[Finding]]:
    target, route = target_of(url)

    async def run() -> LastingSeen:
        page = await look_at_page(settings, lambda _: None)
        return await look(target, settings, [route], lambda _: None, page=page)

    seen = asyncio.run(run())
    return seen, list(judge(target, seen, front=Software.NGINX))


@contextmanager
def service(folder: Path, *, ping_interval: float) -> Iterator[int]:
    port = free_port()
    script = folder / f"service{ping_interval:g}.py"
    script.write_text(SERVICE)
    arguments = [f"websocket://127.0.0.1:{port}", str(ping_interval)]
    command = [sys.executable, str(script), *arguments]
    with running(command, port=port, log=folder / "log"):
        # The port is listened on before the process that answers there is ready.
        looked(f"ws://127.0.0.1:{port}/", Settings(message_size=1))
        yield port


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with service(tmp_path_factory.mktemp("silent"), ping_interval=0) as port:
        yield port


@contextmanager
def nginx(folder: Path, upstream: int, timeout: str) -> Iterator[int]:
    port = free_port()
    folder.chmod(0o755)
    for parent in list(folder.parents)[:2]:
        parent.chmod(0o755)
    text = (
        f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{upstream};"
        f" {UPGRADE} proxy_read_timeout {timeout}; }} }}"
    )
    with running(nginx_command(folder, text), port=port, log=folder / "error.log"):
        yield port


def test_nginx_cuts(silent: int, tmp_path: Path) -> None:
    with nginx(tmp_path, silent, "1s") as port:
        _, findings = looked(f"ws://127.0.0.1:{port}/", Settings(idle_time=4))

    (finding,) = findings
    assert finding.code == "IDLE_CUT"
    assert finding.problem.startswith(
        "a connection on which nothing is sent is cut after 1 s, without a Close; nginx is in front"
    )
    assert finding.evidence.startswith(
        "no ping, the end of the connection without a Close after 1."
    )


def test_apache_cuts(silent: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="gateman-doctor-"))
    folder.chmod(0o755)
    port = free_port()
    text = (
        f"# a2enmod proxy proxy_http proxy_wstunnel ssl\nListen 127.0.0.1:{port}\nTimeout 1\n"
        f"ProxyPass / http://127.0.0.1:{silent}/ upgrade=websocket\n"
    )
    try:
        command = [*apache_command(folder, text), "-DFOREGROUND"]
        with running(command, port=port, log=folder / "error.log"):
            _, findings = looked(f"ws://127.0.0.1:{port}/", Settings(idle_time=4))
    finally:
        shutil.rmtree(folder, ignore_errors=True)

    assert [one.code for one in findings] == ["IDLE_CUT"]


def test_haproxy_cuts(silent: int) -> None:
    program("haproxy")
    with haproxy(silent, "", mode="http", lines=["timeout tunnel 1s"]) as proxy:
        _, findings = looked(f"ws://127.0.0.1:{proxy.address[1]}/", Settings(idle_time=4))

    assert [one.code for one in findings] == ["IDLE_CUT"]


def test_pings_keep_a_connection(tmp_path: Path) -> None:
    folder = tmp_path / "nginx"
    folder.mkdir()
    with service(tmp_path, ping_interval=0.5) as upstream, nginx(folder, upstream, "2s") as port:
        seen, findings = looked(f"ws://127.0.0.1:{port}/", Settings(idle_time=3))

    assert findings == []
    assert seen.idle is not None
    assert seen.idle.exchange is not None
    assert len(seen.idle.exchange.pings) >= 3


def test_pongs_that_are_swallowed(tmp_path: Path) -> None:
    """What is in between passes nothing on from the client once the connection is open."""
    with service(tmp_path, ping_interval=0.5) as upstream:

        async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, back = await asyncio.open_connection("127.0.0.1", upstream)
            back.write(await reader.readuntil(b"\r\n\r\n"))
            while data := await there.read(1 << 16):
                writer.write(data)
            back.close()

        with backends(swallow=swallow) as ports:
            _, findings = looked(f"ws://127.0.0.1:{ports['swallow']}/", Settings(idle_time=6))

    assert [one.code for one in findings] == ["PONGS_LOST"]


def test_size(silent: int) -> None:
    url = f"ws://127.0.0.1:{silent}/"

    assert looked(url, Settings(message_size=100_000))[1] == []
    (finding,) = looked(url, Settings(message_size=100_001))[1]
    assert (finding.code, finding.problem) == (
        "MESSAGE_TOO_BIG",
        "the service takes no message of 100001 bytes: it closes with 1009 'a message may have"
        " 100000 bytes'",
    )


def test_a_reset_in_place_of_a_close() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = asyncio.StreamReader()
        head.feed_data(await reader.readuntil(b"\r\n\r\n"))
        head.feed_eof()
        await says(ACCEPTED + b"\r\n")(head, writer)
        await reader.read(1000)
        writer.transport.abort()

    with backends(cut=cut) as ports:
        url = f"ws://127.0.0.1:{ports['cut']}/"
        assert [one.code for one in looked(url, Settings(message_size=500_000))[1]] == [
            "MESSAGE_CUT"
        ]


def test_number(tmp_path: Path) -> None:
    with service(tmp_path, ping_interval=0) as port:
        seen, (finding,) = looked(f"ws://127.0.0.1:{port}/", Settings(connections=8))

    assert finding.code == "ADDRESS_LIMIT"
    assert seen.connections is not None
    assert 0 < seen.connections.opened <= 5


def test_number_that_is_well(silent: int) -> None:
    assert looked(f"ws://127.0.0.1:{silent}/", Settings(connections=2))[1] == []


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", None),
        (
            b"HTTP/1.1 200 OK\r\nContent-Security-Policy: default-src https:\r\n"
            b"Content-Length: 0\r\n\r\n",
            "CSP_BLOCKS",
        ),
        (
            b'HTTP/1.1 200 OK\r\nContent-Length: 84\r\n\r\n<meta http-equiv="Content-Security-'
            b'Policy" content="connect-src wss://b.example">   ',
            "CSP_BLOCKS",
        ),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "PAGE_UNREACHABLE"),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", "PAGE_UNREACHABLE"),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://a:b\r\nContent-Length: 0\r\n\r\n",
            "PAGE_UNREACHABLE",
        ),
        (
            b"HTTP/1.1 302 Found\r\nLocation: //[a]b/\r\nContent-Length: 0\r\n\r\n",
            "PAGE_UNREACHABLE",
        ),
        (b"hello", "PAGE_UNREACHABLE"),
    ],
)
def test_pages(silent: int, answer: bytes, code: str | None) -> None:
    with backends(page=says(answer)) as ports:
        settings = Settings(page=f"http://127.0.0.1:{ports['page']}/chat")
        seen, findings = looked(f"ws://127.0.0.1:{silent}/", settings)

    assert [one.code for one in findings] == ([code] if code else [])
    assert seen.page is not None
    if code is None:
        assert seen.page.origin == f"http://127.0.0.1:{ports['page']}"
