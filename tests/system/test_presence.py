"""Who is in a channel, with processes that are killed and reloaded, for an official SDK."""

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from websockets.sync.client import ClientConnection, connect

from ..support.deadlines import TIMEOUT
from ..support.master import Master, master, until, written
from ..support.nats import jetstream, nats_server
from ..support.sdk import Driver, SdkClient, SdkError, python_driver

SCRIPT = """
import os
from gateman import Allow, Channel, PartialResult, Worker, hub

worker = Worker(
    "websocket://127.0.0.1:0", name="chat", count=2, client_protocol="centrifuge",
    channels={{"room": Channel(subscribe=True, presence=True, join_leave=True, leave_delay=2.0)}},
    drain_window=0.5, {options}
)

def note(*words):
    with open("told", "a") as file:
        print(os.getpid(), *words, file=file)

@worker.on_client_connect
def enter(connection, token, data):
    connection.bind(data["user"])
    return Allow(data={{"pid": os.getpid()}}, info={{"name": data["user"].title()}})

@worker.on_join
def joined(channel, info):
    note("join", info.user)

@worker.on_leave
async def left(channel, info):
    try:
        present = await hub.presence(channel)
    except PartialResult as partial:
        present = partial.value
    is_back = any(one.user == info.user for one in present.values())
    note("leave", info.user, "back" if is_back else "gone")

Worker.run_all()
"""


class Told:
    """What the application was told of, in all processes."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "told"

    def lines(self) -> list[tuple[int, str, str]]:
        text = written(self._file) if self._file.exists() else ""
        lines = [line.split() for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [(int(pid), event, user) for pid, event, user, *_ in lines]

    def leaves(self) -> set[tuple[str, str]]:
        """Return who has left, and whether that user was there with another client."""
        lines = map(str.split, written(self._file).splitlines())
        return {(line[2], line[3]) for line in lines if line[1] == "leave"}

    def present(self) -> Counter[str]:
        """Add up joins and leaves."""
        found: Counter[str] = Counter()
        for _, event, user in self.lines():
            found[user] += 1 if event == "join" else -1
        return +found

    def counts(self) -> Counter[tuple[str, str]]:
        return Counter((event, user) for _, event, user in self.lines())


@contextmanager
def service(folder: Path, bus: str) -> Iterator[tuple[Master, Driver]]:
    with ExitStack() as stack:
        options = ""
        if bus == "nats":
            options = f"bus={stack.enter_context(nats_server(folder, jetstream(folder))).url!r}"
        running = stack.enter_context(master(SCRIPT.format(options=options), folder))
        yield running, stack.enter_context(python_driver())


def enter(driver: Driver, running: Master, user: str) -> tuple[SdkClient, int]:
    """Connect a user and let it enter the room; return its process, too."""
    client = driver.client(f"ws://127.0.0.1:{running.port}/", data={"user": user})
    pid: int = client.connect()["data"]["pid"]
    client.subscribe("room", join_leave=True)
    return client, pid


def stray(stack: ExitStack, running: Master, user: str) -> tuple[ClientConnection, int]:
    """Let a user enter the room with a client that does not come back."""
    socket = stack.enter_context(connect(f"ws://127.0.0.1:{running.port}/"))
    socket.send(json.dumps({"id": 1, "connect": {"data": {"user": user}}}))
    pid = json.loads(socket.recv(TIMEOUT))["connect"]["data"]["pid"]
    socket.send(json.dumps({"id": 2, "subscribe": {"channel": "room"}}))
    socket.recv(TIMEOUT)
    return socket, pid


def users(client: SdkClient) -> list[str]:
    """Return who is in the room; nobody while a client that comes back is not in it yet."""
    try:
        presence = client.do("presence", channel="room")
    except SdkError:
        return []
    return sorted(one["user"] for one in presence.values())


def seen(client: SdkClient) -> list[tuple[str, str]]:
    """Return who joined and left, as a client was told."""
    client.do("presence", channel="room")
    return [
        (one["event"], one["info"]["user"])
        for one in client.events
        if one["event"] in {"join", "leave"}
    ]


@pytest.mark.parametrize("bus", ["local", "nats"])
def test_clients_of_a_killed_process_leave_or_come_back(bus: str, tmp_path: Path) -> None:
    """A user who comes back is never gone; one who does not leaves, and the application knows."""
    with ExitStack() as stack:
        running, driver = stack.enter_context(service(tmp_path, bus))
        observer, kept = enter(driver, running, "ann")
        told = Told(tmp_path)
        # Until bob and cid are in the other process.
        while (bob := enter(driver, running, "bob"))[1] == kept:
            bob[0].do("disconnect")
        while (cid := stray(stack, running, "cid"))[1] == kept:
            cid[0].close()
        everybody = ["ann", "bob", "cid"]
        until(lambda: users(observer) == everybody)
        until(lambda: told.present() == dict.fromkeys(everybody, 1))
        until(lambda: Counter(seen(observer)) == told.counts())
        before, told_before = len(seen(observer)), len(told.lines())

        os.kill(cid[1], signal.SIGKILL)

        until(lambda: users(observer) == ["ann", "bob"])
        until(lambda: len(seen(observer)) >= before + 3)
        until(lambda: told.present() == {"ann": 1, "bob": 1})

        events = seen(observer)[before:]
        assert sorted(events) == [("join", "bob"), ("leave", "bob"), ("leave", "cid")]
        assert events.index(("join", "bob")) < events.index(("leave", "bob"))
        assert Counter(one[1:] for one in told.lines()[told_before:]) == Counter(events)
        assert ("cid", "gone") in told.leaves()


@pytest.mark.parametrize("bus", ["local", "nats"])
def test_a_reload_is_no_leave(bus: str, tmp_path: Path) -> None:
    """All clients come back to new processes before anybody is told that they left."""
    with service(tmp_path, bus) as (running, driver):
        clients = [enter(driver, running, user)[0] for user in ("ann", "bob", "cid", "dan")]
        told = Told(tmp_path)
        everybody = ["ann", "bob", "cid", "dan"]
        until(lambda: told.present() == dict.fromkeys(everybody, 1))

        running.gateman("reload")

        # Whoever has left here has another connection; it may be moved again.
        until(lambda: len(told.leaves()) >= len(everybody))
        until(lambda: told.present() == dict.fromkeys(everybody, 1))
        until(lambda: [users(client) for client in clients] == [everybody] * 4)
        # The join is told in the new process and the leave in the old one, so either may be noted
        # first; but when the leave is told, the user is there again.
        assert told.leaves() == {(user, "back") for user in everybody}
