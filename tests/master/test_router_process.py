"""Tests of :mod:`gateman.master.router_process`."""

import os
import pwd
import signal
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateman import Worker
from gateman.bus.local import local_bus
from gateman.bus.router_wire import HELLO, HistoryReport
from gateman.config.service import ServiceOptions
from gateman.errors import ConfigError
from gateman.history.base import HistoryLimits
from gateman.master import privileges
from gateman.master.plan import plan
from gateman.master.privileges import Identity
from gateman.master.router_process import RouterProcess, router_for
from tests.support.deadlines import TIMEOUT
from tests.support.loop import eventually, on_loop
from tests.support.master import command_of, descendants, echo, is_alive, master, until

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")


@contextmanager
def made(folder: Path, *identities: Identity) -> Iterator[RouterProcess]:
    """Make a router, and end it behind the block."""
    router = RouterProcess(folder / "a.bus", identities)
    try:
        yield router
    finally:
        router.close()


def greeting(path: Path) -> bytes:
    """Connect as a process does, and read the router's greeting."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect(str(path))
        return sock.recv(100)


def process_of(router: RouterProcess) -> int:
    """Find the process of the only router that this process has."""
    assert router.due_at is None
    (pid,) = (pid for pid in descendants(os.getpid()) if "--fd" in command_of(pid))
    return pid


def test_it_is_started_when_due(tmp_path: Path) -> None:
    """A process that connects before the router runs waits for its greeting."""
    with made(tmp_path) as router:
        assert router.due_at == 0.0
        router.tick(time.monotonic())

        assert greeting(router.path) == HELLO
        assert router.due_at is None


def test_its_socket_is_its_user_s_only(tmp_path: Path) -> None:
    """No other user may connect."""
    with made(tmp_path) as router:
        found = router.path.stat()

        assert stat.S_IMODE(found.st_mode) == 0o600
        assert found.st_uid == os.getuid()


def test_one_that_was_killed_is_replaced_and_not_in_a_loop(tmp_path: Path) -> None:
    """The first time at once, the second time after half a second."""
    with made(tmp_path) as router:
        router.tick(time.monotonic())
        for pause in (0.0, 0.5):
            assert greeting(router.path) == HELLO
            os.kill(process_of(router), signal.SIGKILL)
            now = until(lambda: _reaped_at(router))
            assert router.due_at == now + pause

            router.tick(now + pause - 0.001)
            assert router.due_at == now + pause
            router.tick(now + pause)
            assert router.due_at is None


def _reaped_at(router: RouterProcess) -> float | None:
    now = time.monotonic()
    router.reap(now)
    return now if router.due_at is not None else None


def test_nothing_is_left_of_it(tmp_path: Path) -> None:
    """Neither its process nor its socket."""
    with made(tmp_path) as router:
        router.tick(time.monotonic())
        assert greeting(router.path) == HELLO
        pid = process_of(router)

    assert not is_alive(pid)
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_a_killed_master_do_not_block_the_next(tmp_path: Path) -> None:
    """Its socket is replaced."""
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(tmp_path / "a.bus"))
        with made(tmp_path) as router:
            router.tick(time.monotonic())

            assert greeting(router.path) == HELLO


def test_it_ends_with_a_master_that_is_killed(tmp_path: Path) -> None:
    """It would keep memory for no process."""
    with master(echo(), tmp_path) as service:
        (pid,) = (one for one in descendants(service.pid) if "--fd" in command_of(one))
        service.signal(signal.SIGKILL)

        until(lambda: not is_alive(pid))


def test_a_service_outlives_its_router(tmp_path: Path) -> None:
    """The processes stay, and another router comes."""
    with master(echo(), tmp_path) as service:
        pids = service.pids()
        (first,) = (one for one in descendants(service.pid) if "--fd" in command_of(one))
        os.kill(first, signal.SIGKILL)
        until(
            lambda: [
                one
                for one in descendants(service.pid)
                if one != first and "--fd" in command_of(one)
            ]
        )

        assert service.pids() == pids


def test_a_service_serves_without_a_bus(tmp_path: Path) -> None:
    """If the router cannot run, the log says so, and clients are served."""
    options = "count=2, bus='nats://127.0.0.1:1?name=test'"
    with master(echo(options=options), tmp_path) as service:
        assert len(service.pids()) == 2
        service.wait_for("the bus nats://127.0.0.1:1?name=test is still away")


@needs_root
def test_root_is_given_up(tmp_path: Path) -> None:
    """It becomes the workers' user, also where that user may not read this package."""
    nobody = privileges.find("nobody", None)
    assert nobody is not None
    with made(tmp_path, nobody) as router:
        found = router.path.stat()
        assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (nobody.uid, 0o600)

        router.tick(time.monotonic())
        assert greeting(router.path) == HELLO
        pid = process_of(router)
        status = Path(f"/proc/{pid}/status").read_text()
        assert f"Uid:\t{nobody.uid}\t{nobody.uid}\t{nobody.uid}\t{nobody.uid}" in status


@needs_root
def test_several_users_are_served_and_no_others(tmp_path: Path) -> None:
    """Every user may connect to the socket, and the router checks the user."""
    users = [privileges.find(name, None) for name in ("nobody", "daemon")]
    identities = [one for one in users if one is not None]
    # The folder of a test is root's.
    tmp_path.chmod(0o711)
    with made(tmp_path, *identities) as router:
        assert stat.S_IMODE(router.path.stat().st_mode) == 0o666
        router.tick(time.monotonic())
        for name, answer in (("nobody", HELLO), ("daemon", HELLO), ("games", b"")):
            assert _greeting_of(pwd.getpwnam(name).pw_uid, router) == answer


def _greeting_of(uid: int, router: RouterProcess) -> bytes:
    """Be greeted as another user, who can reach the socket whatever is above it."""
    read, write = os.pipe()
    fd = os.open(router.path, os.O_PATH)
    pid = os.fork()
    if pid == 0:
        try:
            os.setuid(uid)
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(TIMEOUT)
                sock.connect(f"/proc/self/fd/{fd}")
                os.write(write, sock.recv(100))
        finally:
            os._exit(0)
    os.close(fd)
    os.close(write)
    os.waitpid(pid, 0)
    with os.fdopen(read, "rb") as answer:
        return answer.read()


def test_a_service_with_a_declared_bus_has_no_router(tmp_path: Path) -> None:
    """Not even a socket."""
    worker = Worker("websocket://127.0.0.1:0", count=2, bus="nats://127.0.0.1:1?name=test")

    assert router_for(plan([worker], now=time.time()), tmp_path / "a.bus", ServiceOptions()) is None
    assert list(tmp_path.iterdir()) == []


def test_one_process_has_a_router(tmp_path: Path) -> None:
    """Programs beside the service connect to it."""
    worker = Worker("websocket://127.0.0.1:0", count=1)

    router = router_for(plan([worker], now=time.time()), tmp_path / "a.bus", ServiceOptions())
    assert router is not None
    router.close()


@pytest.mark.parametrize(
    ("history", "bus", "problem"),
    [
        (
            "sqlite:///no/such/folder/history.db",
            None,
            "is in a folder that does not exist: make it, for the user of the processes alone",
        ),
        (
            "sqlite:///tmp/history.db",
            "nats://127.0.0.1:1?name=test",
            "is for the router, and each worker has another bus: leave it out: with NATS the"
            " history is in JetStream",
        ),
    ],
)
def test_a_history_that_no_router_can_keep(
    tmp_path: Path, history: str, bus: str | None, problem: str
) -> None:
    """It is refused before anything listens."""
    worker = Worker("websocket://127.0.0.1:0", bus=bus)
    with pytest.raises(ConfigError) as caught:
        router_for(
            plan([worker], now=time.time()), tmp_path / "a.bus", ServiceOptions(history=history)
        )

    assert str(caught.value) == f"history={history!r} {problem}."
    assert list(tmp_path.iterdir()) == []


@on_loop
async def test_it_tells_what_its_history_holds(tmp_path: Path) -> None:
    """Nothing while there is none; also of what found no room."""
    router = RouterProcess(tmp_path / "a.bus", options=["--history-memory=20000"])
    try:
        router.tick(time.monotonic())
        bus = local_bus(str(router.path))
        await bus.start()
        assert router.history_report == HistoryReport()
        limits = HistoryLimits(size=100, ttl=300.0)
        for number in range(10):
            await bus.history.append(f"room-{number}", b"x" * 2000, limits)

        def report() -> HistoryReport:
            router.ask()
            return router.history_report

        await eventually(lambda: report().dropped > 0)
        size, channels, dropped = report()
        await bus.stop()

        assert 10_000 < size <= 20_000
        assert (channels, dropped) == (10, 10 - size // 2200)
    finally:
        router.close()
