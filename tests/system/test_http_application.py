"""Web applications on a worker's port, as their users have them: frameworks, proxies, reloads."""

import http.client
import json
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from websockets.sync.client import connect

from tests.support.deadlines import TIMEOUT
from tests.support.master import Master, master, until, written
from tests.support.ports import free_port
from tests.support.proxies import nginx_command, program, running

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / "examples" / "with_http.py").read_text()
PAGE = (ROOT / "docs" / "http.md").read_text()


@contextmanager
def http_to(port: int, *, source: str = "127.0.0.1") -> Iterator[http.client.HTTPConnection]:
    """Connect a client that keeps its connection."""
    connection = http.client.HTTPConnection(
        "127.0.0.1", port, timeout=TIMEOUT, source_address=(source, 0)
    )
    try:
        yield connection
    finally:
        connection.close()


def ask(
    connection: http.client.HTTPConnection,
    path: str,
    *,
    method: str = "GET",
    body: bytes | None = None,
) -> tuple[int, bytes]:
    """Ask, and read the answer."""
    connection.request(method, path, body)
    answer = connection.getresponse()
    return answer.status, answer.read()


def curl(*arguments: str) -> str:
    """Run curl, and give what it prints."""
    done = subprocess.run(
        [program("curl"), "--silent", "--max-time", "20", *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def causes(service: Master) -> dict[str, int]:
    """Read the counters of a service with one process."""
    found: dict[str, int] = service.processes()[0]["counts"]
    return {name: count for name, count in found.items() if name.startswith("http")}


# The example.


def test_the_page_shows_the_example() -> None:
    """The program of ``docs/http.md`` is the one that is run here."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

    assert blocks[0] == EXAMPLE.split('"""\n', 2)[2].lstrip("\n")


def test_a_push_reaches_clients(tmp_path: Path) -> None:
    """With FastAPI and curl, which also offers HTTP/2; responses are counted."""
    script = EXAMPLE.replace("127.0.0.1:8282", "127.0.0.1:0")
    with master(script, tmp_path) as service:
        url = f"http://127.0.0.1:{service.port}"
        with connect(f"ws://127.0.0.1:{service.port}/") as client:
            until(lambda: curl("-d", "ready", f"{url}/push/orders") == "1")
            first = client.recv(TIMEOUT)
            pushed = curl("--http2", "-d", "again", f"{url}/push/orders")
            second = client.recv(TIMEOUT)
        page = curl(f"{url}/")
        missing = curl("--head", f"{url}/missing", f"{url}/healthz")
        counted = causes(service)

    assert (first, second, pushed) == ("ready", "again", "1")
    assert page.startswith("<h1>Orders</h1>")
    assert re.findall(r"HTTP/1.1 (\d+)", missing) == ["404", "200"]
    assert counted["http_2xx"] >= 3
    assert counted["http_4xx"] == 1


# Frameworks.

DJANGO = """
import django
from django.conf import settings
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path
from gateman import hub

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="of a test",
                   MIDDLEWARE=["django.middleware.common.CommonMiddleware"])
django.setup()

async def push(request):
    return HttpResponse(str(await hub.send_to_all(request.body.decode())))

def who(request):
    return HttpResponse(f"{request.META['REMOTE_ADDR']} {request.scheme}")

async def parts(request):
    async def lines():
        for number in range(1000):
            yield b"%05d" % number * 100
    return StreamingHttpResponse(lines())

urlpatterns = [path("push", push), path("who", who), path("parts", parts)]

from django.core.asgi import get_asgi_application
application = get_asgi_application()
"""

BY_NAME = """
import sys
from gateman import Worker

worker = Worker("websocket://127.0.0.1:0", http="site_asgi:application",
                limits={"max_body_size": 2_000_000})
worker.on_message = lambda connection, message: connection.send(str("django" in sys.modules))
if __name__ == "__main__":
    Worker.run_all()
    assert "django" not in sys.modules or "check" in sys.argv, "the master has no application"
"""


def test_django_by_name(tmp_path: Path) -> None:
    """It has no lifespan; only the worker's process has it; a body may be large."""
    (tmp_path / "site_asgi.py").write_text(DJANGO)
    with master(BY_NAME, tmp_path) as service, http_to(service.port) as web:
        with connect(f"ws://127.0.0.1:{service.port}/") as client:
            client.send("loaded?")
            loaded = client.recv(TIMEOUT)
            text = "news" * 200_000
            pushed = ask(web, "/push", method="POST", body=text.encode())
            received = client.recv(TIMEOUT)
        who = ask(web, "/who")
        parts = ask(web, "/parts")
        checked = service.gateman("check")
        seen = service.gateman("doctor", f"ws://127.0.0.1:{service.port}/missing")

    assert (loaded, pushed, received) == ("True", (200, b"1"), text)
    assert who == (200, b"127.0.0.1 http")
    assert len(parts[1]) == 500_000
    assert checked.returncode == 0
    assert (seen.returncode, "is healthy" in seen.stdout) == (0, True), seen.stdout
    assert "AssertionError" not in service.stderr


def test_check_looks_for_the_application(tmp_path: Path) -> None:
    """A name that is wrong is found before a start."""
    (tmp_path / "server.py").write_text(BY_NAME)
    found = subprocess.run(
        [sys.executable, "-m", "gateman", "check", "server.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert found.returncode != 0
    assert "there is no module 'site_asgi'" in found.stderr


FAILING = """
from contextlib import asynccontextmanager
from starlette.applications import Starlette
from gateman import Worker

@asynccontextmanager
async def lifespan(app):
    raise LookupError("no database")
    yield

Worker("websocket://127.0.0.1:0", name="chat", http=Starlette(lifespan=lifespan))
Worker.run_all()
"""


def test_a_lifespan_that_fails_stops_the_start(tmp_path: Path) -> None:
    """In one sentence, with the place."""
    with master(FAILING, tmp_path, listens=False) as service:
        code = service.wait()
        said = service.stderr

    assert code != 0
    assert "chat: the HTTP application did not start: LookupError: no database (at " in said
    assert f"{tmp_path}/server.py:8)" in said
    assert "Traceback" not in said


# Reloading.

STREAMS = """
import asyncio, os
from contextlib import asynccontextmanager
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route
from gateman import Worker

@asynccontextmanager
async def lifespan(app):
    yield {"pid": os.getpid()}
    open("ended", "a").write(f"{os.getpid()} ")

async def pid(request):
    return PlainTextResponse(str(request.state.pid))

async def slow(request):
    await asyncio.sleep(0.5)
    return PlainTextResponse(str(os.getpid()))

async def count(request):
    return PlainTextResponse(str(sum([len(part) async for part in request.stream()])))

async def events(request):
    async def lines():
        while True:
            yield "data: 1\\n\\n"
            await asyncio.sleep(0.05)
    return StreamingResponse(lines(), media_type="text/event-stream")

app = Starlette(lifespan=lifespan, routes=[
    Route("/pid", pid), Route("/slow", slow), Route("/events", events),
    Route("/count", count, methods=["POST"]),
])
worker = Worker("websocket://127.0.0.1:0", http=app, count=2, drain_window=1.0,
                limits={"max_body_size": 50_000_000})
Worker.run_all()
"""


def test_a_reload_loses_no_request(tmp_path: Path) -> None:
    """Streams end whole, requests are answered, and each process ends its lifespan."""
    with master(STREAMS, tmp_path) as service, http_to(service.port) as stream:
        before = service.pids()
        stream.request("GET", "/events")
        events = stream.getresponse()
        assert events.readline() == b"data: 1\n"
        is_over = threading.Event()
        failures: list[Exception] = []
        answers: list[int] = []

        def keep_asking(path: str) -> None:
            while not is_over.is_set():
                url = f"http://127.0.0.1:{service.port}{path}"
                try:
                    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
                        answers.append(json.loads(answer.read()))
                except OSError as error:
                    failures.append(error)

        threads = [
            threading.Thread(target=keep_asking, args=(path,))
            for path in ("/pid", "/slow", "/slow")
        ]
        for thread in threads:
            thread.start()
        reloaded = service.gateman("reload")
        # Not IncompleteRead: the end is that of the stream.
        rest = events.read()
        until(lambda: len(written(tmp_path / "ended").split()) == 2)
        is_over.set()
        for thread in threads:
            thread.join(TIMEOUT)
        after = service.pids()
        ended = (tmp_path / "ended").read_text().split()

    assert reloaded.returncode == 0, reloaded.stderr
    assert failures == []
    assert set(answers) & set(after)
    assert rest.endswith(b"data: 1\n\n")
    assert sorted(map(int, ended)) == sorted(before)


# Behind Nginx.

NGINX = """
upstream service {{ server 127.0.0.1:{worker}; keepalive 4; }}
map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
server {{
    listen 127.0.0.1:{port};
    client_max_body_size 50m;
    proxy_request_buffering off;
{location}
}}
"""


def test_behind_nginx(tmp_path: Path) -> None:
    """The page's location: one for all, with connections to the worker that are kept."""
    (location,) = re.findall(r"```nginx\n(.*?)```", PAGE, re.DOTALL)
    port = free_port()
    (tmp_path / "site_asgi.py").write_text(DJANGO)
    with master(BY_NAME, tmp_path) as service:
        text = NGINX.format(
            worker=service.port,
            port=port,
            location=location.replace("http://127.0.0.1:8282", "http://service"),
        )
        folder = tmp_path / "nginx"
        folder.mkdir(mode=0o755)
        with (
            running(nginx_command(folder, text), port=port, log=folder / "error.log"),
            http_to(port, source="127.0.0.7") as web,
        ):
            found = [ask(web, "/who") for _ in range(3)]
            with connect(f"ws://127.0.0.1:{port}/") as client:
                client.send("loaded?")
                loaded = client.recv(TIMEOUT)
                pushed = ask(web, "/push", method="POST", body=b"x" * 900_000)
                assert pushed == (200, b"1")
                received = client.recv(TIMEOUT)
            found.append(ask(web, "/who"))

    assert found == [(200, b"127.0.0.7 http")] * 4
    assert (loaded, pushed, len(received)) == ("True", (200, b"1"), 900_000)


def test_large_bodies_are_streams(tmp_path: Path) -> None:
    """In chunks, as curl sends what it does not know the size of."""
    with master(STREAMS, tmp_path) as service:
        large = tmp_path / "large"
        large.write_bytes(bytes(20_000_000))
        url = f"http://127.0.0.1:{service.port}/count"
        found = [
            curl("-T", str(large), "-X", "POST", *fields, url)
            for fields in ((), ("-H", "Transfer-Encoding: chunked"), ("-H", "Expect: 100-continue"))
        ]

    assert found == ["20000000"] * 3
