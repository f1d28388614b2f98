"""``examples/notifications``: users are told what web applications have to say to them."""

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.support.deadlines import TIMEOUT
from tests.support.master import Master, master
from tests.support.ports import free_port
from tests.support.proxies import running

FOLDER = Path(__file__).parents[2] / "examples" / "notifications"


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Master]:
    """Run the service, on a free port, and name its bus as its text says."""
    script = (FOLDER / "server.py").read_text().replace("127.0.0.1:8282", "127.0.0.1:0")
    with master(script, tmp_path) as started:
        monkeypatch.setenv("GATEMAN_BUS", started.gateman("bus").stdout.strip())
        yield started


def http(url: str, *, data: bytes | None = None) -> tuple[int, str]:
    """Ask a web application; give the status and the body."""
    try:
        with urllib.request.urlopen(url, data, timeout=TIMEOUT) as answer:  # noqa: S310 - http
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def command(application: str, port: int) -> list[str]:
    """Write the command that serves a web application."""
    if application == "fastapi":
        where = ["--app-dir", str(FOLDER), "--port", str(port)]
        return [sys.executable, "-m", "uvicorn", *where, "with_fastapi:application"]
    return [sys.executable, str(FOLDER / "with_django.py"), "runserver", "--noreload", str(port)]


@pytest.mark.parametrize("application", ["fastapi", "django"])
def test_a_user_is_told(service: Master, tmp_path: Path, application: str) -> None:
    """On all devices, in whichever process they are, and nobody else is."""
    port = free_port()
    ws = f"ws://127.0.0.1:{service.port}/?token=secret-of"
    users = f"http://127.0.0.1:{port}/users"
    with (
        running(command(application, port), port=port, log=tmp_path / "web.log"),
        connect(f"{ws}-ann") as phone,
        connect(f"{ws}-ann") as laptop,
        connect(f"{ws}-bob") as bob,
    ):
        for user, number in (("ann", 7), ("bob", 8), ("nobody", 9)):
            assert http(f"{users}/{user}/orders/{number}/ready", data=b"") == (204, "")
        heard = [client.recv(TIMEOUT) for client in (phone, laptop, bob)]
        online = [http(f"{users}/{user}/online") for user in ("ann", "nobody")]

    assert heard == ["Order 7 is ready.", "Order 7 is ready.", "Order 8 is ready."]
    assert [(status, json.loads(body)) for status, body in online] == [(200, True), (200, False)]


def test_requests_without_a_valid_token_are_refused(service: Master) -> None:
    """Who has no token is nobody's device."""
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{service.port}/?token=guess")

    assert refused.value.response.status_code == 401


def test_websockets_on_the_loop_of_a_fastapi_application(tmp_path: Path) -> None:
    """examples/own_loop.py: a request reaches the clients of the worker in the same process."""
    port, ws_port = free_port(), free_port()
    program = (FOLDER.parent / "own_loop.py").read_text()
    (tmp_path / "own_loop.py").write_text(program.replace(":8282", f":{ws_port}"))
    where = ["--app-dir", str(tmp_path), "--port", str(port)]
    uvicorn = [sys.executable, "-m", "uvicorn", *where, "own_loop:application"]
    with (
        running(uvicorn, port=port, log=tmp_path / "web.log"),
        connect(f"ws://127.0.0.1:{ws_port}/") as client,
    ):
        answer = http(f"http://127.0.0.1:{port}/news?text=hello", data=b"")

        assert answer == (200, "1")
        assert client.recv(TIMEOUT) == "hello"
