"""The probes themselves: what they cost a server, and how long they take at most."""

import asyncio
import contextlib
import ssl
import time
from pathlib import Path

import pytest

from gateman.doctor.network.connection import is_own_address
from gateman.doctor.network.observations import Reach, Resolution
from gateman.doctor.network.probes import look
from gateman.doctor.network.resolver import look_up
from gateman.doctor.network.url import parse
from gateman.doctor.target import Settings
from gateman.errors import UsageMistake
from tests.support.deadlines import TIMEOUT
from tests.support.looked_at import impostor, write
from tests.support.loop import on_loop
from tests.support.made_certificates import make
from tests.support.ports import free_port

MADE = make("a.test")


def looked(url: str, **settings: object) -> object:
    return asyncio.run(look(parse(url), Settings(**settings), lambda _: None))  # type: ignore[arg-type]


def test_a_look_takes_few_connections(tmp_path: Path) -> None:
    """And never two at a time: a server may allow one only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*write(tmp_path, "server", key=MADE))
    requests: list[bytes] = []
    open_now, most, total = 0, 0, 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now, most, total
        open_now, total = open_now + 1, total + 1
        most = max(most, open_now)
        with contextlib.suppress(OSError):
            request = await reader.read(1 << 16)
            if request:
                requests.append(request)
                writer.write(b"HTTP/1.1 426 x\r\nContent-Length: 0\r\n\r\n")
                await reader.read()
        open_now -= 1
        writer.close()

    with impostor(serve, context=context) as port:
        url = f"wss://a.test:{port}/chat?token=1"
        looked(url, address="127.0.0.1", ca_file=tmp_path / "server.pem", headers=(("A", "b"),))

    assert (most, total) == (1, 5)
    assert requests == [
        f"GET /chat?token=1 HTTP/1.1\r\nHost: a.test:{port}\r\nUser-Agent: gateman-doctor\r\n"
        "Accept: */*\r\nConnection: close\r\n\r\n".encode()
    ]


def test_without_tls_the_path_is_not_told() -> None:
    """It may hold a token, and wss:// promised to encrypt it."""
    said = b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal said
        with contextlib.suppress(OSError):
            data = await reader.read(1 << 16)
            said += data if data.startswith(b"GET") else b""
        writer.close()

    with impostor(serve) as port:
        looked(f"wss://a.test:{port}/chat?token=1", address="127.0.0.1")

    assert said.startswith(b"GET / HTTP/1.1\r\n")
    assert b"token" not in said


def test_a_server_that_hangs_does_not_hold_up_the_look() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read(1)
            await asyncio.sleep(600)
        writer.close()

    begun_at = time.monotonic()
    with impostor(serve) as port:
        looked(f"wss://a.test:{port}/", address="127.0.0.1", timeout=2)

    assert time.monotonic() - begun_at < TIMEOUT


@on_loop
async def test_what_is_seen_of_a_closed_port() -> None:
    port = free_port()
    seen = await look(parse(f"wss://127.0.0.1:{port}/"), Settings(), lambda _: None)

    (address,) = seen.addresses
    assert (address.reach, address.evidence) == (Reach.REFUSED, "Connection refused")
    assert (seen.lookups, seen.usable) == ((), ())


@on_loop
async def test_progress_is_told() -> None:
    told: list[str] = []
    port = free_port()
    await look(parse(f"ws://localhost:{port}/"), Settings(), told.append)

    assert told[0] == "resolving localhost"
    assert set(told[1:]) == {f"connecting to localhost port {port}"}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (Settings(address="a.test"), "--address a.test is not an IP address"),
        (
            Settings(ca_file=Path("/nowhere")),
            "--ca /nowhere cannot be used: No such file or directory",
        ),
        (
            Settings(ca_file=Path("/dev/null")),
            "--ca /dev/null cannot be used: it holds no certificate in PEM form",
        ),
    ],
)
@on_loop
async def test_what_cannot_be_used(settings: Settings, sentence: str) -> None:
    with pytest.raises(UsageMistake) as caught:
        await look(parse("wss://a.test/"), settings, lambda _: None)

    assert str(caught.value) == sentence


@on_loop
async def test_the_resolver() -> None:
    found = await look_up("localhost", "A", timeout=30)
    impossible = await look_up("a" * 64 + ".test", "A", timeout=30)

    assert (found.resolution, found.addresses) == (Resolution.FOUND, ("127.0.0.1",))
    assert impossible.resolution is Resolution.FAILED


def test_addresses_of_this_machine_can_be_bound() -> None:
    assert is_own_address("127.0.0.1")
    assert not is_own_address("192.0.2.1")
    assert not is_own_address("2001:db8::1")
