"""
The attack list beyond the entrance's rows: peers that go silent, clocks, floods of log lines.

And the classes of vulnerability that other servers had at their entrance, as work that is
counted or compared, so that a slow machine does not matter.
"""

import ast
import asyncio
import contextlib
import gc
import re
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gateman
from gateman import Connection, Deflate, Limits, Request
from gateman.errors import HandshakeError
from gateman.http.client_address import TrustedProxies, client_address
from gateman.log import SAMPLE_INTERVAL
from gateman.net.accepted_socket import PeerInfo
from gateman.net.handshake import Handshake
from gateman.request import check_handshake, parse_request, tokens
from gateman.websocket.deflate import negotiate
from tests.support.counted_server import admission, handshake_config, serve_counted
from tests.support.deadlines import TIMEOUT
from tests.support.loop import on_loop, turns, until_idle
from tests.support.preambles import arriving, v1, v2
from tests.support.raw import KEY, TEXT, frame, handshake, request
from tests.support.server import Journal, child, ssl_options

both = pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])

# Rows 43 and 44: who is no longer there.


@both
@on_loop
async def test_peer_that_answers_no_ping_is_cut_off(*, secure: bool) -> None:
    """Row 43: its TCP connection may look well for hours; it is aborted, not closed."""
    journal = Journal()
    timeouts = {"ping_interval": 0.2, "pong": 0.2}
    async with serve_counted(secure=secure, timeouts=timeouts, **journal.callbacks()) as server:
        client = await server.open()
        # Neither bytes nor pings are the sign of life that a pong is.
        client.push(frame(TEXT, b"a" * 100)[:50])
        await journal.until("on_close")

        assert journal.of("on_close") == [(1006, "no answer to a ping within 0.2 s")]
        await client.read_end()


@both
@on_loop
async def test_close_does_not_wait_for_a_client_that_does_not_read(*, secure: bool) -> None:
    """Row 44: what is unsent has so long to be read, and then the connection is aborted."""
    journal = Journal()
    async with serve_counted(
        secure=secure, timeouts={"close": 0.3}, **journal.callbacks()
    ) as server:
        client = await server.open(receive_buffer=4096)
        client.stop_reading()
        (connection,) = journal.connections
        while connection.send(bytes(100_000)):
            pass
        loop = asyncio.get_running_loop()
        begun_at = loop.time()
        connection.close(1000)
        await journal.until("on_close")

        assert loop.time() - begun_at > 0.2
        assert server.service.present_count == 0


# Row 58: clocks.


def test_no_wall_clock_decides_anything() -> None:
    """Row 58: what serves connections asks the loop for the time; dates are in certificates."""
    package = Path(gateman.__file__).parent
    with_dates = {
        f"{folder}/{path.name}"
        for folder in ("http", "net", "runtime", "tls", "websocket")
        for path in package.joinpath(folder).glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Attribute) and ast.unparse(node) in {"time.time", "time.time_ns"})
        or (isinstance(node, ast.ImportFrom) and node.module in {"time", "datetime"})
    }

    assert with_dates == {
        # The field Date of an application's responses.
        "net/uvicorn_adapter.py",
        # It passes the date on, for the certificates of its workers.
        "runtime/embedding.py",
        # When tokens expire.
        "runtime/client_tokens.py",
        # Cron.
        "runtime/jobs.py",
        # How long callbacks take, by `perf_counter`.
        "runtime/measurements.py",
        "tls/certificate_findings.py",
        "tls/contexts.py",
        "tls/reload.py",
    }


# Row 59: logs.

SECRET = "eyJhbGciOiJub25lIn0"
EVIL = "\x1b[31m\x9b31m\u202e"


@both
@on_loop
async def test_flood_writes_a_line_per_cause(*, secure: bool) -> None:
    """Row 59: whatever thousands do, nothing of a token or a control sequence is in the log."""

    def decide(connection: Connection, asked: Request) -> None:
        if asked.path == "/subprotocol":
            connection.subprotocol = "none-of-these"

    token = f"token={SECRET}"
    upgrade = ("Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {KEY}")
    floods = [
        handshake(f"/?{token}", (f"Origin: https://{EVIL}.example",)),
        handshake(f"/?{token}", ("X-Forwarded-For: 192.0.2.1", "X-Real-IP: 192.0.2.2")),
        handshake(f"/subprotocol?{token}", ("Sec-WebSocket-Protocol: a, b",)),
        handshake(f"/?{token}", (f"Sec-WebSocket-Protocol: {EVIL}",)),
        handshake(f"/?{token}", (f"Authorization: Bearer {SECRET}", f"Cookie: {token}")),
        handshake(f"/?{token}", ("Transfer-Encoding: chunked",)),
        request(f"GET /?{token} HTTP/1.1", "Host: a", "Connection: upgrade", *upgrade[1:]),
        request(f"GET /?{token} HTTP/1.1", "Host: a", *upgrade),
        request(f"POST /?{token} HTTP/1.1", "Host: a"),
        request(f"GET /{token}" + "a" * 20_000 + " HTTP/1.1"),
        f"\x1b]0;{token}\x07\r\n\r\n".encode(),
        handshake(f"/?{token}") + frame(TEXT, SECRET.encode(), rsv=7),
        handshake(f"/?{token}") + frame(TEXT, b"\xff" + SECRET.encode()),
    ]
    plain = [f"GET /?{token} HTTP/1.1\r\n\r\n".encode(), v1() + handshake(), v2(), b"\x16\x03\x01"]
    async with serve_counted(
        secure=secure,
        allowed_origins=["https://example.com"],
        on_websocket_connect=decide,
    ) as server:
        begun_at = time.monotonic()
        for data in floods * 20:
            async with arriving(server, data if not secure else b"") as client:
                if secure:
                    client.push(data)
                await turns(2)
        for data in plain * 20:
            async with arriving(server, data, tls=False) as client:
                client.push(bytes(300))
                await turns(2)
        await until_idle()
        lines = server.lines(0)

        assert [line for line in lines if SECRET in line] == []
        assert [line for line in lines if re.search(r"[^\x20-\x7e]", line)] == []
        # One per cause and interval, however often each happened.
        interval_count = 1 + (time.monotonic() - begun_at) // SAMPLE_INTERVAL
        causes = Counter(re.sub(r" \(and .*|<Connection .*?>", "", line) for line in lines)
        assert len(causes) < 16
        assert max(causes.values()) <= interval_count
        assert sum(server.service.counts.values()) > 200


@on_loop
async def test_words_of_a_peer_are_escaped_in_a_line() -> None:
    """Row 59: an origin is worth a look, and might be a terminal's command."""
    async with serve_counted(allowed_origins=[]) as server:
        evil = b"https://\xc2\x9b31m\xe2\x80\xae\xff" + b"a" * 1000
        head = handshake().replace(b"\r\n\r\n", b"\r\nOrigin: " + evil + b"\r\n\r\n")
        assert (await server.ask(head)).status == 403
        (line,) = server.lines()

        assert r"'https://\x9b31m\u202e\udcffaaaa" in line
        assert len(line) < 400


NOISY = """\
import json, logging, sys

from gateman import Worker

worker = Worker("websocket://127.0.0.1:0", {"ssl": json.loads(sys.argv[1])}, transport="ssl")

@worker.on_worker_start
def start(_worker):
    for _ in range(50):
        logging.getLogger("aiofastnet").error("the library has an error to tell")
        logging.getLogger("aiofastnet").warning("the library warns")

@worker.on_message
def answer(connection, message):
    connection.send(message)

Worker.run_all()
"""


def test_process_writes_a_line_per_cause(tmp_path: Path) -> None:
    """Row 59: neither failed TLS handshakes nor the engine's library fill the log."""
    script = NOISY.replace("json.loads(sys.argv[1])", repr(ssl_options()))
    with child(script, tmp_path) as process:
        address = ("127.0.0.1", process.port)
        stranger = ssl.create_default_context()
        for _ in range(20):
            with (
                socket.create_connection(address, timeout=TIMEOUT) as plain,
                pytest.raises(ssl.SSLCertVerificationError),
            ):
                stranger.wrap_socket(plain, server_hostname="localhost")
            for data in (b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", b"garbage", b"GET /\r\n\r\n"):
                with socket.create_connection(address, timeout=TIMEOUT) as plain:
                    plain.sendall(data)
                    # The end may be a reset: not all of it was worth reading.
                    with contextlib.suppress(ConnectionError):
                        while plain.recv(1024):
                            pass
        process.wait_for("the client does not trust the authority")
        process.wait_for("a TLS handshake failed: length too short")

        written = process.stderr
        for text in (
            "the library has an error to tell",
            "the library warns",
            "the client does not trust the authority",
            "length too short",
            "a client spoke plain HTTP",
        ):
            assert written.count(text) == 1, text
        assert "Traceback" not in written
        assert "SSL" not in written


# Classes of vulnerability.


def cpu_of(work: Callable[[], object]) -> float:
    """The least time of a few, in seconds of this thread's processor."""
    best = float("inf")
    gc.disable()
    try:
        for _ in range(7):
            begun = time.thread_time()
            work()
            best = min(best, time.thread_time() - begun)
    finally:
        gc.enable()
    return best


def check_linear(work: Callable[[int], Callable[[], object]], size: int) -> None:
    """See that eight times as much costs nothing like sixty-four times as much."""
    once, eight_times = cpu_of(work(size)), cpu_of(work(8 * size))

    assert eight_times < 24 * max(once, 0.0005)


def judge(head: bytes) -> None:
    """Do all that is done with a handshake before the application is asked, without limits."""
    try:
        asked = parse_request(head, max_header_count=10**9)
        check_handshake(asked)
        list(tokens(asked, "Sec-WebSocket-Protocol"))
        negotiate(asked.headers.getall("Sec-WebSocket-Extensions", []), Deflate())
        repr((asked.cookies, asked.query, asked.path, asked.origin))
        client_address(("127.0.0.1", 1), asked.headers, TrustedProxies())
    except HandshakeError:
        pass


HOSTILE: dict[str, Callable[[int], bytes]] = {
    "many fields (CVE-2024-37890)": lambda n: handshake(headers=tuple(["A: b"] * n)),
    "many names": lambda n: handshake(headers=tuple(f"A{k}: b" for k in range(n))),
    "many upgrades": lambda n: handshake(headers=tuple(["Upgrade: websocket"] * n)),
    "blanks in subprotocols (CVE-2021-32640)": lambda n: handshake(
        headers=("Sec-WebSocket-Protocol: a" + " " * 4 * n + "b",)
    ),
    "commas in subprotocols": lambda n: handshake(
        headers=("Sec-WebSocket-Protocol: " + "," * 4 * n,)
    ),
    "many subprotocols": lambda n: handshake(
        headers=("Sec-WebSocket-Protocol: " + ", ".join(f"a{k}" for k in range(n)),)
    ),
    "commas in Connection": lambda n: handshake().replace(
        b"Connection: ", b"Connection: " + b" ," * 2 * n
    ),
    "an open quote in extensions (CVE-2020-7662)": lambda n: handshake(
        headers=('Sec-WebSocket-Extensions: a;b="' + "\\" * 4 * n,)
    ),
    "quoted pairs in extensions": lambda n: handshake(
        headers=('Sec-WebSocket-Extensions: a;b="' + "\\c" * 2 * n + '"',)
    ),
    "many cookies": lambda n: handshake(headers=("Cookie: " + "a=b; " * n,)),
    "many parameters": lambda n: handshake("/?" + "a=b&" * n),
    "percents in the path": lambda n: handshake("/" + "%C3" * n),
    "many forwarded addresses": lambda n: handshake(
        headers=("X-Forwarded-For: " + "127.0.0.1," * n,)
    ),
}  # fmt: skip


@pytest.mark.parametrize("make", HOSTILE.values(), ids=list(HOSTILE))
def test_hostile_heads_cost_what_their_bytes_cost(make: Callable[[int], bytes]) -> None:
    """Nothing in a head is looked at again and again, whatever limits an operator sets."""

    def work(size: int) -> Callable[[], object]:
        head = make(size)
        return lambda: judge(head)

    check_linear(work, 4000)


class Watched(bytearray):
    """A buffer that counts the bytes that are searched in it."""

    searched = 0

    def find(self, *args: Any) -> int:
        """Find, and count."""
        start, *end = args[1:]
        self.searched += min([len(self), *end]) - start
        return super().find(*args)


@on_loop
async def test_head_byte_by_byte_is_searched_once() -> None:
    """Bytes that were looked at are not looked at again with each that comes (CVE-2023-43669)."""
    size = 15_000
    async with serve_counted() as server:
        config = handshake_config(server)
        permit, _ = admission(server).admit()
        loop = asyncio.get_running_loop()
        front = Handshake(
            config, PeerInfo(loop.time() + 10, permit, ("127.0.0.1", 1), "127.0.0.1:80")
        )
        front._received = buffer = Watched()  # noqa: SLF001 - what is counted
        front.connection_made(asyncio.Transport())
        for byte in request("GET / HTTP/1.1", "Host: a", "A: " + "b" * size)[:size]:
            front.get_buffer(-1)[0] = byte
            front.buffer_updated(1)
        front.connection_lost(None)

        assert len(buffer) == size
        # Each byte twice for each of the two ends of a head, and the three before it.
        assert buffer.searched < 10 * size


@both
@on_loop
async def test_hostile_heads_end_one_connection(*, secure: bool) -> None:
    """The same over the wire, within the limits: an answer, and others are served."""
    async with serve_counted(secure=secure, compression=Deflate()) as server:
        for make in HOSTILE.values():
            client = await server.connect()
            await client.send(make(1500))
            assert (await client.read(12))[:9] == b"HTTP/1.1 "
        client = await server.connect()
        await client.send(handshake())
        assert (await client.read_head()).status == 101


@both
@pytest.mark.parametrize(
    "offered", [b"\xff", b"\xc3\xa9", b"a b", b"a\tb", b"a;b", b'"a"', b"a, \xc2\x9b31m", b"a/b"]
)
@on_loop
async def test_subprotocols_that_are_no_tokens_are_refused(offered: bytes, *, secure: bool) -> None:
    """An application may well choose the last that is offered, and it has to be written."""

    def choose(connection: Connection, asked: Request) -> None:
        connection.subprotocol = asked.subprotocols[-1]

    async with serve_counted(secure=secure, on_websocket_connect=choose) as server:
        line = b"\r\nSec-WebSocket-Protocol: " + offered
        answer = await server.ask(handshake().replace(b"\r\n\r\n", line + b"\r\n\r\n"))

        assert answer.status == 400
        assert answer.body == b"Sec-WebSocket-Protocol is not a list of tokens.\n"
        assert server.lines() == [
            "worker: a request from 127.0.0.1 was refused with 400: Sec-WebSocket-Protocol is not a"
            " list of tokens."
        ]


@on_loop
async def test_a_picows_transport_that_does_not_start_fails_one_connection() -> None:
    """A size that no engine can count up to ends a connection in order, and counts it out."""
    journal = Journal()
    limits = Limits()
    # What the options refuse by now; something else may come to be too large.
    object.__setattr__(limits, "max_message_size", 10**30)
    async with serve_counted(limits=limits, **journal.callbacks()) as server:
        for _ in range(2):
            client = await server.connect()
            await client.send(handshake())
            assert (await client.read_end())[0] == b""

        await journal.until("on_close", 1006, "", count=2)
        assert journal.of("on_open") == []
        (line,) = server.lines()
        assert line.startswith("a connection could not be given to picows <- Overflow")
