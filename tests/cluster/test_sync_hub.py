"""The hub for programs without an event loop: threads here, clients behind a bus."""

import asyncio
import contextlib
import multiprocessing
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from gateman import Worker, serve
from gateman.bus import Bus, open_bus
from gateman.cluster.hub import Hub
from gateman.cluster.sync_hub import SyncHub
from gateman.errors import BusError, ConfigError, HubError, UnknownClient

from ..support.cluster import cluster
from ..support.deadlines import TIMEOUT
from ..support.loop import on_loop
from ..support.router import RouterProcess, router

THREADS, EACH = 8, 25
END = "end"


@pytest.fixture(scope="module")
def bus() -> Iterator[RouterProcess]:
    """Give a router, at a path that is short enough for a socket."""
    with TemporaryDirectory(prefix="gateman-") as folder, router(Path(folder)) as made:
        yield made


@pytest.fixture
def url(bus: RouterProcess) -> str:
    """Give the router's URL."""
    return bus.url


def bus_of(url: str) -> Callable[[], Bus]:
    """Make what makes a node's bus."""
    return lambda: open_bus(url)


def verbs(kind: type) -> set[str]:
    """List the public verbs of a hub, without those of its lifecycle."""
    lifecycle = {"connect", "start", "stop", "close", "local_node", "nodes", "node"}
    lifecycle |= {"is_connected", "counts", "on_gap", "answer_timeout"}
    return {name for name in dir(kind) if not name.startswith("_")} - lifecycle


def test_it_has_the_verbs_of_a_hub() -> None:
    """All of them, with their documentation."""
    assert verbs(SyncHub) == verbs(Hub)
    for name in verbs(Hub):
        assert getattr(SyncHub, name).__doc__ == getattr(Hub, name).__doc__


@on_loop
async def test_a_program_without_a_loop_sends(url: str) -> None:
    """To all, groups, users and clients, in its order; and is nobody's node."""

    def program(client: str) -> None:
        with SyncHub(url) as hub:
            hub.send_to_all("all")
            hub.send_to_group("room", b"group")
            hub.send_to_uid("42", "uid")
            hub.send_to_client(client, "client")
            hub.send_to_clients([client], "clients")
            hub.dissolve_group("room")
            hub.send_to_group("room", "nobody is there")
            numbers.append(hub.send_to_uid("nobody", "x").result())
            hub.send_event("prices", {"gold": 1})
            numbers.append(hub.send_to_client(client, END).result())

    numbers: list[int] = []
    heard: list[object] = []
    async with cluster(1, bus_of(url)) as [node]:
        client = await node.client("room", uid="42")
        node.hub.local_node.events.add("prices", heard.append)
        await asyncio.to_thread(program, client.id)

        messages = await client.read_to(END)
        assert sorted(map(str, messages)) == ["all", "b'group'", "client", "clients", "uid"]
        assert messages.index("client") < messages.index("clients")
        assert node.hub.nodes == ()
        assert (numbers, heard) == ([0, 1], [{"gold": 1}])


@on_loop
async def test_what_it_changes_is_in_effect_when_it_returns(url: str) -> None:
    """And it can ask, with the answers of a hub."""

    def program(client: str) -> list[object]:
        with SyncHub(url) as hub:
            hub.join_group(client, "room")
            hub.bind_uid(client, "42")
            hub.set_session(client, {"a": 1})
            hub.update_session(client, b=2)
            found: list[object] = [
                hub.clients_of_group("room"),
                hub.clients_of_uid("42"),
                hub.sessions_of_group("room"),
                hub.get_session(client),
                hub.uid_of_client(client),
                hub.uids_of_group("room"),
                [info.user for info in hub.presence("room").values()],
                hub.groups(),
                (hub.is_online(client), hub.is_uid_online("42")),
                hub.group_sizes(),
                hub.presence_stats("room"),
                (hub.count_clients(), hub.count_group("room"), hub.count_uids()),
            ]
            hub.leave_group(client, "room")
            hub.unbind_uid(client)
            return [*found, (hub.groups(), hub.is_uid_online("42"))]

    async with cluster(1, bus_of(url)) as [node]:
        client = await node.client()
        session = {"a": 1, "b": 2}

        assert await asyncio.to_thread(program, client.id) == [
            [client.id],
            [client.id],
            {client.id: session},
            session,
            "42",
            {"42"},
            ["42"],
            {"room"},
            (True, True),
            {"room": 1},
            (1, 1),
            (1, 1, 1),
            (set(), False),
        ]


@on_loop
async def test_it_raises_what_a_hub_raises(url: str) -> None:
    """In the thread that asked, and it goes on."""

    def program(client: str) -> int:
        with SyncHub(url) as hub:
            with pytest.raises(UnknownClient, match="there is no client"):
                hub.join_group(f"{client}0", "room")
            with pytest.raises(ConfigError, match="a group cannot be empty"):
                hub.join_group(client, "")
            with pytest.raises(HubError, match="bytes"):
                hub.send_to_all(bytes(2 << 20))
            return hub.count_clients()

    async with cluster(1, bus_of(url)) as [node]:
        client = await node.client()
        assert await asyncio.to_thread(program, client.id) == 1


@on_loop
async def test_several_threads_use_one(url: str) -> None:
    """All that they send arrives once, in each thread's order."""

    def program(hub: SyncHub, thread: int) -> None:
        for number in range(EACH):
            hub.send_to_uid("42", f"{thread} {number}")

    def programs() -> None:
        with SyncHub(url) as hub:
            with ThreadPoolExecutor(THREADS) as threads:
                for _ in threads.map(program, [hub] * THREADS, range(THREADS)):
                    pass
            hub.send_to_uid("42", END)

    async with cluster(1, bus_of(url)) as [node]:
        client = await node.client(uid="42")
        await asyncio.to_thread(programs)

        messages = [str(one).split() for one in await client.read_to(END)]
        by_thread = [
            [int(number) for one, number in messages if one == str(thread)]
            for thread in range(THREADS)
        ]
        assert by_thread == [list(range(EACH))] * THREADS


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@on_loop
async def test_a_forked_process_connects_anew(url: str) -> None:
    """One hub that was made, and used, before the fork serves both processes."""
    fork = multiprocessing.get_context("fork")

    def in_the_child(hub: SyncHub) -> None:
        hub.send_to_uid("42", "child")
        hub.close()
        # The thread that was forked is one of the test's executor, which could not be joined.
        os._exit(0)

    def program() -> int | None:
        with SyncHub(url) as hub:
            hub.send_to_uid("42", "parent")
            child = fork.Process(target=in_the_child, args=(hub,))
            child.start()
            child.join(TIMEOUT)
            hub.send_to_uid("42", END)
            return child.exitcode

    async with cluster(1, bus_of(url)) as [node]:
        client = await node.client(uid="42")
        assert await asyncio.to_thread(program) == 0
        assert await client.read_to(END) == ["parent", "child"]


# Another thread sends all the time, so that it may hold a lock at the instant of the fork.
FORKING = """
import multiprocessing, sys, threading
from gateman import SyncHub

hub = SyncHub(sys.argv[1])
over = threading.Event()

def send():
    while not over.is_set():
        hub.send_to_uid("nobody", "x")

def in_the_child():
    hub.send_to_uid("42", "child")
    hub.close()

threads = [threading.Thread(target=send) for _ in range(3)]
for thread in threads:
    thread.start()
context = multiprocessing.get_context("fork")
children = [context.Process(target=in_the_child) for _ in range(12)]
for child in children:
    child.start()
for child in children:
    child.join(20)
    child.kill()
over.set()
print([child.exitcode for child in children])
"""


@on_loop
async def test_a_fork_while_another_thread_sends(url: str) -> None:
    """No child waits for a thread that is not there."""
    async with cluster(1, bus_of(url)) as [node]:
        client = await node.client(uid="42")
        program = await asyncio.create_subprocess_exec(
            sys.executable,
            "-W",
            "ignore::DeprecationWarning",
            "-c",
            FORKING,
            url,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await program.communicate()
        node.hub.send_to_uid("42", END)

        assert out.decode() == f"{[0] * 12}\n"
        assert await client.read_to(END) == ["child"] * 12


def test_threads_share_an_attempt_to_connect() -> None:
    """With a bus that hangs, none waits for longer than one attempt takes; the next is another."""
    with (
        TemporaryDirectory(prefix="gateman-") as folder,
        socket.socket(socket.AF_UNIX) as listener,
        ThreadPoolExecutor(THREADS) as threads,
    ):
        listener.bind(f"{folder}/silent.sock")
        listener.listen()
        with SyncHub(f"local://{folder}/silent.sock", connect_timeout=1.0) as hub:
            all_begin = threading.Barrier(THREADS)

            def send() -> None:
                all_begin.wait(TIMEOUT)
                hub.send_to_all("nobody hears")

            for waiting in [threads.submit(send) for _ in range(THREADS)]:
                with pytest.raises(BusError, match="does not answer within 1 seconds"):
                    waiting.result(TIMEOUT)
            with pytest.raises(BusError, match="does not answer within 1 seconds"):
                hub.send_to_all("nobody hears")
        listener.settimeout(0)
        attempts = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                listener.accept()[0].close()
                attempts += 1
        assert attempts == 2


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("carrier-pigeon://roof", {}),
        ("local:///tmp/bus.sock", {"token": "x"}),
        ("local:///tmp/bus.sock", {"answer_timeout": 0}),
        ("local:///tmp/bus.sock", {"answer_timeout": float("inf")}),
    ],
)
def test_a_mistake_is_told_at_once(url: str, options: dict[str, float]) -> None:
    """Where it was made, and not with the first message."""
    with pytest.raises(ConfigError):
        SyncHub(url, **options)


def test_every_verb_tries_the_bus_anew() -> None:
    """Until it is there: a program that starts before its service need not end."""
    with TemporaryDirectory(prefix="gateman-") as folder:
        process = RouterProcess(Path(folder))
        with SyncHub(process.url) as hub:
            for _ in range(2):
                with pytest.raises(BusError, match=r"bus\.sock"):
                    hub.send_to_all("nobody hears")
            process.start()
            try:
                assert hub.count_clients() == 0
            finally:
                process.stop()


@pytest.mark.filterwarnings("error")
def test_a_closed_one_says_so(url: str) -> None:
    """Used or not, and closing it again does nothing; its thread has ended."""
    used, unused = SyncHub(url), SyncHub(url)
    used.send_to_all("nobody is there")
    for hub in (used, unused):
        hub.close()
        hub.close()
        with pytest.raises(HubError) as raised:
            hub.send_to_all("too late")
        assert str(raised.value) == "the hub is closed."
    assert "gateman hub" not in [thread.name for thread in threading.enumerate()]


def test_closing_ends_waiting_calls() -> None:
    """A thread that connects to what does not answer gets an error, and does not hang."""
    with (
        TemporaryDirectory(prefix="gateman-") as folder,
        socket.socket(socket.AF_UNIX) as listener,
        ThreadPoolExecutor(1) as threads,
    ):
        listener.bind(f"{folder}/silent.sock")
        listener.listen()
        hub = SyncHub(f"local://{folder}/silent.sock")
        waiting = threads.submit(hub.send_to_all, "nobody hears")
        client, _ = listener.accept()
        with client:
            hub.close()
            with pytest.raises(HubError, match="the hub is closed"):
                waiting.result(TIMEOUT)


@on_loop
async def test_on_the_event_loop_of_a_worker_it_does_not_wait_for_itself(url: str) -> None:
    """It would hang until its timeout, and the worker with it."""
    worker = Worker("websocket://127.0.0.1:0", bus=url)
    with SyncHub(url) as hub:
        async with serve(worker):
            with pytest.raises(HubError, match=r"would block the event loop .+: use gateman\.hub,"):
                hub.count_clients()

            assert await asyncio.to_thread(hub.count_clients) == 0
        assert hub.count_clients() == 0
