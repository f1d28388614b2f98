"""Who is in a channel, with processes that are killed and reloaded, for an official SDK."""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ..support.master import Master, master, until, written
from ..support.nats import nats_server
from ..support.sdk import Driver, SdkClient, python_driver

SCRIPT = """
import os
from gateman import Allow, Channel, Worker

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
    note("leave", info.user)

Worker.run_all()
"""


class Told:
    """What the application was told of, in all processes."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "told"

    def lines(self) -> list[tuple[int, str, str]]:
        text = written(self._file) if self._file.exists() else ""
        lines = [line.split() for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [(int(pid), event, user) for pid, event, user in lines]

    def present(self) -> Counter[str]:
        """Add up joins and leaves."""
        found: Counter[str] = Counter()
        for _, event, user in self.lines():
            found[user] += 1 if event == "join" else -1
        return +found


@contextmanager
def service(folder: Path, bus: str) -> Iterator[tuple[Master, Driver]]:
    with ExitStack() as stack:
        options = ""
        if bus == "nats":
            options = f"bus={stack.enter_context(nats_server(folder)).url!r}"
        running = stack.enter_context(master(SCRIPT.format(options=options), folder))
        yield running, stack.enter_context(python_driver())


def enter(driver: Driver, running: Master, user: str) -> tuple[SdkClient, int]:
    """Connect a user and let it enter the room; return its process, too."""
    client = driver.client(f"ws://127.0.0.1:{running.port}/", data={"user": user})
    pid: int = client.connect()["data"]["pid"]
    client.subscribe("room", join_leave=True)
    return client, pid


def users(client: SdkClient) -> list[str]:
    presence = client.do("presence", channel="room")
    return sorted(one["user"] for one in presence.values())


@pytest.mark.parametrize("bus", ["local", "nats"])
def test_clients_of_a_killed_process_leave_or_come_back(bus: str, tmp_path: Path) -> None:
    """A user who comes back is never gone; one who does not leaves, and the application knows."""
    with service(tmp_path, bus) as (running, driver):
        observer, kept = enter(driver, running, "ann")
        others: dict[str, int] = {}
        while kept in others.values() or not others:
            others.clear()
            _, others["bob"] = enter(driver, running, "bob")
        told = Told(tmp_path)
        until(lambda: users(observer) == ["ann", "bob"])
        until(lambda: told.present() == {"ann": 1, "bob": 1})

        os.kill(others["bob"], signal.SIGKILL)

        until(lambda: users(observer) == ["ann", "bob"])
        join = observer.take("join", channel="room")
        assert join
