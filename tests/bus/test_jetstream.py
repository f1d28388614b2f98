"""The history in JetStream, with real servers: Debian's, and a current one."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import nats
import nats.errors
import pytest

from gateman.bus.base import MAX_PENDING_SIZE, Bus
from gateman.bus.nats import nats_bus
from gateman.errors import BusError
from gateman.history.base import HistoryLimits

from ..support.jetstream import ask, patiently
from ..support.loop import eventually, on_loop
from ..support.nats import NatsServer, jetstream, nats_cluster, nats_server, newest_nats
from .contract import back
from .contract_of_history import HistoryContract, Member, payloads


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
