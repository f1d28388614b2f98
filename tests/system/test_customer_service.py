"""``examples/customer_service``: what it does, and that nothing is lost silently."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sqlite3
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from gateman.master.control import connect_to_master
from gateman.master.control_requests import ListAnswer, ListConnections
from gateman.master.script import Script

from ..support.deadlines import TIMEOUT
from ..support.master import Master, master, until
from ..support.ports import free_port

FOLDER = Path(__file__).parents[2] / "examples" / "customer_service"

Message = dict[str, Any]


async def soon(condition: Callable[[], object]) -> None:
    """Wait for what processes do; seldom enough to cost little beside them."""
    await asyncio.to_thread(until, condition)


class Feed:
    """The server of the rates: a number each 20 ms, to whoever is connected."""

    def __init__(self) -> None:
        self.number = 0
        self.overlaps = 0
        self.opened_count = 0
        self._before: asyncio.StreamReader | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened_count += 1
        if self._before is not None:
            # It has ended before this one began, or two processes have the connection.
            try:
                async with asyncio.timeout(1):
                    await self._before.read()
            except TimeoutError:
                self.overlaps += 1
            except OSError:
                pass
        self._before = reader
        with contextlib.suppress(OSError):
            while not reader.at_eof():
                self.number += 1
                writer.write(b"%d\n" % self.number)
                await writer.drain()
                await asyncio.sleep(0.02)
        writer.close()


class User:
    """A client that comes back as the page does, and remembers all that it got."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.received: list[Message] = []
        self.login_count = 0
        self.is_in = False
        self.ends: list[int] = []
        self.connection: ClientConnection | None = None

    async def run(self, url: str) -> None:
        while True:
            try:
                async with connect(url, proxy=None) as connection:
                    await connection.send(self.token)
                    self.login_count += 1
                    self.connection = connection
                    while True:
                        self.take(await connection.recv())
            except ConnectionClosed as closed:
                self.ends.append(closed.rcvd.code if closed.rcvd else 1006)
            except (OSError, InvalidHandshake, TimeoutError):
                pass  # No process was there for it.
            self.is_in = False
            await asyncio.sleep(0.05)

    def take(self, message: str | bytes) -> None:
        self.received.append(json.loads(message))
        self.is_in = self.is_in or "welcome" in self.received[-1]

    async def say(self, **message: str) -> None:
        """Send a message, if it is connected."""
        if self.connection is not None:
            with contextlib.suppress(ConnectionClosed):
                await self.connection.send(json.dumps(message))

    async def get(self, *kinds: str) -> None:
        """Wait for new messages of some kinds."""
        start = len(self.received)

        def has(kind: str) -> bool:
            return any(kind in one for one in self.received[start:])

        await soon(lambda: all(map(has, kinds)))

    def of(self, key: str) -> list[Any]:
        """Return what messages of a kind say."""
        return [message[key] for message in self.received if key in message]


class Pager(User):
    """A text device: lines on a plain TCP connection."""

    async def run(self, url: str) -> None:
        host, port = url.split(":")
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(self.token.encode() + b"\n")
                self.login_count += 1
                try:
                    while (line := await reader.readline()).endswith(b"\n"):
                        self.take(line)
                    assert not line, "a part of a line"
                finally:
                    self.is_in = False
                    writer.close()
            await asyncio.sleep(0.05)


class Shop:
    """A running service with its addresses."""

    def __init__(
        self, running: Master, pager_port: int, feed: Feed, folder: Path, started_at: float
    ) -> None:
        self.running = running
        self.ws = f"ws://127.0.0.1:{running.port}/"
        self.pager = f"127.0.0.1:{pager_port}"
        self.feed = feed
        self.folder = folder
        self.started_at = started_at

    async def push(self, uid: str, text: str, key: str = "key") -> int:
        """Return to how many clients a message went; -1 if the answer did not arrive."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.running.port}/push/{uid}",
            text.encode(),
            {"Authorization": f"Bearer {key}"},
        )

        def ask() -> int:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310 - http
                return int(answer.read())

        try:
            return await asyncio.to_thread(ask)
        except (OSError, ValueError):  # Also HTTP errors.
            return -1

    def page(self) -> str:
        url = f"http://127.0.0.1:{self.running.port}/"
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            return str(answer.read().decode())

    def count(self, name: str) -> int:
        with contextlib.closing(sqlite3.connect(self.folder / "counters.db")) as database:
            [[value]] = database.execute("SELECT value FROM counters WHERE name = ?", (name,))
            return int(value)

    def pid_of(self, user: User) -> int:
        """Return the process that has a client."""
        assert user.connection is not None
        address = "{}:{}".format(*user.connection.local_address)
        script = Script.find(str(self.running.path))
        with connect_to_master(script, self.running.environment) as asked:
            answer = asked.request(ListConnections(), ListAnswer)
        [pid] = [one["pid"] for one in answer["connections"] if one["client"] == address]
        return int(pid)

    def pids(self, worker: str) -> set[int]:
        status = self.running.status()
        return {
            process["pid"]
            for slot in status["slots"]
            if slot["worker"] == worker and slot["state"] == "running"
            for process in slot["processes"]
        }


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Shop]:
    """Run the example at free ports; its shop opens each second, and processes drain soon."""
    shutil.copytree(FOLDER, folder, dirs_exist_ok=True)
    feed, port = Feed(), free_port()
    server = await asyncio.start_server(feed.serve, "127.0.0.1", 0)
    script = (FOLDER / "server.py").read_text()
    for old, new in {
        "127.0.0.1:8282": "127.0.0.1:0",
        "127.0.0.1:9000": f"127.0.0.1:{port}",
        "127.0.0.1:9001": f"127.0.0.1:{server.sockets[0].getsockname()[1]}",
        "0 9 * * MON-SAT": "* * * * * *",
        "every(10,": "every(1,",
        "count=2,": "count=2, drain_window=0.5,",
    }.items():
        assert old in script
        script = script.replace(old, new)
    started_at = time.time()
    with ExitStack() as stack:
        service = master(script, folder, environment={"PUSH_KEY": "key"})
        running = await asyncio.to_thread(stack.enter_context, service)
        try:
            yield Shop(running, port, feed, folder, started_at)
        finally:
            await asyncio.to_thread(stack.close)
            server.close()


@asynccontextmanager
async def coming(*users: tuple[User, str]) -> AsyncIterator[None]:
    """Connect users, again and again, while the block runs."""
    tasks = [asyncio.create_task(user.run(url)) for user, url in users]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        failed = [task.exception() for task in tasks if not task.cancelled()]
    assert failed == []


@pytest.mark.long
def test_customers_staff_and_a_pager_talk(tmp_path: Path) -> None:
    asyncio.run(talk(tmp_path))


async def talk(tmp_path: Path) -> None:
    async with opened(tmp_path) as shop, connect(shop.ws, proxy=None) as silent:
        ann, sue, pager = User("secret-of-ann"), User("secret-of-sue"), Pager("secret-of-the-pager")
        everybody = (ann, sue, pager)
        async with coming((ann, shop.ws), (sue, shop.ws), (pager, shop.pager)):
            await soon(lambda: all(one.of("welcome") for one in everybody))
            await soon(lambda: sue.of("online")[-1:] == pager.of("online")[-1:] == [["ann"]])
            await ann.say(text="Is it ready?")
            await soon(lambda: all("Is it ready?" in one.of("text") for one in everybody))
            await sue.say(to="ann", text="Nearly.")
            await soon(lambda: {"from": "sue", "text": "Nearly."} in ann.received)
            pushed = [await shop.push(uid, "Yes.") for uid in ("ann", "bob")]
            await soon(lambda: {"from": "shop", "text": "Yes."} in ann.received)
            await soon(lambda: all(one.of("rate") and one.of("day") for one in everybody))
            await soon(lambda: {"text": "Is it ready?", "reached": 2} in ann.received)
            await soon(lambda: {"text": "Nearly.", "reached": 1} in sue.received)
            assert pushed == [1, 0]
            assert await shop.push("ann", "Buy!", key="guess") == -1
            assert sorted(one.of("visit")[0] for one in everybody) == [1, 2, 3]

            async with connect(shop.ws, proxy=None) as elsewhere:
                await elsewhere.send("secret-of-sue")
                await soon(lambda: sue.ends == [4409])
            assert await end_of(shop.ws, "guess") == 4400
            assert await end_of(shop.ws, "secret-of-bob", "[") == 4400
            assert "<title>Customer service</title>" in await asyncio.to_thread(shop.page)
        with pytest.raises(ConnectionClosed):
            await silent.recv()
        assert silent.close_code == 1008
        assert "Traceback" not in shop.running.stderr


async def end_of(url: str, *messages: str) -> int | None:
    """Send messages, and return the code with which the server ends the connection."""
    async with connect(url, proxy=None) as client:
        for message in messages:
            await client.send(message)
        with contextlib.suppress(ConnectionClosed):
            async for _ in client:
                pass
        return client.close_code


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_reload_and_deaths_lose_nothing_silently(tmp_path: Path) -> None:
    """Whoever is connected gets all, once; of what others miss, the sender is told."""
    asyncio.run(reload_and_kill(tmp_path))


async def reload_and_kill(tmp_path: Path) -> None:
    async with opened(tmp_path) as shop:
        ann, bob = User("secret-of-ann"), User("secret-of-bob")
        sue, pager = User("secret-of-sue"), Pager("secret-of-the-pager")
        users = (ann, bob, sue, pager)
        asked: list[str] = []
        pushed: dict[str, int] = {}
        is_over = asyncio.Event()
        # What was under way when the process of a receiver died, or while one logged in again.
        excused: set[str] = set()

        async def traffic() -> None:
            while not is_over.is_set():
                number = len(asked)
                asked.append(f"question {number}")
                if not all(user.is_in for user in (ann, sue, pager)):
                    excused.update({f"question {number}", f"push {number}"})
                await bob.say(text=asked[-1])
                pushed[f"push {number}"] = await shop.push("ann", f"push {number}")
                await asyncio.sleep(0.04)

        async def kill(pid: int) -> None:
            excused.update(set(asked[-50:]) - told().keys(), {f"push {len(asked) - 1}"})
            os.kill(pid, signal.SIGKILL)
            await soon(lambda: pid not in shop.running.pids())

        def told() -> dict[str, int]:
            """Return how many of the staff got each question, as bob was told."""
            return {one["text"]: one["reached"] for one in bob.received if "reached" in one}

        async def all_works() -> None:
            """Wait until everybody gets new messages of each kind, with all processes."""
            await soon(lambda: len(shop.pids("worker")) == 2)
            await asyncio.gather(*(user.get("rate", "day", "text") for user in users))

        async with coming(*((user, shop.ws) for user in (ann, bob, sue)), (pager, shop.pager)):
            await soon(lambda: all(user.of("welcome") for user in users))
            work = asyncio.create_task(traffic())
            await all_works()

            # Death of the process that sue is not connected to.
            home = shop.pid_of(sue)
            [other] = shop.pids("worker") - {home}
            await kill(other)
            await all_works()
            assert sue.ends == []
            # And of the one that she is connected to: now the feed has moved once, too.
            await kill(home)
            await all_works()

            old = set(shop.running.pids())
            reload = await asyncio.to_thread(shop.running.command, "reload")
            assert reload.returncode == 0, reload.stderr
            await soon(lambda: old.isdisjoint(shop.running.pids()))
            await all_works()

            is_over.set()
            await work
            # What was sent before the last answers has arrived with them.
            last = await shop.push("ann", "last")
            await bob.say(text="last")
            await soon(lambda: "last" in ann.of("text") and "last" in bob.of("text"))
            await soon(lambda: "last" in sue.of("text") and "last" in pager.of("text"))

        # Each push whose answer was 1 has arrived, none twice, and in order.
        pushes = [text for text in ann.of("text") if text.startswith("push")]
        assert last == 1
        assert len(set(pushes)) == len(pushes)
        assert sorted(pushes, key=list(pushed).index) == pushes
        assert len(pushes) > len(pushed) / 2
        lost = {text for text, count in pushed.items() if count > 0 and text not in pushes}
        assert lost <= excused
        # As many staff have each question as bob was told.
        copies = Counter(sue.of("text") + pager.of("text"))
        wrong = {text: (n, copies[text]) for text, n in told().items() if copies[text] != n}
        assert {text: n for text, n in wrong.items() if text not in excused} == {}
        for user in users:
            # The feed is held by one process at a time; and so is the job.
            rates, days = [int(rate) for rate in user.of("rate")], user.of("day")
            assert rates == sorted(set(rates))
            assert days == sorted(set(days))
        assert shop.feed.opened_count >= 3
        assert shop.feed.overlaps == 0
        assert shop.count("days") <= time.time() - shop.started_at + 1
        # Each visit has its own number, and only those of logins that were cut off are unknown.
        visits = [visit for user in users for visit in user.of("visit")]
        assert len(set(visits)) == len(visits)
        assert len(visits) <= shop.count("visits") <= sum(user.login_count for user in users)
