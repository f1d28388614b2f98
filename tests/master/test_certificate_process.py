"""The process that orders certificates: started when due, reported on, ended with the master."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateman.acme.job import Job, Report, time_limit
from gateman.acme.options import parse
from gateman.acme.storage import Storage
from gateman.master.certificate_process import CertificateProcess, pause_after
from gateman.master.privileges import Identity
from tests.support.master import descendants, is_alive, until
from tests.support.ports import free_port

NOW = 1.8e9

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")


@pytest.mark.parametrize(
    ("next_at", "failures", "wanted"),
    [
        (NOW + 600, 0, 600),
        (NOW - 600, 0, 1),
        (NOW + 1e9, 0, 86_400),
        (None, 1, 60),
        (None, 2, 300),
        (None, 9, 3600),
    ],
)
def test_when_it_is_started_again(next_at: float | None, failures: int, wanted: float) -> None:
    report = None if next_at is None else Report(next_at=next_at)

    assert pause_after(report, failures, now=NOW) == wanted


def job(folder: Path, **more: Any) -> Job:
    """Order from an authority that is away."""
    value = {
        "domains": "a.test",
        "directory": f"https://127.0.0.1:{free_port()}/dir",
        "storage": str(folder),
        **more,
    }
    return Job(certificates=parse(value, folder=folder, default_storage=folder))


@contextmanager
def made(job: Job, identity: Identity | None = None) -> Iterator[CertificateProcess]:
    """Make a process that is due, and end it behind the block."""
    process = CertificateProcess(job, identity)
    process.begin()
    try:
        yield process
    finally:
        process.close()


def wait_for_end(process: CertificateProcess, is_ended: Callable[[], bool]) -> None:
    """Reap as a master does."""

    def ended() -> bool:
        process.reap(time.monotonic())
        return is_ended()

    until(ended)


def test_it_is_not_started_before_there_is_somebody_to_answer(tmp_path: Path) -> None:
    # The servers of other tests may run, too.
    before = descendants(os.getpid())
    process = CertificateProcess(job(tmp_path), None)
    process.tick(time.monotonic())

    assert (process.due_at, descendants(os.getpid())) == (None, before)


def test_what_it_reports_is_logged_and_kept_to(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An authority that is away is asked again later."""
    folder = Storage.prepare(tmp_path / "acme").folder
    with made(job(folder)) as process, caplog.at_level(logging.INFO):
        begun_at = time.monotonic()
        process.tick(begun_at)
        wait_for_end(
            process, lambda: process.due_at is not None and process.due_at < begun_at + 300
        )

        assert process.due_at is not None
        assert process.due_at > time.monotonic() + 30
        [record] = caplog.records
        assert record.message.startswith("acme: a.test: ")
        assert "ACME_" in record.message
        [certificate] = process.certificates
        assert process.order_counts == {(certificate.path, "failure"): 1}


def test_a_process_without_a_report_is_told_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with made(Job(certificates=())) as process:
        process.tick(time.monotonic())
        wait_for_end(process, lambda: bool(caplog.records))

        assert process.due_at is not None
        assert 50 < process.due_at - time.monotonic() <= 60
    [record] = caplog.records
    assert record.message == (
        "the process that orders certificates has ended with 1, and without a report: see the lines"
        " of the log above; it is started again by itself (ACME_PROCESS_FAILED)"
    )


def test_it_ends_with_the_master(tmp_path: Path) -> None:
    folder = Storage.prepare(tmp_path / "acme").folder
    with made(job(folder)) as process:
        before = set(descendants(os.getpid()))
        process.tick(time.monotonic())
        [pid] = set(descendants(os.getpid())) - before
        process.close()

        assert not is_alive(pid)


def test_many_certificates_have_time_for_their_orders(tmp_path: Path) -> None:
    many = job(tmp_path, domains="a.test").certificates * 20
    with made(Job(certificates=many)) as process:
        now = time.monotonic()
        process.tick(now)

        assert process.due_at is not None
        assert process.due_at - now > time_limit(process.job) > 3600


def test_one_that_is_stuck_is_killed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with made(job(tmp_path)) as process:
        process.tick(time.monotonic())
        assert process.due_at is not None
        process.tick(process.due_at)
        wait_for_end(process, lambda: process.due_at is not None)

    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "the process that orders certificates is stuck, and is killed",
        "the process that orders certificates has ended with -9, and without a report",
    ]
