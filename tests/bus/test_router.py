"""The router: it passes on what is wanted, and who is slow or wrong harms nobody else."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

from gateman.bus import unix_socket
from gateman.bus.router import main, route
from gateman.bus.router_wire import (
    ADD_LISTENER,
    HELLO,
    MAX_FRAME_SIZE,
    STOP,
    FrameKind,
    RouterWire,
    dropped,
    frame,
)
from gateman.bus.subjects import subject
from gateman.bus.wire import BrokerEvent, Control, Dropped, NoSubscribers

from ..support.child import answers
from ..support.deadlines import TIMEOUT
from ..support.loop import eventually, on_loop
from ..support.master import is_alive

ROOM = subject("room")
WIRE = RouterWire()


class Client:
    """A process, as the router sees it: it reads when the test says so."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._wire = RouterWire()
        self._events: list[BrokerEvent] = []

    @classmethod
    async def connect(cls, path: Path) -> "Client":
        """Connect, and read the greeting."""
        client = cls(*await asyncio.open_unix_connection(path))
        assert await client.reader.readexactly(len(HELLO)) == HELLO
        return client

    async def event(self) -> BrokerEvent | None:
        """Read one event; ``None`` at the end."""
        while not self._events:
            data = await self.reader.read(65536)
            if not data:
                return None
            self._events += self._wire.feed(data)
        return self._events.pop(0)

    async def settle(self) -> list[BrokerEvent]:
        """Have everything that was written handled; return what came before the answer."""
        self.writer.write(self._wire.ping)
        events: list[BrokerEvent] = []
        while (event := await self.event()) is not Control.PONG:
            assert event is not None
            events.append(event)
        return events

    def close(self) -> None:
        """Hang up."""
        self.writer.close()


@asynccontextmanager
async def pending(
    tmp_path: Path, count: int, *, max_pending_size: int = 1_000_000
) -> AsyncIterator[list[Client]]:
    """Run a router in this process, with some clients."""
    path = tmp_path / "bus.sock"
    listener = unix_socket.listen(path)
    subscriptions = asyncio.ensure_future(route(listener, max_pending_size=max_pending_size))
    clients: list[Client] = []
    try:
        for _ in range(count):
            clients.append(await Client.connect(path))  # noqa: PERF401 - closed in part
        yield clients
    finally:
        for client in clients:
            client.close()
        subscriptions.cancel()
        await asyncio.wait([subscriptions])


@on_loop
async def test_it_passes_on_what_is_wanted(tmp_path: Path) -> None:
    """To all others that subscribed, as it came."""
    async with pending(tmp_path, 3) as (one, two, three):
        for client in (one, two):
            client.writer.write(WIRE.subscribe(ROOM))
            await client.settle()
        one.writer.write(WIRE.publish(ROOM, b"hello"))
        await one.settle()

        said = [await client.settle() for client in (one, two, three)]

    assert said == [[], [("room", b"hello")], []]


@on_loop
async def test_a_client_that_leaves_is_forgotten(tmp_path: Path) -> None:
    """Unsubscribed or gone, somebody or nobody left: it is not written to."""
    async with pending(tmp_path, 4) as (one, two, three, four):
        for client in (two, three, four):
            client.writer.write(WIRE.subscribe(ROOM) + WIRE.subscribe(ROOM))
            await client.settle()
        two.writer.write(WIRE.unsubscribe(ROOM) + WIRE.unsubscribe(ROOM))
        await two.settle()
        three.close()
        one.writer.write(WIRE.publish(ROOM, b"one"))
        await one.settle()
        first = [await client.settle() for client in (two, four)]
        four.writer.write(WIRE.unsubscribe(ROOM))
        await four.settle()
        one.writer.write(WIRE.publish(ROOM, b"nobody"))
        await one.settle()
        second = [await client.settle() for client in (two, four)]

    assert first == [[], [("room", b"one")]]
    assert second == [[], []]


@on_loop
async def test_a_query_learns_that_there_is_no_subscriber(tmp_path: Path) -> None:
    """In order with everything else; of others it says nothing, and they are told nothing."""
    async with pending(tmp_path, 2) as (one, two):
        one.writer.write(WIRE.ask(ROOM, 1) + WIRE.subscribe(ROOM) + WIRE.ask(ROOM, 2))
        alone = await one.settle()
        two.writer.write(WIRE.subscribe(ROOM))
        await two.settle()
        one.writer.write(WIRE.ask(ROOM, 3) + WIRE.unsubscribe(ROOM) + WIRE.ask(ROOM, 4))
        together = await one.settle()
        two.writer.write(WIRE.ask(ROOM, 5))
        other = await two.settle()

    assert (alone, together, other) == (
        [NoSubscribers(1), NoSubscribers(2)],
        [],
        [NoSubscribers(5)],
    )


@on_loop
async def test_a_slow_client_loses_messages_and_is_told(tmp_path: Path) -> None:
    """The others get all of them, at their speed; then it goes on, in order."""
    began_at = time.time()
    async with pending(tmp_path, 3) as (publisher, quick, slow):
        for client in (quick, slow):
            client.writer.write(WIRE.subscribe(ROOM))
            await client.settle()
        slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
        count = 0
        for number in range(200):
            publisher.writer.write(WIRE.publish(ROOM, b"%6d" % number + bytes(20_000)))
            assert isinstance(await quick.event(), tuple)
            count += 1
        slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
        arrived: list[bytes] = []
        while isinstance(event := await slow.event(), tuple):
            arrived.append(event[1][:6])
        publisher.writer.write(WIRE.publish(ROOM, b"and on"))
        after = await slow.event()

    assert count == 200
    assert arrived == [b"%6d" % number for number in range(len(arrived))]
    assert isinstance(event, Dropped)
    assert len(arrived) + event.count == 200
    assert began_at <= event.since <= time.time()
    assert 1_000_000 < len(arrived) * 20_000 < 3_000_000
    assert after == ("room", b"and on")


@on_loop
async def test_a_message_bigger_than_the_bound_is_counted(tmp_path: Path) -> None:
    """It never fits, which the receiver learns at once."""
    async with pending(tmp_path, 2, max_pending_size=1000) as (one, two):
        two.writer.write(WIRE.subscribe(ROOM))
        await two.settle()
        one.writer.write(WIRE.publish(ROOM, bytes(2000)) + WIRE.publish(ROOM, b"fits"))
        event = await two.event()
        one.writer.write(WIRE.publish(ROOM, b"fits"))
        after = await two.event()

    assert isinstance(event, Dropped)
    assert event.count == 2
    assert after == ("room", b"fits")


@pytest.mark.parametrize(
    "data",
    [
        frame(FrameKind.MESSAGE, b"x" * 10)[:2] + b"\xff" * 20,
        frame(FrameKind.PONG),
        dropped(1, 1.0),
        b"\x09" + bytes(6),
        b"GET / HTTP/1.1\r\n\r\n",
        WIRE.publish(ROOM, bytes(MAX_FRAME_SIZE)),
    ],
)
@on_loop
async def test_a_client_that_sends_nonsense_is_disconnected(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    """It is logged once, and the others stay."""
    async with pending(tmp_path, 4) as (one, two, *wrong):
        one.writer.write(WIRE.subscribe(ROOM))
        await one.settle()
        for client in wrong:
            client.writer.write(data)
            with suppress(ConnectionError):
                assert await client.event() is None
        two.writer.write(WIRE.publish(ROOM, b"hello"))
        await two.settle()
        said = await one.settle()

    assert said == [("room", b"hello")]
    assert caplog.messages == ["the router refused a process that sends an invalid frame"]


@on_loop
async def test_a_client_that_asks_and_never_reads_is_disconnected(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Answers are not dropped, so they are bounded by the connection's end."""
    async with pending(tmp_path, 1, max_pending_size=1000) as (client,):
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(100):
            client.writer.write(WIRE.ping * 1000)
        await eventually(lambda: bool(caplog.messages))

    assert caplog.messages == ["the router refused a process that does not read"]


@contextmanager
def process(
    *arguments: str, pass_fds: tuple[int, ...] = (), stdin: int = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a router as a program."""
    child = subprocess.Popen(
        [sys.executable, "-m", "gateman.bus.router", *arguments],
        stdin=stdin,
        stderr=subprocess.PIPE,
        pass_fds=pass_fds,
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


async def answered(path: Path) -> None:
    """Wait until a router greets."""
    await eventually(lambda: answers(socket.AF_UNIX, str(path)))
    (await Client.connect(path)).close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@on_loop
async def test_a_signal_ends_it(tmp_path: Path, number: signal.Signals) -> None:
    """It leaves no socket, says nothing and ends with 0."""
    path = tmp_path / "bus.sock"
    with process(str(path)) as child:
        await answered(path)
        child.send_signal(number)
        _, errors = child.communicate(timeout=TIMEOUT)

    assert (child.returncode, errors, path.exists()) == (0, b"", False)


@on_loop
async def test_it_takes_a_socket_that_it_inherits(tmp_path: Path) -> None:
    """Who connects while it is away waits for the next one, which the socket outlives."""
    path = tmp_path / "bus.sock"
    ours, theirs = socket.socketpair()
    with ours, theirs, unix_socket.listen(path) as listener:
        fd, stdin = listener.fileno(), theirs.fileno()
        with process("--fd", str(fd), pass_fds=(fd,), stdin=stdin) as first:
            await answered(path)
            first.kill()
            first.wait()
        waiting = asyncio.ensure_future(Client.connect(path))
        with process("--fd", str(fd), pass_fds=(fd,), stdin=stdin) as second:
            client = await waiting
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
                second.send_signal(number)
            said = await client.settle()
            ours.send(STOP)
            second.communicate(timeout=TIMEOUT)
            client.close()
        exists = path.exists()

    assert (said, second.returncode, exists) == ([], 0, True)


@on_loop
async def test_it_takes_another_socket_while_it_runs(tmp_path: Path) -> None:
    """Those who connect to the first and those who connect to the second meet."""
    paths = [tmp_path / "one.sock", tmp_path / "two.sock"]
    ours, theirs = socket.socketpair()
    with (
        ours,
        theirs,
        unix_socket.listen(paths[0]) as first,
        unix_socket.listen(paths[1]) as second,
    ):
        fd = first.fileno()
        with process("--fd", str(fd), pass_fds=(fd,), stdin=theirs.fileno()) as child:
            one = await Client.connect(paths[0])
            socket.send_fds(ours, [ADD_LISTENER], [second.fileno()])
            two = await Client.connect(paths[1])
            two.writer.write(WIRE.subscribe(ROOM))
            await two.settle()
            one.writer.write(WIRE.publish(ROOM, b"hello"))
            await one.settle()
            said = await two.settle()
            one.close()
            two.close()
            ours.send(STOP)
            child.communicate(timeout=TIMEOUT)

    assert (said, child.returncode) == ([(ROOM, b"hello")], 0)


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    """A parent that was killed leaves no router behind, when its processes have ended, too."""
    path = tmp_path / "bus.sock"
    script = (
        "import socket, subprocess, sys\n"
        "ours, theirs = socket.socketpair()\n"
        "child = subprocess.Popen([sys.executable, '-m', 'gateman.bus.router', '--fd',"
        " sys.argv[1], '--patience', '60'], stdin=theirs.fileno(), stdout=subprocess.DEVNULL,"
        " pass_fds=[int(sys.argv[1])])\n"
        "theirs.close()\n"
        "print(child.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with unix_socket.listen(path) as listener:
        fd = listener.fileno()
        parent = subprocess.Popen(
            [sys.executable, "-c", script, str(fd)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[fd],
        )
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
    asyncio.run(asyncio.wait_for(answered(path), TIMEOUT))
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(TIMEOUT)
        client.connect(str(path))
        assert client.recv(4096) == HELLO
        parent.kill()
        parent.communicate()
        client.sendall(WIRE.ping)
        said = b""
        while not said.endswith(frame(FrameKind.PONG)):
            said += client.recv(4096)

    async def gone() -> None:
        await eventually(lambda: not is_alive(pid))

    asyncio.run(gone())


def test_a_place_that_cannot_be_is_a_configuration_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One sentence, and exit code 78."""
    code = main([str(tmp_path / "nowhere" / "bus.sock")])

    assert code == 78
    assert caplog.messages == [
        f"{tmp_path}/nowhere/bus.sock cannot be listened on: no such file or directory."
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_other_users_are_refused() -> None:
    """Even if somebody opens the socket's mode, the router asks who it is."""
    script = (
        "import os, socket, sys\n"
        "os.setuid(65534)\n"
        "client = socket.socket(socket.AF_UNIX)\n"
        "client.connect(sys.argv[1])\n"
        "print(client.recv(100))\n"
    )
    # Not pytest's folder, which only its owner may enter.
    with tempfile.TemporaryDirectory(prefix="gateman-bus-") as folder:
        path = Path(folder) / "bus.sock"
        path.parent.chmod(0o755)
        errors, said = _refused(path, script)

    assert said == "b''\n"
    assert b"the router refused a process of another user (uid 65534)" in errors


def _refused(path: Path, script: str) -> tuple[bytes, str]:
    with process(str(path)) as child:
        asyncio.run(asyncio.wait_for(answered(path), TIMEOUT))
        path.chmod(0o666)
        said = subprocess.run(
            [sys.executable, "-c", script, str(path)],
            capture_output=True,
            check=True,
            text=True,
            timeout=TIMEOUT,
        )
        child.terminate()
        _, errors = child.communicate(timeout=TIMEOUT)
    return errors, said.stdout


def test_a_path_that_is_in_use_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Two routers at one place would each have half of the processes."""
    path = tmp_path / "bus.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        code = main([str(path)])

    assert code == 78
    assert caplog.messages == [f"{path} cannot be listened on: another process listens there."]
