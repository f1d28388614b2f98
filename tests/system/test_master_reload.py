"""New code and new certificates under a running service, and its end, with clients coming in."""

import asyncio
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.support.certificates import Authority
from tests.support.deadlines import TIMEOUT
from tests.support.loop import eventually, on_loop
from tests.support.master import (
    BOTH,
    Master,
    descendants,
    echo,
    is_alive,
    master,
    open_to,
    plain,
    until,
)
from tests.support.master import secure as protected
from tests.support.raw import handshake
from tests.support.server import authority
from tests.support.steady_clients import SteadyClients, replaced

RATE = 100  # clients per second


def secure(folder: Path) -> str:
    """Write the script of a wss service, whose certificate is in a folder."""
    context = {"ssl": {"local_cert": f"{folder}/server.pem", "local_pk": f"{folder}/server.key"}}
    return echo("wss://127.0.0.1:0", f"count=2, drain_window=2.0, context={context!r}")


async def in_thread(give: Callable[..., Any], *words: str) -> tuple[int, str]:
    """Give a command without keeping the clients of this test from going on."""
    done = await asyncio.to_thread(give, *words)
    return done.returncode, done.stderr


def connecting(service: Master) -> connect:
    """Connect a client, in whatever way the service is reached."""
    is_secure = "listens on wss://" in service.stderr
    tls = authority().trusting_client() if is_secure else None
    return connect(f"{'wss' if is_secure else 'ws'}://localhost:{service.port}", ssl=tls)


# Reloading.


@pytest.mark.parametrize("is_secure", [False, True], ids=["ws", "wss"])
def test_no_attempt_to_connect_fails_while_reloading(tmp_path: Path, *, is_secure: bool) -> None:
    """Five reloads under up to 100 clients per second: every one of them gets in."""
    authority = Authority()
    authority.issue(tmp_path)
    script = secure(tmp_path) if is_secure else echo(options="count=2, drain_window=2.0")
    with master(script, tmp_path) as service:

        async def run() -> SteadyClients:
            tls = authority.trusting_client() if is_secure else None
            async with SteadyClients(service.port, tls) as steady:
                steady.start(RATE)
                # A client that gets in late may be closed by the drain before it has asked.
                await answered_by(steady, 1)
                for version in range(2, 7):
                    new = script.replace("VERSION = 1", f"VERSION = {version}")
                    service.path.write_text(new)
                    before = steady.attempts.count

                    assert await in_thread(service.command, "reload") == (0, "")
                    assert steady.attempts.count > before
                    await answered_by(steady, version)
            return steady

        attempts = asyncio.run(run()).attempts

        assert attempts.failures == []
        until(lambda: len(service.pids()) == 2)


async def answered_by(steady: SteadyClients, version: int) -> None:
    """Wait until a client is answered by a version of the script, or cannot connect."""
    attempts = steady.attempts
    await eventually(
        lambda: (
            attempts.failures != []
            or (attempts.answers != [] and attempts.answers[-1].split()[1] == str(version))
        )
    )


@BOTH
@pytest.mark.parametrize("words", [["reload"], ["reload", "-g"]])
def test_reload_serves_the_new_code(
    tmp_path: Path, words: list[str], protect: Callable[[str], str]
) -> None:
    """When the command returns, every slot has a new process with it."""
    with master(protect(echo(options="count=2, drain_window=0.2")), tmp_path) as service:
        old = service.pids()
        service.path.write_text(service.path.read_text().replace("VERSION = 1", "VERSION = 2"))
        reloaded = service.command(*words)

        assert (reloaded.returncode, reloaded.stdout) == (0, "reloaded\n")
        until(lambda: not any(map(is_alive, old)))
        assert len(set(service.pids())) == 2
        with open_to(service) as client:
            client.send("hello")
            assert str(client.recv()).split()[1:] == ["2", "hello"]


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_reload_by_signal(tmp_path: Path, number: signal.Signals) -> None:
    """As in Workerman."""
    with master(echo(options="count=2, drain_window=0.2"), tmp_path) as service:
        old = service.pids()
        service.signal(number)
        service.wait_for("INFO reloaded")
        until(lambda: not any(map(is_alive, old)))

        assert len(set(service.pids())) == 2


def test_a_second_reload_follows_the_first(tmp_path: Path) -> None:
    """It loads what has changed since the first one has; the command returns behind its own."""
    seen, gate = tmp_path / "seen", tmp_path / "gate"
    script = echo()
    slow = f"""
@worker.on_worker_start
async def wait(worker):
    import asyncio, pathlib
    pathlib.Path({str(seen)!r}).touch()
    while not pathlib.Path({str(gate)!r}).exists():
        await asyncio.sleep(0.01)

Worker.run_all()
"""
    with master(script, tmp_path) as service, ThreadPoolExecutor(2) as threads:
        service.path.write_text(script.replace("Worker.run_all()", slow))
        first = threads.submit(service.command, "reload")
        until(seen.exists)
        service.path.write_text(script.replace("VERSION = 1", "VERSION = 3"))
        second = threads.submit(service.command, "reload")
        service.wait_for("another reload follows")
        assert not first.done()
        gate.touch()
        assert [one.result().stdout for one in (first, second)] == ["reloaded\n", "reloaded\n"]
        with open_to(service) as client:
            client.send("hello")
            assert str(client.recv()).split()[1:] == ["3", "hello"]


BROKEN = {
    "syntax": ("def (:\n", "could not load the script", "invalid syntax"),
    "import": ("import there_is_none\n", "could not load the script", "ModuleNotFoundError"),
    "configuration": (
        echo(options="count=2, timeouts={'close': -1}"),
        "refused its configuration",
        "timeouts.close=-1 is not a positive number",
    ),
    "address": (
        echo("websocket://127.0.0.1:7000"),
        "refused its configuration",
        "`restart` makes the change",
    ),
    "on_worker_start": (
        echo(options="count=2").replace(
            "Worker.run_all", "worker.on_worker_start = lambda _: 1 / 0\nWorker.run_all"
        ),
        "ended with exit code 1",
        "ZeroDivisionError",
    ),
    "crash": ("import os\nos.abort()\n", "was killed by SIGABRT", "Aborted"),
    "nothing declared": ("", "refused its configuration", "\n    no worker is declared: write"),
    "ended": ("import sys\nsys.exit()\n", "could not load", "ends before it calls Worker.run_all"),
}


def test_the_command_says_what_needs_a_restart(tmp_path: Path) -> None:
    with master(echo(), tmp_path) as service:
        service.path.write_text(echo(options="count=2"))
        done = service.gateman("reload")

    assert (done.returncode, done.stdout) == (0, "reloaded\nchat: count=2 needs a `restart`\n")


@pytest.fixture(params=[plain, protected], ids=["ws", "wss"], scope="module")
def old_version(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Master, Callable[[str], str]]]:
    """A service of two processes, which broken versions do not change."""
    protect = request.param
    with master(protect(echo(options="count=2")), tmp_path_factory.mktemp("old")) as service:
        yield service, protect


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_version_leaves_the_old_one_in_service(
    case: str, old_version: tuple[Master, Callable[[str], str]]
) -> None:
    """The command exits with 1 and says why; nobody is disconnected."""
    script, how, why = BROKEN[case]
    service, protect = old_version

    @on_loop
    async def run() -> None:
        async with connecting(service) as client:
            code, stderr = await in_thread(service.gateman, "reload")

            assert code == 1
            assert how in stderr
            assert why in stderr
            await client.send("still here?")
            assert str(await client.recv()).endswith("1 still here?")

    # Without those that the reload of another case has replaced.
    until(lambda: len(service.pids()) == 2)
    old = service.pids()
    try:
        service.path.write_text(protect(script))
        run()

        assert service.pids() == old
        # Both versions are on the router's bus for a moment.
        assert "two services" not in service.stderr
    finally:
        service.path.write_text(protect(echo(options="count=2")))
    assert service.command("reload").returncode == 0


@on_loop
async def check_drain(service: Master, count: int, window: float) -> None:
    """Connect, have the service drain, and look at when and how it closes which clients."""
    closed: list[tuple[float, int]] = []

    async def stay() -> None:
        async with connecting(service) as client:
            ready.release()
            try:
                await client.recv()
            except ConnectionClosed as error:
                closed.append((time.monotonic(), 0 if error.rcvd is None else error.rcvd.code))

    ready = asyncio.Semaphore(0)
    clients = [asyncio.ensure_future(stay()) for _ in range(count)]
    for _ in clients:
        await ready.acquire()
    begun_at = time.monotonic()
    service.signal(signal.SIGQUIT)
    await asyncio.gather(*clients)

    assert {code for _, code in closed} == {1012}
    instants = sorted(at - begun_at for at, _ in closed)
    # Each of two processes rounds up. Late, a busy machine may be: that they are closed evenly is
    # tested where the time is the test's.
    for closed_count, at in enumerate(instants, 1):
        assert closed_count <= count * at / window + 2


@BOTH
def test_a_drain_parts_from_clients_bit_by_bit(
    tmp_path: Path, protect: Callable[[str], str]
) -> None:
    """Closed with 1012 over ``drain_window``, they do not all come back at once."""
    with master(protect(echo(options="count=2, drain_window=2.0")), tmp_path) as service:
        check_drain(service, 20, 2.0)

        assert service.wait() == 0


# Stopping gracefully.


@pytest.mark.parametrize(
    "where", ["websocket://127.0.0.1:0", "websocket+unix://{folder}/chat.sock"]
)
def test_health_checks_are_told_of_a_drain(tmp_path: Path, where: str) -> None:
    """They get 503 while anything of the worker is there; nobody else gets in, or waits in vain."""
    options = "count=2, drain_window=8.0, timeouts={'close': 8.0}"
    with master(echo(where.format(folder=tmp_path), options), tmp_path) as service:
        address = ("127.0.0.1", service.port) if service.port else str(tmp_path / "chat.sock")
        assert _status(address, HEALTH) == b"200"
        with _connected(address) as client:
            client.sendall(handshake())
            assert client.recv(4096).startswith(b"HTTP/1.1 101 ")
            service.signal(signal.SIGQUIT)
            until(lambda: _status(address, HEALTH) == b"503")
            # The process without a client has ended meanwhile, and the other answers for it.
            until(lambda: len(descendants(service.pid)) == 2)
            assert {_status(address, HEALTH) for _ in range(8)} == {b"503"}
            assert _status(address, handshake()) == b"503"
        # It ends with the last client.
        assert service.wait() == 0


HEALTH = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"


def _connected(address: tuple[str, int] | str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    sock.settimeout(TIMEOUT)
    sock.connect(address)
    return sock


def _status(address: tuple[str, int] | str, request: bytes) -> bytes:
    """Ask, and give the status of the answer; each time over another connection."""
    with _connected(address) as client:
        client.sendall(request)
        return client.recv(4096).split()[1]


def test_a_graceful_stop_ends_when_no_client_is_left(tmp_path: Path) -> None:
    """Nobody waits for a window that has nothing in it."""
    with master(echo(options="count=2, drain_window=60.0"), tmp_path) as service:
        stopped = service.command("stop", "-g")

        assert (stopped.returncode, stopped.stdout) == (0, "stopped\n")
        assert service.wait() == 0


@BOTH
def test_a_drain_becomes_a_stop(tmp_path: Path, protect: Callable[[str], str]) -> None:
    """Who does not want to wait any longer need not."""

    @on_loop
    async def run(service: Master) -> None:
        async with connecting(service), connecting(service) as client:
            service.signal(signal.SIGQUIT)
            await asyncio.to_thread(service.wait_for, "draining")
            service.signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed, match="1001"):
                await client.recv()

    with master(protect(echo(options="drain_window=60.0")), tmp_path) as service:
        run(service)

        assert service.wait() == 0


# Certificates.


def test_a_renewed_certificate_is_taken_up_under_load(tmp_path: Path) -> None:
    """Within 10 s every new handshake has it, in all processes; nobody is disconnected."""
    authority = Authority()
    first = authority.issue(tmp_path)
    old = first.der
    folder = tmp_path / "new"
    folder.mkdir()
    second = authority.issue(folder)

    async def run(service: Master) -> None:
        tls = authority.trusting_client()
        url = f"wss://localhost:{service.port}"
        async with (
            connect(url, ssl=tls) as client,
            SteadyClients(service.port, tls) as steady,
        ):
            steady.start(50)
            await answered_by(steady, 1)
            replaced(first.certificate, second.certificate.read_bytes())
            replaced(first.key, second.key.read_bytes())
            await asyncio.to_thread(_wait_for_lines, service, "were read anew", 2)

            late = SteadyClients(service.port, tls)
            late.start(50)
            await eventually(lambda: late.attempts.count >= 20)
            await late.end()
            assert late.attempts.failures == []
            assert late.attempts.certificates == [second.der]
            await client.send("still here?")
            assert str(await client.recv()).endswith("1 still here?")
        assert steady.attempts.failures == []
        assert steady.attempts.certificates == [old, second.der]

    with master(secure(tmp_path), tmp_path) as service:
        asyncio.run(run(service))


def _wait_for_lines(service: Master, text: str, count: int) -> None:
    until(lambda: service.stderr.count(text) >= count)


def test_a_broken_certificate_is_not_taken_up(tmp_path: Path) -> None:
    """The old one stays, the log says why, and the next good one is taken up."""
    authority = Authority()
    issued = authority.issue(tmp_path)
    good = issued.certificate.read_bytes()
    tls = authority.trusting_client()
    with master(secure(tmp_path), tmp_path) as service:
        replaced(issued.certificate, b"nonsense")
        service.signal(signal.SIGHUP)
        _wait_for_lines(service, "the old certificate stays in service", 2)

        assert _handshake(service.port, tls)
        replaced(issued.certificate, good)
        service.signal(signal.SIGHUP)
        _wait_for_lines(service, "were read anew", 2)
        assert _handshake(service.port, tls)


def _handshake(port: int, tls: ssl.SSLContext) -> bytes | None:
    with (
        socket.create_connection(("127.0.0.1", port), 10) as sock,
        tls.wrap_socket(sock, server_hostname="localhost") as wrapped,
    ):
        return wrapped.getpeercert(binary_form=True)
