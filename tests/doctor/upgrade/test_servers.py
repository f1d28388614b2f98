"""Handshakes that real servers refuse, each named right; and those that work, without an alarm."""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.asyncio.server import serve as serve_websockets

from gateman.doctor.target import Settings
from gateman.doctor.upgrade.client import default_origin
from gateman.findings import Severity
from tests.support.backends import backends, hang, leave, says, ssh
from tests.support.loop import on_loop
from tests.support.ports import free_port
from tests.support.proxies import apache_command, nginx_command, program, running

from .looking import looked, looked_at, target_of

SERVICE = """
import sys
import time
from pathlib import Path

from gateman import Refuse, Worker

worker = Worker(sys.argv[1])
worker.subprotocols = ["chat.v2"]


def block():  # this process, until the doctor is done
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not Path(sys.argv[2]).exists():
        time.sleep(0.01)


@worker.on_websocket_connect
def decide(connection, request):
    match request.path:
        case "/refuse":
            raise Refuse(402, "no token")
        case "/raise":
            raise ValueError
        case "/block":
            block()


@worker.on_open
def opened(connection):
    match connection.request.path:
        case "/policy":
            connection.close(1008, "no token")
        case "/own":
            connection.close(4401, "log in")
        case "/error":
            raise ValueError
        case "/break":
            connection.destroy()
        case "/busy":
            block()


Worker.run_all()
"""

STRICT = """
import sys

from gateman import Worker

worker = Worker(sys.argv[1], allowed_origins=["https://site.example"])
Worker.run_all()
"""

PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 15\r\n\r\n<!doctype html>"
OPEN = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
ACCEPTED = OPEN + b"Sec-WebSocket-Accept: {accept}\r\n"

UPGRADE = (
    "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;"
    " proxy_set_header Connection upgrade;"
)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    # Not pytest's tmp_path, which only its owner may enter.
    made = Path(tempfile.mkdtemp(prefix="gateman-doctor-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def ports(folder: Path) -> Iterator[dict[str, int]]:
    """Run what is behind the proxies."""
    (folder / "service.py").write_text(SERVICE)
    (folder / "strict.py").write_text(STRICT)
    service, strict = free_port(), free_port()
    commands = {
        port: [sys.executable, str(folder / name), f"websocket://127.0.0.1:{port}"]
        for port, name in ((service, "service.py"), (strict, "strict.py"))
    }
    with (
        running(commands[service], port=service, log=folder / "service.log"),
        running(commands[strict], port=strict, log=folder / "strict.log"),
        backends(hang=hang, leave=leave, ssh=ssh, page=says(PAGE)) as ports,
    ):
        yield {**ports, "service": service, "strict": strict, "closed": free_port()}


@pytest.fixture(scope="module")
def nginx(folder: Path, ports: dict[str, int]) -> Iterator[str]:
    port = free_port()
    to = {name: f"proxy_pass http://127.0.0.1:{number}" for name, number in ports.items()}
    text = f"""
    limit_req_zone $binary_remote_addr zone=one:32k rate=1r/m;
    server {{
        listen 127.0.0.1:{port};
        location /good {{ {to["service"]}; {UPGRADE} }}
        location /lost {{ {to["service"]}; proxy_http_version 1.1; }}
        location /half {{ {to["service"]}; proxy_http_version 1.1;
                          proxy_set_header Upgrade $http_upgrade; }}
        location /old {{ {to["service"]}; proxy_set_header Upgrade $http_upgrade;
                         proxy_set_header Connection upgrade; }}
        location /strict {{ {to["strict"]}; {UPGRADE} }}
        location /closed {{ {to["closed"]}; {UPGRADE} }}
        location /leave {{ {to["leave"]}; {UPGRADE} }}
        location /hang {{ {to["hang"]}; {UPGRADE} proxy_read_timeout 1s; }}
        location /silent {{ {to["hang"]}; {UPGRADE} }}
        location /https {{ proxy_pass https://127.0.0.1:{ports["service"]}; {UPGRADE} }}
        location /socket {{ proxy_pass http://unix:{folder}/none.sock; {UPGRADE} }}
        location /page {{ {to["page"]}; }}
        location /deny {{ deny all; }}
        location /tls {{ return 301 https://$host$request_uri; }}
        location /slash/ {{ {to["service"]}/; {UPGRADE} }}
        location /www {{ return 301 http://www.a.example$request_uri; }}
        location /members {{ return 302 /account/signin; }}
        location /limited {{ limit_req zone=one; limit_req_status 429; {to["service"]}; }}
        location /stripped {{ {to["service"]}; {UPGRADE} proxy_hide_header Sec-WebSocket-Accept; }}
        location /protected {{ auth_basic x; auth_basic_user_file {folder}/none; }}
        location / {{ root {folder}/nothing; }}
    }}
    """
    log = folder / "error.log"
    with running(nginx_command(folder, text), port=port, log=log):
        yield f"ws://127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/lost", "UPGRADE_LOST"),
        ("/half", "UPGRADE_LOST"),
        ("/old", "UPGRADE_HTTP_1_0"),
        ("/strict", "ORIGIN_REFUSED"),
        ("/closed", "UPSTREAM_FAILED"),
        ("/leave", "UPSTREAM_FAILED"),
        ("/https", "UPSTREAM_FAILED"),
        ("/socket", "UPSTREAM_FAILED"),
        ("/hang", "UPSTREAM_HANGS"),
        ("/silent", "UPSTREAM_HANGS"),
        ("/page", "PAGE_ANSWERS"),
        ("/deny", "FORBIDDEN"),
        ("/tls", "REDIRECT_TO_TLS"),
        ("/slash", "REDIRECT_SLASH"),
        ("/www", "REDIRECTED"),
        ("/members", "LOGIN_PAGE"),
        ("/stripped", "ANSWER_FIELD_LOST"),
        ("/protected", "AUTHENTICATION_REQUIRED"),
        ("/nothing", "PATH_NOT_FOUND"),
    ],
)
def test_nginx(nginx: str, path: str, code: str) -> None:
    assert looked(nginx + path).codes == [code]


def test_a_limit_of_nginx(nginx: str) -> None:
    looked(f"{nginx}/limited")

    assert looked(f"{nginx}/limited").codes == ["RATE_LIMITED"]


def test_the_fix_is_in_the_words_of_nginx(nginx: str) -> None:
    (finding,) = looked(f"{nginx}/lost").findings

    assert finding.severity is Severity.CAUSE
    assert "proxy_set_header Upgrade $http_upgrade;" in finding.fix


@pytest.fixture(scope="module")
def apache(folder: Path, ports: dict[str, int]) -> Iterator[str]:
    port = free_port()
    place = folder / "apache"
    place.mkdir()
    place.chmod(0o755)
    to = {name: f"127.0.0.1:{number}/" for name, number in ports.items()}
    text = f"""
    # a2enmod alias proxy proxy_http proxy_wstunnel ssl
    Listen 127.0.0.1:{port}
    ProxyPass /good http://{to["service"]}good upgrade=websocket
    ProxyPass /tunnel ws://{to["service"]}
    ProxyPass /lost http://{to["service"]}lost
    ProxyPass /closed http://{to["closed"]} upgrade=websocket
    ProxyPass /leave http://{to["leave"]} upgrade=websocket
    ProxyPass /ssh http://{to["ssh"]}
    Redirect 301 /moved https://a.example/moved
    DocumentRoot {place}
    <Directory {place}>
        Require all granted
    </Directory>
    """
    command = [*apache_command(place, text), "-DFOREGROUND"]
    with running(command, port=port, log=place / "error.log"):
        yield f"ws://127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/lost", "UPGRADE_LOST"),
        ("/closed", "UPSTREAM_FAILED"),
        ("/leave", "UPSTREAM_FAILED"),
        ("/ssh", "WRONG_SERVICE"),
        ("/moved", "REDIRECTED"),
        ("/nothing", "PATH_NOT_FOUND"),
    ],
)
def test_apache(apache: str, path: str, code: str) -> None:
    (finding,) = looked(apache + path).findings

    assert finding.code == code
    if code == "UPGRADE_LOST":
        assert finding.fix.startswith("write upgrade=websocket at the end of the ProxyPass line")


@pytest.fixture(scope="module")
def haproxy(folder: Path, ports: dict[str, int]) -> Iterator[str]:
    port = free_port()
    backend = "\n".join(
        f"backend {name}\n  server s 127.0.0.1:{number}" for name, number in ports.items()
    )
    path = folder / "haproxy.cfg"
    path.write_text(
        f"""
defaults
  mode http
  timeout connect 1s
  timeout client 60s
  timeout server 1s
frontend clients
  bind 127.0.0.1:{port}
  http-request deny if {{ path /deny }}
  http-request auth if {{ path /protected }}
  http-request del-header Upgrade if {{ path /lost }}
  use_backend service if {{ path /good /lost }}
  use_backend closed if {{ path /closed }}
  use_backend leave if {{ path /leave }}
  use_backend hang if {{ path /hang }}
{backend}
"""
    )
    command = [program("haproxy"), "-db", "-q", "-f", str(path)]
    with running(command, port=port, log=folder / "haproxy.log"):
        yield f"ws://127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/lost", "UPGRADE_LOST"),
        ("/deny", "FORBIDDEN"),
        ("/protected", "AUTHENTICATION_REQUIRED"),
        ("/closed", "UPSTREAM_FAILED"),
        ("/leave", "UPSTREAM_FAILED"),
        ("/hang", "UPSTREAM_HANGS"),
        ("/nothing", "PROXY_HAS_NO_BACKEND"),
    ],
)
def test_haproxy(haproxy: str, path: str, code: str) -> None:
    (finding,) = looked(haproxy + path).findings

    assert finding.code == code
    if code == "UPGRADE_LOST":
        assert finding.fix.startswith("remove `http-request del-header` lines")


@pytest.fixture(scope="module")
def caddy(folder: Path, ports: dict[str, int]) -> Iterator[str]:
    # Not among the packages that the tests need elsewhere.
    if shutil.which("caddy") is None:
        pytest.skip("caddy is not installed")
    port = free_port()
    handlers = "\n".join(
        f"handle /{name} {{\n reverse_proxy 127.0.0.1:{number}\n}}"
        for name, number in ports.items()
    )
    path = folder / "Caddyfile"
    path.write_text(
        f"""{{
 admin off
 auto_https off
}}
http://127.0.0.1:{port} {{
 {handlers}
 handle /lost {{
  reverse_proxy 127.0.0.1:{ports["service"]} {{
   header_up -Upgrade
  }}
 }}
}}
"""
    )
    command = ["caddy", "run", "--config", str(path), "--adapter", "caddyfile"]
    with running(command, port=port, log=folder / "caddy.log"):
        yield f"ws://127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/lost", "UPGRADE_LOST"),
        ("/closed", "UPSTREAM_FAILED"),
        ("/leave", "UPSTREAM_FAILED"),
        ("/ssh", "UPSTREAM_FAILED"),
        ("/page", "PAGE_ANSWERS"),
        ("/nothing", "PATH_NOT_FOUND"),
    ],
)
def test_caddy(caddy: str, path: str, code: str) -> None:
    assert looked(caddy + path).codes == [code]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/refuse", "APPLICATION_REFUSED"),
        ("/raise", "APPLICATION_FAILED"),
        ("/policy", "APPLICATION_REFUSED"),
        ("/own", "APPLICATION_REFUSED"),
        ("/error", "APPLICATION_FAILED"),
        ("/break", "BROKEN_AT_ONCE"),
    ],
)
def test_applications(ports: dict[str, int], path: str, code: str) -> None:
    assert looked(f"ws://127.0.0.1:{ports['service']}{path}").codes == [code]


@pytest.mark.parametrize("path", ["/block", "/busy"])
def test_applications_that_block(folder: Path, path: str) -> None:
    port = free_port()
    script = folder / f"{path[1:]}.py"
    script.write_text(SERVICE)
    is_looked_at = folder / f"{path[1:]}.done"
    command = [sys.executable, str(script), f"websocket://127.0.0.1:{port}", str(is_looked_at)]
    with running(command, port=port, log=folder / "blocked.log"):
        seen = looked(f"ws://127.0.0.1:{port}{path}")
        is_looked_at.touch()
    assert seen.codes == ["APPLICATION_BLOCKS"]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (OPEN + b"Sec-WebSocket-Accept: b3RoZXI=\r\n\r\n", "ACCEPT_WRONG"),
        (OPEN + b"Sec-WebSocket-Accept: b3RoZXI=\r\nAge: 9\r\n\r\n", "ANSWER_CACHED"),
        (ACCEPTED + b"Content-Length: 5\r\n\r\nhello", "ANSWER_HAS_BODY"),
        (ACCEPTED + b"\r\nNotice: undefined variable", "ANSWER_HAS_BODY"),
        (ACCEPTED + b"\r\n\x89\x80\1\2\3\4", "FRAMES_INVALID"),
        (ACCEPTED + b"\r\n\xc1\1a", "COMPRESSION_NOT_AGREED"),
        (ACCEPTED + b"\r\n", "PONG_MISSING"),
        (b"220 mail.a.example ESMTP\r\n", "WRONG_SERVICE"),
        (b"\0\0\x12\4\0\0\0\0\0\0\3\0\0\0\x80\0\4\0\1\0\0\0\5\0\xff\xff\xff", "HTTP2_ONLY"),
        (b"hello\r\n", "NOT_HTTP"),
    ],
)
def test_answers_of_broken_servers(answer: bytes, code: str) -> None:
    with backends(broken=says(answer)) as ports:
        assert looked(f"ws://127.0.0.1:{ports['broken']}/").codes[-1:] == [code]


def test_a_pong_with_another_payload() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await says(ACCEPTED + b"\r\n")(_Head(await reader.readuntil(b"\r\n\r\n")), writer)
        await reader.read(100)
        writer.write(b"\x8a\1a")
        await reader.read()

    with backends(wrong=answer) as ports:
        assert looked(f"ws://127.0.0.1:{ports['wrong']}/").codes == ["PONG_WRONG"]


class _Head(asyncio.StreamReader):
    """A reader of one head, and then the end."""

    def __init__(self, head: bytes) -> None:
        super().__init__()
        self.feed_data(head)
        self.feed_eof()


def test_subprotocols(ports: dict[str, int]) -> None:
    url = f"ws://127.0.0.1:{ports['service']}/"

    assert looked(url, Settings(subprotocols=("mqtt",))).codes == ["SUBPROTOCOL_NOT_SELECTED"]
    assert looked(url, Settings(subprotocols=("mqtt", "chat.v2"))).codes == []


def test_the_origin_of_the_command_line(ports: dict[str, int]) -> None:
    url = f"ws://127.0.0.1:{ports['strict']}/"

    assert looked(url).codes == ["ORIGIN_REFUSED"]
    assert looked(url, Settings(origin="https://site.example")).codes == []
    assert default_origin(target_of(url)[0]) == url.replace("ws://", "http://").rstrip("/")


def test_header_fields_of_the_command_line() -> None:
    """Their values are sent, and are in no row."""
    heads: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    with backends(note=note) as ports:
        seen = looked(
            f"ws://127.0.0.1:{ports['note']}/", Settings(headers=(("X-Token", "s3cret"),))
        )

    assert b"\r\nX-Token: s3cret\r\n" in heads[0]
    assert "s3cret" not in repr(seen)


@pytest.mark.parametrize("server", ["nginx", "apache", "haproxy", "caddy"])
def test_healthy_proxies(request: pytest.FixtureRequest, server: str) -> None:
    url = request.getfixturevalue(server)
    look = looked(f"{url}/{'service' if server == 'caddy' else 'good'}")

    assert look.codes == []
    assert look.seen.is_open
    # The pong, and a little while in which the server could have closed.
    assert len(look.seen.attempts) == 3


def test_healthy_apache_with_a_tunnel(apache: str) -> None:
    assert looked(f"{apache}/tunnel").codes == []


@on_loop
async def test_healthy_servers_of_python() -> None:
    async def echo(websocket: object) -> None:
        async for message in websocket:  # type: ignore[attr-defined]
            await websocket.send(message)  # type: ignore[attr-defined]

    async with serve_websockets(echo, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        look = await looked_at(f"ws://127.0.0.1:{port}/")

    assert look.codes == []
    assert look.seen.is_open


ASGI = """
import sys

import uvicorn
from fastapi import FastAPI, WebSocket

app = FastAPI()


@app.websocket("/ws")
async def talk(websocket: WebSocket) -> None:
    await websocket.accept()
    async for message in websocket.iter_text():
        await websocket.send_text(message)


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error")
"""


def test_uvicorn(folder: Path) -> None:
    port = free_port()
    (folder / "app.py").write_text(ASGI)
    command = [sys.executable, str(folder / "app.py"), str(port)]
    with running(command, port=port, log=folder / "app.log"):
        assert looked(f"ws://127.0.0.1:{port}/ws").codes == []
        assert looked(f"ws://127.0.0.1:{port}/other").codes == ["APPLICATION_REFUSED"]
        front = free_port()
        place = folder / "front"
        place.mkdir()
        place.chmod(0o755)
        text = (
            f"server {{ listen 127.0.0.1:{front};"
            f" location / {{ proxy_pass http://127.0.0.1:{port}; }} }}"
        )
        command = nginx_command(place, text)
        with running(command, port=front, log=place / "error.log"):
            assert looked(f"ws://127.0.0.1:{front}/ws").codes == ["UPGRADE_LOST"]


def test_a_server_of_http_only(folder: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    with running(command, port=port, log=folder / "http.log"):
        codes = looked(f"ws://127.0.0.1:{port}/none").codes

    assert codes == ["WEBSOCKET_UNSUPPORTED"]
