"""The history in JetStream, with real servers: Debian's, and a current one."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import nats
import nats.errors
import pytest
from nats.aio.client import Client

from gateman.bus.base import MAX_PENDING_SIZE, Bus
from gateman.bus.jetstream import JetStreamHistory
from gateman.bus.nats import nats_bus
from gateman.errors import BusError
from gateman.history.base import HistoryLimits, Position

from ..support.loop import eventually, on_loop
from ..support.nats import NatsServer, jetstream, nats_cluster, nats_server, newest_nats
from .contract import back
from .contract_of_history import HUNDRED, HistoryContract, Member, fill, numbers, payloads

T = TypeVar("T")

LOG = "gateman.test.=log.room"


class _Broker:
    def __init__(self, server: NatsServer) -> None:
        self._server = server

    def bus(self, *, max_pending_size: int | None = None) -> Bus:
        return nats_bus(self._server.url, max_pending_size=max_pending_size or MAX_PENDING_SIZE)

    def kill(self) -> None:
        self._server.kill()

    def restart(self) -> None:
        self._server.start()


class TestJetStream(HistoryContract):
    """The contract, kept with a server that is killed and started again."""

    TEXT_OF_ABSENCE = "nothing listens there"

    @pytest.fixture
    def broker(self, tmp_path: Path) -> Iterator[_Broker]:
        """Run Debian's server, which gives messages one by one."""
        with nats_server(tmp_path, jetstream(tmp_path)) as server:
            yield _Broker(server)


class TestNewJetStream(HistoryContract):
    """The contract, kept with a server that gives messages in pages."""

    TEXT_OF_ABSENCE = "nothing listens there"

    @pytest.fixture
    def broker(self, tmp_path: Path) -> Iterator[_Broker]:
        """Run a current server."""
        with nats_server(tmp_path, jetstream(tmp_path), command=newest_nats()) as server:
            yield _Broker(server)


@asynccontextmanager
async def served(
    folder: Path, count: int, config: str = "", *, command: str = ""
) -> AsyncIterator[list[Bus]]:
    """Run a server, Debian's if nothing else is said, and buses on it."""
    with nats_server(folder, config or jetstream(folder), command=command) as server:
        buses: list[Bus] = [nats_bus(server.url) for _ in range(count)]
        for bus in buses:
            await bus.start()
        try:
            yield buses
        finally:
            for bus in buses:
                await bus.stop()


async def operator(bus: Bus) -> Client:
    """Connect an independent client to the server of a bus."""
    return await nats.connect(bus.url.partition("?")[0])


async def ask(client: Client, verb: str, **request: object) -> dict[str, object]:
    """Ask JetStream something as an operator would."""
    reply = await client.request(f"$JS.API.{verb}", json.dumps(request).encode(), timeout=5)
    answer: dict[str, object] = json.loads(reply.data)
    assert "error" not in answer, answer
    return answer


@on_loop
async def test_a_stream_that_is_made_anew_is_a_new_epoch(tmp_path: Path) -> None:
    """Its numbers begin again, and no old position is complete."""
    async with served(tmp_path, 1) as (bus,):
        positions = await fill(bus, 3)
        member = Member(bus)
        await member.follow()
        client = await operator(bus)
        await ask(client, "STREAM.DELETE.gateman-test")
        with pytest.raises(BusError) as caught:
            await bus.history.append("room", b"", HUNDRED)
        again = await fill(bus, 3)
        found = [await bus.history.since("room", one, 100) for one in (*positions, again[0])]
        await client.close()

    assert member.lost_count == 1

    assert "JetStream does not answer" in caught.value.problem
    assert [one.is_complete for one in found] == [False, False, False, True]


@on_loop
async def test_what_was_dropped_is_not_complete(tmp_path: Path) -> None:
    """Whoever dropped it: the age of the stream, its size, an operator."""
    async with served(tmp_path, 1) as (bus,):
        positions = await fill(bus, 5)
        client = await operator(bus)
        await ask(client, "STREAM.PURGE.gateman-test", filter=LOG, keep=2)
        kept = [await bus.history.since("room", one, 100) for one in positions]
        await ask(client, "STREAM.PURGE.gateman-test", filter=LOG)
        none = [await bus.history.since("room", one, 100) for one in positions]
        (after,) = await fill(bus, 1, first=5)
        later = [await bus.history.since("room", one, 100) for one in (*positions, after)]
        fresh = await bus.history.since("room", none[0].position, 100)
        await client.close()

    # The fourth message is the oldest one that is left.
    assert [one.is_complete for one in kept] == [False, False, False, True, True]
    assert payloads(kept[3].messages) == numbers(4, 5)
    assert [one.is_complete for one in none] == [False] * 5
    assert [one.is_complete for one in later] == [False] * 5 + [True]
    assert (fresh.is_complete, payloads(fresh.messages)) == (True, [b"5"])


@on_loop
async def test_the_stream_grows_with_the_largest_channel(tmp_path: Path) -> None:
    """Never the other way, as other processes may have other limits."""
    async with served(tmp_path, 2) as (here, there):
        large, small = HistoryLimits(size=500, ttl=300), HistoryLimits(size=2, ttl=100_000)
        client = await operator(here)
        configs = []
        for bus, limits in ((here, small), (there, large), (here, small), (here, HUNDRED)):
            await bus.history.append("room", b"", limits)
            answer = await ask(client, "STREAM.INFO.gateman-test")
            config = answer["config"]
            assert isinstance(config, dict)
            configs.append((config["max_msgs_per_subject"], config["max_age"] // 10**9))
        await client.close()

    assert configs == [(4, 200_000), (502, 200_000), (502, 200_000), (502, 200_000)]


@on_loop
async def test_the_wrong_server(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without JetStream, the sentence says what to do, once in the log; the bus goes on."""
    async with served(tmp_path, 1, "max_payload: 1MB") as (bus,):
        problems = []
        for attempt in (
            bus.history.append("room", b"", HUNDRED),
            bus.history.since("room", Position("e", 1), 10),
            bus.history.read("room", limit=1),
            bus.history.remove("room"),
            bus.history.follow("room", lambda _: None, lambda: None),
        ):
            with pytest.raises(BusError) as caught:
                await attempt
            problems.append(caught.value.problem)
        await back(bus)

    assert [one.partition(" cannot be used: ")[2] for one in caplog.messages] == problems[:1]
    assert set(problems) == {
        "JetStream does not answer: it is not enabled for us (`jetstream {}` in the servers'"
        " configuration), or has no leader at the moment"
    }


@on_loop
async def test_missing_permissions(tmp_path: Path) -> None:
    """Those of the bus do not suffice; the sentence names what is missing, at once."""
    config = (
        f"{jetstream(tmp_path)}\n"
        "authorization { users: [{user: anna, password: x, permissions: {"
        ' publish: "gateman.test.>", subscribe: "gateman.test.>"}}] }'
    )
    with nats_server(tmp_path, config) as server:
        bus = nats_bus(server.url, user="anna", password="x")
        await bus.start()
        with pytest.raises(BusError) as caught:
            await bus.history.append("room", b"", HUNDRED)
        await back(bus)
        await bus.stop()

    assert caught.value.problem == (
        'it refuses: Permissions Violation for Publish to "$JS.API.STREAM.INFO.gateman-test"; the'
        " history needs permission to publish to $JS.API.> and gateman.test.>, and to subscribe to"
        " gateman.test.>"
    )


@on_loop
async def test_the_permissions_that_suffice(tmp_path: Path) -> None:
    """Those of the sentence; advisories need one more, and are done without."""
    config = (
        f"{jetstream(tmp_path)}\n"
        "authorization { users: [{user: anna, password: x, permissions: {"
        ' publish: ["gateman.test.>", "$JS.API.>"], subscribe: "gateman.test.>"}}] }'
    )
    with nats_server(tmp_path, config) as server:
        bus = nats_bus(server.url, user="anna", password="x")
        await bus.start()
        member = Member(bus)
        start = await member.follow()
        await fill(bus, 3)
        await eventually(lambda: len(member.got) == 3)
        missed = await bus.history.since("room", start, 10)
        await bus.stop()

    assert (missed.is_complete, payloads(missed.messages)) == (True, numbers(0, 3))


@on_loop
async def test_what_servers_lost_on_the_way_is_noticed(tmp_path: Path) -> None:
    """A message that is in the stream and did not come ends the following of a quiet channel."""
    async with served(tmp_path, 1, command=newest_nats()) as (bus,):
        member, level = Member(bus), Member(bus, "level")
        await member.follow()
        await level.follow()
        client = await operator(bus)
        # Between servers, a message is lost like this: it is stored, and not published again.
        info = await ask(client, "STREAM.INFO.gateman-test")
        config = info["config"]
        assert isinstance(config, dict)
        await ask(client, "STREAM.UPDATE.gateman-test", **{**config, "republish": None})
        await fill(bus, 1)
        await client.publish("$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.gateman-test", b"{}")
        await eventually(lambda: member.lost_count == 1)
        await client.close()

    assert isinstance(bus.history, JetStreamHistory)
    assert (member.got, level.lost_count) == ([], 0)


@on_loop
async def test_a_stream_of_somebody_else(tmp_path: Path) -> None:
    """It is not used, as nothing would be proved by it."""
    async with served(tmp_path, 1) as (bus,):
        client = await operator(bus)
        config = {"name": "gateman-test", "subjects": ["gateman.test.=log.*"]}
        await ask(client, "STREAM.CREATE.gateman-test", **config)
        with pytest.raises(BusError) as caught:
            await bus.history.append("room", b"", HUNDRED)
        await client.close()

    assert caught.value.problem == (
        "its stream gateman-test was not made by this version of gateman: delete it, or give the"
        " bus another name"
    )


@on_loop
async def test_too_few_servers(tmp_path: Path) -> None:
    """The option that was too much is named."""
    with nats_server(tmp_path, jetstream(tmp_path)) as server:
        bus = nats_bus(server.url, history_replicas=3)
        await bus.start()
        with pytest.raises(BusError) as caught:
            await bus.history.append("room", b"", HUNDRED)
        await bus.stop()

    assert caught.value.problem.startswith("JetStream refuses: replicas > 1 not supported")
    assert "history_replicas=3" in caught.value.problem


@on_loop
async def test_a_cluster_loses_its_leader(tmp_path: Path) -> None:
    """Everything that was confirmed is there, in order, and followers have it or are told."""
    limits = HistoryLimits(size=5000, ttl=300)
    with nats_cluster(tmp_path, has_jetstream=True) as servers:
        places = ",".join(server.place for server in servers)
        here, there = (nats_bus(f"nats://{places}?name=test") for _ in range(2))
        await here.start()
        await there.start()
        member = Member(there)
        start = await patiently(member.follow)
        client = await nats.connect([server.place for server in servers])
        info = await ask(client, "STREAM.INFO.gateman-test")
        cluster = info["cluster"]
        assert isinstance(cluster, dict)
        leader = next(one for one in servers if one.name == cluster["leader"])
        confirmed: list[bytes] = []
        for number in itertools.count():
            try:
                await here.history.append("room", b"%d" % number, limits)
            except BusError:
                await back(here)
            else:
                confirmed.append(b"%d" % number)
            if confirmed[-1:] == [b"20"]:
                leader.kill()
            if len(confirmed) == 60:
                break
        missed = await patiently(lambda: there.history.since("room", start, 5000))
        stored = payloads(missed.messages)
        await eventually(
            lambda: member.lost_count == 1 or len(member.got) == len(stored), within=60
        )
        await client.close()
        for bus in (here, there):
            await bus.stop()

    assert missed.is_complete
    # What was not confirmed may be there, too.
    assert [one for one in stored if one in set(confirmed)] == confirmed
    assert stored == sorted(stored, key=int)
    assert member.payloads == stored[: len(member.got)]


@on_loop
async def test_a_server_that_has_dropped_messages_makes_no_hole(tmp_path: Path) -> None:
    """
    A recovery has everything, or says that it has not, whichever servers answer.

    A server of NATS 2.9 that starts again drops what the stream was not made for, although it is to
    keep more since.
    """
    with nats_cluster(tmp_path, has_jetstream=True) as servers:
        places = [one.place for one in servers]
        bus = nats_bus(f"nats://{','.join(places)}?name=test")
        await bus.start()
        client = await nats.connect(places)
        small = HistoryLimits(size=2, ttl=300)
        positions = [await patiently(lambda: bus.history.append("room", b"0", small))]
        positions += await fill(bus, 60, first=1)
        leader = await _leader(client)
        for server in servers:
            if server.name != leader:
                server.kill()
                positions += await patiently(partial(fill, bus, 1, first=len(positions)))
                server.start()
                await _leader(client)
        # From the last one on, so that nothing of the recoveries before is of use.
        found = [
            await patiently(partial(bus.history.since, "room", position, 100))
            for position in reversed(positions)
        ]
        await client.close()
        await bus.stop()

    end = len(positions)
    wrong = [
        (end - number, payloads(missed.messages))
        for number, missed in enumerate(found)
        if missed.is_complete and payloads(missed.messages) != numbers(end - number, end)
    ]
    assert wrong == []
    assert any(missed.is_complete for missed in found)


@on_loop
async def test_an_election_interrupts_a_recovery(tmp_path: Path) -> None:
    """What one leader has says nothing of what the next one has; the client tries again."""
    async with served(tmp_path, 1) as (bus,):
        (first, *_) = await fill(bus, 90)
        client = await operator(bus)
        recovering = asyncio.ensure_future(bus.history.since("room", first, 100))
        while not recovering.done():
            await client.publish("$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.gateman-test", b"{}")
            await client.flush()
        found = await bus.history.since("room", first, 100)
        await client.close()

    with pytest.raises(BusError, match="got another leader"):
        recovering.result()
    assert payloads(found.messages) == numbers(1, 90)


async def _leader(client: Client) -> str:
    """Wait until the other two servers are up to date; return who leads the stream."""
    while True:
        with contextlib.suppress(nats.errors.Error, AssertionError):
            match await ask(client, "STREAM.INFO.gateman-test"):
                case {"cluster": {"leader": str(leader), "replicas": [one, two]}}:
                    if one["current"] and two["current"]:
                        return leader
        await asyncio.sleep(0.1)


@on_loop
async def test_the_stream_is_made_for_the_largest_channel(tmp_path: Path) -> None:
    """Also if a smaller one is followed first."""
    async with served(tmp_path, 1) as (bus,):
        bus.history.expect(HUNDRED)
        bus.history.expect(HistoryLimits(size=500, ttl=100_000))
        await Member(bus).follow()
        client = await operator(bus)
        info = await ask(client, "STREAM.INFO.gateman-test")
        await client.close()

    config = info["config"]
    assert isinstance(config, dict)
    assert (config["max_msgs_per_subject"], config["max_age"]) == (502, 200_000 * 10**9)


async def patiently(attempt: Callable[[], Awaitable[T]]) -> T:
    """Try until the cluster has elected its leaders."""
    while True:
        try:
            return await attempt()
        except BusError:
            await asyncio.sleep(0.1)
