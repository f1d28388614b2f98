"""The bus of a machine, with a real router."""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateman.bus import unix_socket
from gateman.bus.base import MAX_PENDING_SIZE, Bus
from gateman.bus.local import held_bus, local_bus
from gateman.bus.router import route
from gateman.bus.router_wire import FrameKind, frame
from gateman.errors import BusError, ConfigError

from ..support.deadlines import TIMEOUT
from ..support.loop import eventually, on_loop
from ..support.router import RouterProcess, router
from .contract import ROOM, DeliveryContract, started
from .contract_of_gaps import LossContract
from .contract_of_history import HistoryContract
from .contract_of_queries import ProcessContract, QuestionContract


class _Broker:
    def __init__(self, process: RouterProcess) -> None:
        self._process = process

    def bus(self, *, max_pending_size: int | None = None) -> Bus:
        return local_bus(
            str(self._process.path), max_pending_size=max_pending_size or MAX_PENDING_SIZE
        )

    def kill(self) -> None:
        self._process.kill()

    def restart(self) -> None:
        self._process.start()


class TestLocal(DeliveryContract, LossContract, HistoryContract, QuestionContract, ProcessContract):
    """The contract, kept with a router that is killed and started again."""

    TEXT_OF_ABSENCE = "nothing listens there: is the service running?"

    @pytest.fixture
    def broker(self, tmp_path: Path) -> Iterator[_Broker]:
        """Run a router."""
        with router(tmp_path) as process:
            yield _Broker(process)


def test_a_path_is_absolute() -> None:
    """What a relative one means depends on where a process was started."""
    with pytest.raises(ConfigError) as caught:
        local_bus("run/bus.sock")

    assert str(caught.value) == (
        "the bus's URL local://run/bus.sock has no absolute path: write local:///path/to/socket."
    )


@on_loop
async def test_a_held_bus_needs_no_path(tmp_path: Path) -> None:
    """A process that may no longer enter the socket's folder comes back to it all the same."""
    path = tmp_path / "bus.sock"
    with unix_socket.listen(path) as listener:
        bus = held_bus(path)
        path.unlink()
        arrived: list[bytes] = []
        subscriptions = asyncio.ensure_future(route(listener.dup()))
        await bus.start()
        await bus.subscribe(ROOM, arrived.append)
        subscriptions.cancel()
        await asyncio.wait([subscriptions])
        await eventually(lambda: not bus.is_connected)
        subscriptions = asyncio.ensure_future(route(listener.dup()))
        await bus.subscribe(ROOM, arrived.append)
        await bus.stop()
        subscriptions.cancel()
        await asyncio.wait([subscriptions])

    assert bus.url == f"local://{path}"
    assert bus.counts["gaps"] == 1


@on_loop
async def test_a_socket_that_is_not_there(tmp_path: Path) -> None:
    """The error says what was looked for, and what may be the matter."""
    with pytest.raises(BusError) as caught:
        await local_bus(f"{tmp_path}/bus.sock").start()

    assert str(caught.value) == (
        f"the bus local://{tmp_path}/bus.sock: the socket does not exist: is the service running?"
    )


@pytest.mark.parametrize(
    ("greeting", "problem"),
    [
        (b"", "its router has refused us"),
        (b"220 mail.example.org ESMTP\r\n", "what listens there is not a gateman router"),
        (frame(FrameKind.PONG), "what listens there is not a gateman router"),
        (
            frame(FrameKind.HELLO, payload=b"gateman-bus 99"),
            "its router is of another version of gateman: restart the service",
        ),
    ],
)
@on_loop
async def test_something_else_listens_there(tmp_path: Path, greeting: bytes, problem: str) -> None:
    """Nothing is sent to what does not greet as our router does."""
    received: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        if not greeting:
            writer.close()
        received.append(await reader.read())
        writer.close()

    server = await asyncio.start_unix_server(answer, tmp_path / "bus.sock")
    with pytest.raises(BusError) as caught:
        await local_bus(f"{tmp_path}/bus.sock").start()
    await eventually(lambda: received == [b""])
    server.close()

    assert caught.value.problem == problem


@on_loop
async def test_a_router_that_does_not_greet(tmp_path: Path) -> None:
    """It is waited for, but not for ever."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "bus.sock"))
        listener.listen()
        with pytest.raises(BusError) as caught:
            await local_bus(f"{tmp_path}/bus.sock", connect_timeout=0.05).start()

    assert caught.value.problem == "its router does not answer within 0.05 seconds"


@on_loop
async def test_a_router_that_hangs_blocks_no_publisher(tmp_path: Path) -> None:
    """Publishing goes on until the bound is reached, and then fails; what was taken arrives."""
    with router(tmp_path) as process:
        async with started(_Broker(process)) as (here, there):
            arrived: list[bytes] = []
            await there.subscribe(ROOM, arrived.append)
            process.freeze()
            accepted = 0
            while here.publish(ROOM, b"%6d" % accepted + bytes(10_000)):
                accepted += 1
                await asyncio.sleep(0)
            process.thaw()
            await eventually(lambda: len(arrived) == accepted)

    assert MAX_PENDING_SIZE < accepted * 10_000 < 2 * MAX_PENDING_SIZE
    assert [int(payload[:6]) for payload in arrived] == list(range(accepted))


NOBODY = """
import asyncio, os, socket, sys
from gateman.bus.local import held_bus, local_bus
from gateman.errors import BusError

async def main(path, owner, user):
    if owner:
        os.seteuid(int(owner))
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        os.seteuid(0)
        os.chmod(path, 0o666)
    os.setuid(int(user))
    try:
        await local_bus(path, connect_timeout=0.2 if user == "0" else 5.0).start()
    except BusError as error:
        print(error.problem)

asyncio.run(main(*sys.argv[1:]))
"""


def as_nobody(path: Path, *, owner: str = "", user: str = "65534") -> str:
    """Start a bus as another user; return what is wrong with that."""
    said = subprocess.run(
        [sys.executable, "-c", NOBODY, str(path), owner, user],
        capture_output=True,
        check=True,
        text=True,
        timeout=TIMEOUT,
    )
    return said.stdout


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Make a folder that everybody may enter and write to, unlike those of pytest."""
    with tempfile.TemporaryDirectory(prefix="gateman-bus-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize(
    ("mode", "problem"),
    [
        (0o600, "this user may not connect to it\n"),
        (0o666, "its router has refused us\n"),
    ],
)
def test_another_user_is_refused(open_folder: Path, mode: int, problem: str) -> None:
    """By the socket's mode, and by the router if somebody has opened it."""
    with router(open_folder) as process:
        process.path.chmod(mode)
        said = as_nobody(process.path)

    assert said == problem


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_root_sends_to_another_user_s_router_in_that_user_s_folder_only(open_folder: Path) -> None:
    """Anybody can make a socket in a folder for all; the owner of a folder is who is meant."""
    own = open_folder / "own"
    own.mkdir()
    os.chown(own, 65533, 65533)
    said = [as_nobody(one / "bus.sock", owner="65533", user="0") for one in (own, open_folder)]

    assert said == [
        "its router does not answer within 0.2 seconds\n",
        "its router belongs to another user (uid 65533)\n",
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_router_of_another_user_is_sent_nothing(open_folder: Path) -> None:
    """A process that was first at a path that all can write to does not get our messages."""
    said = as_nobody(open_folder / "bus.sock", owner="65533")

    assert said == "its router belongs to another user (uid 65533)\n"
