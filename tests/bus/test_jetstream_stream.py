"""The stream of a service: how it is made and checked, and what is said if that fails."""

from pathlib import Path

import pytest

from gateman.bus.nats import nats_bus
from gateman.errors import BusError
from gateman.history.base import HistoryLimits, Position

from ..support.jetstream import ask, operator, served
from ..support.loop import eventually, on_loop
from ..support.nats import jetstream, nats_server
from .contract import back
from .contract_of_history import HUNDRED, Member, fill, numbers, payloads


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
