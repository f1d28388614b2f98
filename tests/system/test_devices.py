"""examples/devices: real devices, pages and a mini program in one group, in one service."""

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

import pytest
import trustme
from websockets.sync.client import connect

from tests.support.certificates import for_threads
from tests.support.deadlines import TIMEOUT
from tests.support.ports import free_port
from tests.support.service import DOMAIN, Service, serve

from .test_clients import WECHAT, program, started

DEVICES = Path(__file__).parents[2] / "examples" / "devices"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@contextmanager
def device(port: int, hello: str) -> Iterator[IO[str]]:
    """Connect a device, which says who it is."""
    with closing(socket.create_connection(("127.0.0.1", port), TIMEOUT)) as connection:
        stream = connection.makefile("rw", newline="\n")
        print(hello, file=stream, flush=True)
        yield stream


@pytest.fixture
def service(authority: trustme.CA, tmp_path: Path) -> Iterator[tuple[Service, int]]:
    """Run the example with TLS for its pages, as the mini program needs."""
    port = free_port()
    script = (DEVICES / "server.py").read_text()
    for old, new in {
        "0.0.0.0:8283": f"127.0.0.1:{port}",
        'Worker("websocket://0.0.0.0:8282", name="pages")': (
            'Worker(sys.argv[1], json.loads(sys.argv[2]), name="pages")'
        ),
        "import hmac": "import hmac, json, sys",
    }.items():
        assert script.count(old) == 1
        script = script.replace(old, new)
    with serve(script, tmp_path, authority=authority) as running:
        yield running, port


def test_devices_pages_and_a_mini_program_share_a_group(
    service: tuple[Service, int], tmp_path: Path
) -> None:
    running, port = service
    file = tmp_path / "devices.js"
    mini_program = (DEVICES / "mini_program.js").read_text()
    file.write_text(mini_program.replace("wss://example.com/wss", f"wss://{DOMAIN}:{running.port}"))
    node, _ = program("wechat.js")
    tls = for_threads(ssl.create_default_context(cafile=running.authority))
    with (
        connect(f"wss://localhost:{running.port}/", ssl=tls) as page,
        started([node, str(WECHAT), str(file), DOMAIN], running.authority) as mini,
        device(port, "thermometer secret-1") as thermometer,
        device(port, "lamp secret-2") as lamp,
    ):
        assert mini.stdin is not None
        assert mini.stdout is not None
        print("onShow", file=mini.stdin, flush=True)
        assert page.recv(TIMEOUT) == "welcome"
        assert [thermometer.readline(), lamp.readline()] == ["welcome\n"] * 2
        assert json.loads(mini.stdout.readline())["data"]["messages"] == ["welcome"]
        # Again, until each process knows of the members in the others.
        print("21.5", file=thermometer, flush=True)
        assert page.recv(TIMEOUT) == "thermometer 21.5"
        assert [thermometer.readline(), lamp.readline()] == ["thermometer 21.5\n"] * 2
        shown = json.loads(mini.stdout.readline())["data"]["messages"]
        assert shown == ["welcome", "thermometer 21.5"]
        print("turnOn", file=mini.stdin, flush=True)
        assert lamp.readline() == "on\n"
        page.send("lamp off\nthermometer forged")
        page.send("lamp off")
        assert lamp.readline() == "off\n"


def test_who_is_not_a_device_is_told_so_and_closed(service: tuple[Service, int]) -> None:
    _, port = service
    for hello in ("lamp secret-1", "toaster -", "toaster"):
        with device(port, hello) as stranger:
            assert stranger.read() == "not a device\n"
