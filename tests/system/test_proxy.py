"""
A worker behind real Nginx and real Apache, which run the configurations that gateman prints.

Clients come from different loopback addresses, so that one can see whose address arrives.
"""

import asyncio
import json
import queue
import re
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import Any, TypeVar

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError

from gateman.ops import proxy
from tests.support import proxies
from tests.support.certificates import Authority
from tests.support.deadlines import TIMEOUT
from tests.support.ports import free_port
from tests.support.service import DOMAIN, serve

# Three workers: one as it comes, one that pings often on a unix socket, one that never does.
SERVICE = """
import json, os, sys
from gateman import Worker

os.umask(0)  # The proxy's user may write to the unix socket.
listeners = {sys.argv[1]: {}, "websocket+unix://SOCKET": {"ping_interval": 0.5, "pong": 1.0},
             "websocket://127.0.0.1:SILENT": {"ping_interval": None}}
watching = []

def answer(connection, message):
    if message == "who":
        connection.send(json.dumps([connection.remote_ip, connection.peer_ip]))
    elif message == "cookies":
        connection.send(json.dumps(connection.request.cookies))
    elif message == "close":
        connection.close(4321, "bye")
    elif message == "watch":
        watching.append(connection)
        connection.send("watching")
    else:
        connection.send(message)

def tell(connection, code, reason):
    if watching and connection is not watching[-1]:
        watching[-1].send(json.dumps([code, reason]))

for address, timeouts in listeners.items():
    worker = Worker(address, health_path="/wss/healthz", timeouts=timeouts)
    worker.on_message = answer
    worker.on_close = tell

Worker.run_all()
"""

Run = Callable[..., AbstractContextManager[int]]
T = TypeVar("T")


def finish(conversation: Coroutine[Any, Any, T]) -> T:
    """Hold a conversation, with a deadline."""
    return asyncio.run(asyncio.wait_for(conversation, TIMEOUT))


@dataclass(frozen=True, slots=True)
class Behind:
    """
    What stands behind a proxy.

    Attributes:
        site: What the proxy is to serve, with the first worker as its upstream.
        trusting: A client's context.
        authority: The file that such a client reads.
        socket: The path of the pinging worker's unix socket.
        silent: The port of the worker without pings.
    """

    site: proxy.Site
    trusting: ssl.SSLContext
    authority: Path
    socket: Path
    silent: int


@dataclass(frozen=True, slots=True)
class Front:
    """A running proxy: its port, and what stands behind it."""

    port: int
    behind: Behind

    def open(
        self,
        path: str = "/wss",
        *,
        source: str = "127.0.0.1",
        headers: Sequence[tuple[str, str]] = (),
        ping_interval: float | None = 20.0,
    ) -> connect:
        """Open a WebSocket from the address ``source``, with more headers."""
        return connect(
            f"wss://{DOMAIN}:{self.port}{path}",
            ssl=self.behind.trusting,
            host="127.0.0.1",
            port=self.port,
            local_addr=(source, 0),
            additional_headers=headers,
            max_size=None,
            ping_interval=ping_interval,
            proxy=None,
        )

    def say(self, message: str | bytes, path: str = "/wss", **options: Any) -> str | bytes:
        """Open a WebSocket, send one message, and return the answer."""

        async def talk() -> str | bytes:
            async with self.open(path, **options) as client:
                await client.send(message)
                return await client.recv()

        return finish(talk())

    def ask(self, *requests: str, source: str = "127.0.0.1") -> str:
        """Send requests at once, each without its empty line, and read to the end."""
        raw = socket.create_connection(("127.0.0.1", self.port), TIMEOUT, (source, 0))
        with self.behind.trusting.wrap_socket(raw, server_hostname=DOMAIN) as tls:
            tls.sendall("".join(f"{request}\r\n\r\n" for request in requests).encode())
            received = b""
            while data := tls.recv(1 << 16):
                received += data
        return received.decode()

    def curl(self, path: str, *options: str) -> tuple[str, str, str]:
        """Ask with curl; return the HTTP version, the status, and the body."""
        where = f"{DOMAIN}:{self.port}"
        found = ["--resolve", f"{where}:127.0.0.1", "--cacert", str(self.behind.authority)]
        told = ["--write-out", "\n%{http_version} %{http_code}"]
        asked = subprocess.run(
            ["curl", "-sS", *found, *told, *options, f"https://{where}{path}"],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=True,
        )
        body, _, numbers = asked.stdout.rpartition("\n")
        version, status = numbers.split()
        return version, status, body


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """Three workers, a certificate, and a folder for the rest of the site."""
    authority = Authority()
    issued = authority.issue(tmp_path_factory.mktemp("certificate"), DOMAIN)
    silent = free_port()
    with tempfile.TemporaryDirectory(prefix="gateman-site-") as name:
        root = Path(name)
        root.chmod(0o755)
        (root / "hello.txt").write_text("the rest of the site\n")
        (root / "wss.txt").write_text("a neighbour\n")
        script = SERVICE.replace("SOCKET", f"{root}/w.sock").replace("SILENT", str(silent))
        with serve(script, tmp_path_factory.mktemp("service")) as service:
            site = proxy.Site(
                domain=DOMAIN,
                upstream=f"127.0.0.1:{service.port}",
                certificate=str(issued.certificate),
                key=str(issued.key),
                root=str(root),
            )
            trusting = authority.trusting_client()
            yield Behind(site, trusting, issued.authority, root / "w.sock", silent)


@pytest.fixture(scope="module", params=["nginx", "apache"])
def run(request: pytest.FixtureRequest) -> Run:
    """Return what runs a site in each proxy."""
    found: Run = getattr(proxies, request.param)
    return found


@pytest.fixture(scope="module")
def front(run: Run, behind: Behind) -> Iterator[Front]:
    """Each proxy in front of the worker."""
    with run(behind.site) as port:
        yield Front(port, behind)


@contextmanager
def recording() -> Iterator[tuple[int, "queue.Queue[list[str]]"]]:
    """Run a server that keeps the request heads it reads; yield its port and the heads."""
    heads: queue.Queue[list[str]] = queue.Queue()

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            lines = iter(self.rfile.readline, b"\r\n")
            heads.put([line.decode().rstrip("\r\n") for line in lines])
            self.wfile.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield int(server.server_address[1]), heads
        finally:
            server.shutdown()
            thread.join()


# The WebSocket.


@pytest.mark.parametrize("message", ["tom", "", "ä€😀", b"\x00\xff", b"", "x" * (1 << 20)], ids=len)
def test_a_message_comes_back_as_it_was(front: Front, message: str | bytes) -> None:
    """Text and binary, nothing and 1 MiB pass both ways, over verified wss."""
    assert front.say(message) == message


def test_a_thousand_messages_stay_in_order(front: Front) -> None:
    """What is sent in a row arrives in that order."""
    sent = [str(number) for number in range(1000)]

    async def talk() -> list[str | bytes]:
        async with front.open() as client:
            for message in sent:
                await client.send(message)
            return [await client.recv() for _ in sent]

    assert finish(talk()) == sent


def test_the_workers_close_code_arrives(front: Front) -> None:
    """The client sees the code and reason that the application closed with."""
    with pytest.raises(ConnectionClosed) as closed:
        front.say("close")

    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4321, "bye")


@pytest.mark.parametrize("is_polite", [True, False])
def test_the_clients_end_arrives(front: Front, *, is_polite: bool) -> None:
    """``on_close`` sees the client's code and reason, and of one that vanished 1006, at once."""

    async def talk() -> str | bytes:
        async with front.open() as watcher, front.open() as client:
            await watcher.send("watch")
            await watcher.recv()
            if is_polite:
                await client.close(4000, "enough")
            else:
                client.transport.abort()
            return await watcher.recv()

    assert json.loads(finish(talk())) == ([4000, "enough"] if is_polite else [1006, ""])


def test_paths_below_the_path_are_the_workers(front: Front) -> None:
    """A room in the path, and a query, do not keep a client out."""
    assert front.say("in", "/wss/room/1?token=a%20b") == "in"


def test_a_unix_socket_may_be_the_upstream(run: Run, behind: Behind) -> None:
    """A worker on a unix socket is reached, and gets the client's address."""
    with run(replace(behind.site, upstream=f"unix:{behind.socket}")) as port:
        seen = Front(port, behind).say("who", source="127.0.0.2")

    assert json.loads(seen)[0] == "127.0.0.2"


def test_pings_keep_an_idle_connection(run: Run, behind: Behind) -> None:
    """Silence ends a connection after the printed time; the worker's pings are no silence."""

    def shorten(text: str) -> str:
        # Apache's own Timeout, 300 s in Debian, counts if it is longer.
        own = "Timeout 4\n" if "VirtualHost" in text else ""
        return own + re.sub(r"(proxy_\w+_timeout |\btimeout=)75", r"\g<1>4", text)

    async def wait(pinged: Front, silent: Front) -> str | bytes:
        async with pinged.open(ping_interval=None) as kept, silent.open(ping_interval=None) as cut:
            with pytest.raises(ConnectionClosedError):
                await cut.recv()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(kept.recv(), 1.0)
            await kept.send("still here")
            return await kept.recv()

    pinged = replace(behind.site, upstream=f"unix:{behind.socket}")
    silent = replace(behind.site, upstream=f"127.0.0.1:{behind.silent}")
    with run(pinged, edit=shorten) as one, run(silent, edit=shorten) as two:
        heard = finish(wait(Front(one, behind), Front(two, behind)))

    assert heard == "still here"


# The page.


def cookies_of(front: Front, origin: str) -> dict[str, str]:
    """Open a WebSocket as a browser does for a page; give the cookies that the application sees."""
    headers = [("Origin", origin), ("Cookie", "session=1")]
    found: dict[str, str] = json.loads(front.say("cookies", headers=headers))
    return found


def test_cookies_are_for_pages_of_the_site(front: Front) -> None:
    """The proxy passes on which host was asked for."""
    assert cookies_of(front, f"https://{DOMAIN}") == {"session": "1"}
    assert cookies_of(front, f"https://{DOMAIN}:{front.port}") == {"session": "1"}
    assert cookies_of(front, "https://evil.example") == {}
    assert cookies_of(front, f"https://127.0.0.1:{front.port}") == {}
    assert cookies_of(front, f"http://{front.behind.site.upstream}") == {}


def test_a_proxy_that_replaces_host_names_it_elsewhere(run: Run, behind: Behind) -> None:
    """As Apache does by itself, in X-Forwarded-Host."""

    def replace_host(text: str) -> str:
        return text.replace("ProxyPreserveHost On", "").replace(
            "proxy_set_header Host $http_host;", ""
        )

    with run(behind.site, edit=replace_host) as port:
        front = Front(port, behind)
        assert cookies_of(front, f"https://{DOMAIN}") == {"session": "1"}
        assert cookies_of(front, "https://evil.example") == {}
        assert cookies_of(front, f"http://{behind.site.upstream}") == {}


# The client's address.

FORGERIES = {
    "nothing": [],
    "X-Forwarded-For": [("X-Forwarded-For", "203.0.113.9")],
    "a list": [("X-Forwarded-For", "203.0.113.9, 127.0.0.1"), ("X-Forwarded-For", "203.0.113.8")],
    "X-Real-IP": [("X-Real-IP", "203.0.113.9"), ("x-real-ip", "203.0.113.8")],
    "Forwarded": [("Forwarded", "for=203.0.113.9"), ("Forwarded", 'for="[2001:db8::9]"')],
    "underscores": [("X_Forwarded_For", "203.0.113.9"), ("X_Real_IP", "203.0.113.9")],
    # Hop-by-hop fields are removed: these would be, if the proxy wrote them before it looks.
    "hop by hop": [("Connection", "X-Real-IP, X-Forwarded-For, Forwarded, Host")],
    "all": [
        ("X-Forwarded-For", "203.0.113.9"),
        ("X-Real-IP", "203.0.113.9"),
        ("Forwarded", "for=203.0.113.9"),
        ("X-Forwarded-Host", "evil.example"),
        ("Connection", "X-Real-IP"),
    ],
}


@pytest.mark.parametrize("forged", FORGERIES.values(), ids=FORGERIES)
def test_the_clients_address_cannot_be_forged(front: Front, forged: list[tuple[str, str]]) -> None:
    """The worker sees where a client comes from, whatever the client says about it."""
    seen = front.say("who", source="127.0.0.7", headers=forged)

    assert json.loads(seen) == ["127.0.0.7", "127.0.0.1"]


def test_the_worker_reads_what_the_proxy_wrote(run: Run, behind: Behind) -> None:
    """Nothing that a client says about itself or its scheme gets through; Host and query do."""
    forged = "".join(f"\r\n{name}: {value}" for name, value in FORGERIES["all"][:-1])
    with (
        recording() as (upstream, heads),
        run(replace(behind.site, upstream=f"127.0.0.1:{upstream}")) as port,
    ):
        Front(port, behind).ask(
            f"GET /wss?a=%2F HTTP/1.1\r\nHost: {DOMAIN}:{port}\r\nX-Forwarded-Proto: http{forged}"
            "\r\nConnection: close",
            source="127.0.0.7",
        )
        line, *fields = heads.get(timeout=TIMEOUT)

    about = re.compile(r"(?i)(host|forwarded|x-forwarded-(for|host|proto)|x-real-ip):")
    assert line == "GET /wss?a=%2F HTTP/1.1"
    assert sorted(field for field in fields if about.match(field)) == [
        f"Host: {DOMAIN}:{port}",
        "X-Forwarded-For: 127.0.0.7",
        f"X-Forwarded-Host: {DOMAIN}:{port}",
        "X-Forwarded-Proto: https",
        "X-Real-IP: 127.0.0.7",
    ]


BEFORE = {
    "nginx": "set_real_ip_from 127.0.0.1; real_ip_header CF-Connecting-IP;",
    "apache": f"LoadModule remoteip_module {proxies.APACHE_MODULES}/mod_remoteip.so\n"
    "RemoteIPHeader CF-Connecting-IP\nRemoteIPTrustedProxy 127.0.0.1",
}


def test_a_cdn_before_the_proxy_may_be_believed(run: Run, behind: Behind) -> None:
    """With the directives of ``docs/proxy.md``, the address is the one that the CDN tells."""
    told = [("CF-Connecting-IP", "203.0.113.9")]
    with run(behind.site, extra=BEFORE[run.__name__]) as port:
        front = Front(port, behind)
        seen = [front.say("who", source=ip, headers=told) for ip in ("127.0.0.1", "127.0.0.7")]

    assert [json.loads(answer)[0] for answer in seen] == ["203.0.113.9", "127.0.0.7"]


# Plain HTTP.


def test_the_health_check_is_reached(front: Front) -> None:
    """A worker whose health path is below its path answers checks through the proxy."""
    assert front.curl("/wss/healthz") == ("2", "200", "ok\n")
    assert front.curl("/wss/healthz", "--head", "--output", "/dev/null") == ("2", "200", "")


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_a_plain_request_gets_the_workers_answer(front: Front, version: str) -> None:
    """One who opens the address as a page reads what it is, over HTTP/2 too."""
    spoken, status, body = front.curl("/wss", f"--http{version}")

    assert (spoken, status) == (version, "426")
    assert body.startswith("This is a WebSocket service")


def test_curl_over_http2_is_told_to_use_http1(front: Front) -> None:
    """A handshake over HTTP/2 has no upgrade: neither the proxy nor its configuration is wrong."""
    fields = ["Upgrade: websocket", "Sec-WebSocket-Version: 13"]
    fields += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    told = [word for field in fields for word in ("-H", field)]
    spoken, status, body = front.curl("/wss", *told)

    assert (spoken, status) == ("2", "400")
    assert "It came to the proxy over HTTP/2 or 3: open it over HTTP/1.1 (curl: --http1.1)." in body


def test_a_426_names_the_protocol(front: Front) -> None:
    """RFC 9110, section 15.5.22: over HTTP/1.1 the answer has its Upgrade field."""
    answer = front.ask(f"GET /wss HTTP/1.1\r\nHost: {DOMAIN}\r\nConnection: close")

    assert re.findall(r"(?im)^upgrade: (.*)\r$", answer) == ["websocket"]


def test_another_method_is_refused_by_the_worker(front: Front) -> None:
    """A POST is answered, not lost."""
    assert front.curl("/wss", "--data", "x" * 100_000)[1] == "405"


def test_a_refused_upgrade_opens_no_tunnel(front: Front) -> None:
    """
    What follows a handshake that the worker refused is a request to the proxy.

    Otherwise anybody could speak to the worker behind the proxy's back: CVE-2019-17567 of
    mod_proxy_wstunnel.
    """
    answers = front.ask(
        f"GET /wss HTTP/1.1\r\nHost: {DOMAIN}\r\nUpgrade: websocket\r\nConnection: Upgrade"
        "\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 12",
        f"GET /hello.txt HTTP/1.1\r\nHost: {DOMAIN}\r\nConnection: close",
    )

    assert re.findall(r"HTTP/1.1 (\d+)", answers) in (["426", "200"], ["426"])
    assert "speaks version 13" in answers


def test_no_other_protocol_is_passed_on(run: Run, behind: Behind) -> None:
    """Only a WebSocket is worth an upgrade; HTTP/2 without TLS, for one, is none."""
    with (
        recording() as (upstream, heads),
        run(replace(behind.site, upstream=f"127.0.0.1:{upstream}")) as port,
    ):
        Front(port, behind).ask(
            f"GET /wss HTTP/1.1\r\nHost: {DOMAIN}\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk"
            "\r\nConnection: Upgrade, HTTP2-Settings, close",
        )
        fields = heads.get(timeout=TIMEOUT)

    assert [
        field for field in fields if re.match(r"(?i)upgrade:|connection:.*upgrade", field)
    ] == []


def test_a_missing_worker_is_the_proxys_error(run: Run, behind: Behind) -> None:
    """While no worker listens, clients get an answer at once."""
    with run(replace(behind.site, upstream=f"127.0.0.1:{free_port()}")) as port:
        status = Front(port, behind).curl("/wss")[1]

    assert status in {"502", "503"}


# The rest of the site.


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_the_rest_of_the_site_is_served(front: Front, version: str) -> None:
    """Files come as before, over HTTP/2 and HTTP/1.1."""
    hello = front.curl("/hello.txt", f"--http{version}")

    assert hello == (version, "200", "the rest of the site\n")


def test_a_name_that_begins_alike_is_not_the_workers(front: Front) -> None:
    """The path ends at a slash: a file beside it belongs to the site."""
    assert front.curl("/wss.txt") == ("2", "200", "a neighbour\n")


def test_the_whole_site_may_be_the_workers(run: Run, behind: Behind) -> None:
    """With the path ``/``, everything goes to the worker."""
    with run(replace(behind.site, path="/")) as port:
        front = Front(port, behind)
        status, echo = front.curl("/hello.txt")[1], front.say("in", "/")

    assert (status, echo) == ("426", "in")


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2", "1.3"])
def test_only_tls_1_2_and_1_3_are_spoken(front: Front, version: str) -> None:
    """An old client gets no connection, although the server around the site would allow it."""
    only = ["--tlsv" + version, "--tls-max", version, "--ciphers", "DEFAULT@SECLEVEL=0"]
    try:
        answered = front.curl("/hello.txt", *only)[1]
    except subprocess.CalledProcessError as error:
        # curl's CURLE_SSL_CONNECT_ERROR.
        answered = f"curl: {error.returncode}"

    assert answered == ("200" if version in {"1.2", "1.3"} else "curl: 35")
