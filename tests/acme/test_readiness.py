"""Whether all nodes can answer a challenge, asked over a real NATS server."""

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from gateman.acme.options import AcmeOptions
from gateman.acme.readiness import AnswerFile, answer, question, why_not_ready
from gateman.acme.storage import Storage
from gateman.bus import open_bus
from gateman.cluster.hub import Hub
from gateman.findings import Finding
from tests.support.nats import NatsServer, nats_server
from tests.support.server import serve

FILES = [
    AnswerFile(kind="tls-alpn-01", name="a.test", digest=hashlib.sha256(b"a").hexdigest()),
    AnswerFile(kind="http-01", name="t" * 22, digest=hashlib.sha256(b"b").hexdigest()),
]


def options_in(folder: Path) -> AcmeOptions:
    return AcmeOptions(domains=("a.test", "b.test"), storage=str(folder))


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A storage with the answers."""
    storage = Storage.prepare(tmp_path / "shared")
    storage.write_challenge("tls-alpn-01", "a.test", b"a")
    storage.write_challenge("http-01", "t" * 22, b"b")
    return storage.folder


def test_a_node_that_reads_the_same_files(shared: Path) -> None:
    options = options_in(shared)

    assert answer([options], question(options, FILES)) == ""


def test_a_node_with_another_folder_says_where_it_has_looked(tmp_path: Path) -> None:
    options = options_in(Storage.prepare(tmp_path / "own").folder)

    said = answer([options], question(options, FILES))

    assert said is not None
    assert said.endswith(f"({tmp_path}/own)")


def test_a_node_with_an_old_answer(shared: Path) -> None:
    Storage(shared).write_challenge("tls-alpn-01", "a.test", b"of the last order")
    options = options_in(shared)

    assert answer([options], question(options, FILES)) != ""


@pytest.mark.parametrize("text", ["", "x", "a b", "é" * 100])
def test_a_node_that_does_not_serve_the_certificate(shared: Path, text: str) -> None:
    other = AcmeOptions(domains=("b.test",), storage=str(shared))

    assert answer([], question(options_in(shared), FILES)) is None
    assert answer([other], question(options_in(shared), FILES)) is None
    assert answer([other], text) is None


@pytest.mark.parametrize("bus", [None, "memory://", "local:///run/bus.sock", {"url": "local:///b"}])
def test_on_one_machine_nobody_has_to_be_asked(bus: str | None) -> None:
    assert why_not_ready(bus, options_in(Path("/nonexistent")), FILES) is None


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    with nats_server(tmp_path) as server:
        yield server


def ask(nats: NatsServer, shared: Path, folders: Sequence[Path | None]) -> Finding | None:
    """Ask nodes, one for each folder; ``None`` stands for one without certificates."""

    async def run() -> Finding | None:
        async with AsyncExitStack() as stack:
            for folder in folders:
                hub = Hub()
                await hub.start(open_bus(nats.url), needs_bus=True)
                stack.push_async_callback(hub.stop)
                if folder is not None:
                    certificates = [options_in(folder)]
                    hub.local_node.local_clients.check_challenges = partial(answer, certificates)
            ask_all = partial(why_not_ready, {"url": nats.url}, options_in(shared), FILES)
            return await asyncio.to_thread(partial(ask_all, patience=0.0))

    return asyncio.run(run())


def test_nodes_that_share_the_storage_are_ready(nats: NatsServer, shared: Path) -> None:
    assert ask(nats, shared, [shared, None, shared]) is None


def test_separate_storages_are_a_finding(nats: NatsServer, shared: Path, tmp_path: Path) -> None:
    finding = ask(nats, shared, [shared, tmp_path / "own"])

    assert finding is not None
    assert finding.code == "ACME_STORAGE_SEPARATE"
    assert f"({tmp_path}/own) cannot read" in finding.problem


@pytest.mark.parametrize("is_shared", [True, False])
def test_a_worker_says_what_it_reads(
    nats: NatsServer, shared: Path, tmp_path: Path, *, is_shared: bool
) -> None:
    folder = shared if is_shared else Storage.prepare(tmp_path / "own").folder
    declared = {"domains": ["a.test", "b.test"], "storage": str(folder)}

    async def run() -> Finding | None:
        bus = open_bus(nats.url)
        async with serve("wss://127.0.0.1:0", {"ssl": {"acme": declared}}, bus=bus):
            ask_all = partial(why_not_ready, nats.url, options_in(shared), FILES)
            return await asyncio.to_thread(partial(ask_all, patience=0.0))

    finding = asyncio.run(run())

    assert (finding is None) is is_shared


def test_nobody_is_ready_while_the_bus_is_away(nats: NatsServer, shared: Path) -> None:
    nats.kill()

    finding = why_not_ready(nats.url, options_in(shared), FILES)

    assert finding is not None
    assert finding.code == "ACME_PROCESSES"
    assert "127.0.0.1" in finding.problem
