"""The report of a process, for a real service with real clients."""

import mmap
import re
import resource
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateman import Connection
from gateman.master.process_stats import ProcessStats, memory
from gateman.runtime.timer import Timers
from gateman.runtime.worker_service import WorkerService
from tests.support.loop import on_loop
from tests.support.server import Journal, authority, serve


def echo(connection: Connection, message: str | bytes) -> None:
    """Answer with the same."""
    connection.send(message)


@on_loop
async def test_a_process_that_has_just_begun() -> None:
    """Every number is there, and nought."""
    async with serve() as server:
        report = ProcessStats(server.service, Timers()).report(0.0)
        assert report["memory"] > 10 << 20
        assert report == {
            "memory": report["memory"],
            "connections": 0,
            "messages": 0,
            "qps": 0.0,
            "send_fail": 0,
            "timers": 0,
            "lag": 0.0,
            "counts": {},
            "hub": {},
            "certificate_days": None,
        }


@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
@on_loop
async def test_messages_and_connections_are_counted(*, secure: bool) -> None:
    """Messages of closed connections still count, the connections do not."""
    journal = Journal()
    async with serve(secure=secure, **journal.callbacks(on_message=echo)) as server:
        stats = ProcessStats(server.service, Timers())
        async with server.client() as one, server.client() as other:
            for client in (one, one, other):
                await client.send("hello")
                await client.recv()

            assert (stats.report(0.0)["connections"], stats.report(0.0)["messages"]) == (2, 3)
        await journal.until("on_close", count=2)

        assert (stats.report(0.0)["connections"], stats.report(0.0)["messages"]) == (0, 3)
        assert stats.report(0.0)["counts"]["connections"] == 2


@on_loop
async def test_the_rate_is_of_the_last_seconds() -> None:
    """Messages per second between the first and the last of six beats; older ones are forgotten."""
    async with serve(on_message=echo) as server, server.client() as client:
        stats = ProcessStats(server.service, Timers())
        rates = []
        for second in range(9):
            for _ in range(10 if second == 1 else 0):
                await client.send("hello")
                await client.recv()
            rates.append(stats.heartbeat(100.0 + second)["qps"])

        assert rates == [0.0, 10.0, 5.0, 3.3, 2.5, 2.0, 0.0, 0.0, 0.0]
        assert stats.report(0.0)["qps"] == 0.0


class Crowded(WorkerService):
    """A service that claims to have very many connections."""

    present = 0
    received = 0

    @property
    def present_count(self) -> int:
        """As many as the test wants."""
        return self.present

    @property
    def message_count(self) -> int:
        """As many as the test wants."""
        return self.received


@on_loop
async def test_messages_of_very_many_are_added_up_less_often() -> None:
    """Adding them up takes time in which no client is served; the rate is that between two sums."""
    async with serve() as server:
        service = Crowded(server.service.settings, {}, None, {})
        service.present = 20_000
        stats = ProcessStats(service, Timers())
        seen = []
        for second in range(8):
            service.received = 100 * second
            report = stats.heartbeat(float(second))
            seen.append((report["messages"], report["qps"]))

        assert [messages for messages, _ in seen] == [0, 0, 200, 200, 400, 400, 600, 600]
        assert [qps for _, qps in seen] == [0.0, 0.0, *[100.0] * 6]

        service.present = 10
        service.received = 1000

        assert stats.report(7.5)["messages"] == 1000


@on_loop
async def test_the_lag_is_the_worst_of_the_last_beats() -> None:
    """What came late is seen from then on, for five beats."""
    async with serve() as server:
        stats = ProcessStats(server.service, Timers())
        lags = []
        due_at = stats.sample(0.0)
        for beat in range(9):
            due_at = stats.sample(due_at + (2.34567 if beat == 2 else 0.001))
            lags.append(stats.heartbeat(due_at)["lag"])

        assert lags == [0.001, 0.001, *[2.3457] * 5, 0.001, 0.001]


@on_loop
async def test_a_sample_that_is_overdue_counts() -> None:
    """The first report after a long callback shows it, not only the next one."""
    async with serve() as server:
        stats = ProcessStats(server.service, Timers())
        due_at = stats.sample(10.0)

        assert stats.report(due_at)["lag"] == 0.0
        assert stats.report(due_at + 0.3)["lag"] == 0.3
        assert stats.report(due_at)["lag"] == 0.0


@on_loop
async def test_timers_and_what_they_skipped() -> None:
    """Runs that were left out are a cause like those of the service."""
    async with serve() as server:
        timers = Timers()
        timers.add(1000.0, list)
        timers.add(1000.0, list)
        stats = ProcessStats(server.service, timers)

        assert (stats.report(0.0)["timers"], stats.report(0.0)["counts"]) == (2, {})

        timers.skipped_count = 3
        server.service.counts["dropped_slow_peer"] = 7

        assert stats.report(0.0)["counts"] == {"dropped_slow_peer": 7, "timer_skipped": 3}
        assert stats.report(0.0)["send_fail"] == 7
        assert "timer_skipped" not in server.service.counts


@on_loop
async def test_the_counts_of_the_hub_are_reported() -> None:
    """Such as what was lost on its way to the clients of this process."""
    counts = Counter({"received": 5})
    async with serve() as server:
        stats = ProcessStats(server.service, Timers(), counts)
        counts["lost"] += 2

        assert stats.report(0.0)["hub"] == {"received": 5, "lost": 2}


@on_loop
async def test_days_of_the_certificate_that_expires_first(tmp_path: Path) -> None:
    """Of several names, the one that needs to be renewed."""
    soon = datetime.now(UTC) + timedelta(days=9, hours=12)
    default = authority().issue(tmp_path, expires_at=soon + timedelta(days=100))
    other = authority().issue(tmp_path, "example.test", stem="other", expires_at=soon)
    context = {
        "ssl": {
            "local_cert": str(default.certificate),
            "local_pk": str(default.key),
            "SNI_server_certs": {
                "example.test": {
                    "local_cert": str(other.certificate),
                    "local_pk": str(other.key),
                }
            },
        }
    }
    async with serve(secure=True, context=context) as server:
        assert ProcessStats(server.service, Timers()).report(0.0)["certificate_days"] == 9
        server.lines()


def test_memory_is_what_is_resident() -> None:
    """It grows with pages that are written to, and shrinks with those given back."""
    before = memory()
    with mmap.mmap(-1, 64 << 20) as block:
        untouched = memory()
        for page in range(0, len(block), mmap.PAGESIZE):
            block[page] = 1
        touched = memory()
    after = memory()

    assert untouched - before < 8 << 20
    assert touched - before > 56 << 20
    assert touched - after > 56 << 20


def test_memory_agrees_with_the_system() -> None:
    """It is the figure that ``ps`` shows, and no more than the most there ever was."""
    shown = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert shown is not None

    assert memory() == pytest.approx(int(shown[1]) << 10, abs=8 << 20)
    assert memory() <= (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) + (8 << 20)
