"""The process that orders certificates: first orders by each challenge, from a real authority."""

import signal
import subprocess
import sys
import threading
import time

import msgspec
import pytest

from gateman.acme.child import run
from gateman.acme.job import Job, Report
from gateman.acme.storage import Storage
from tests.acme.conftest import Declare
from tests.support.altered_authority import AlteredAuthority, Request
from tests.support.deadlines import TIMEOUT
from tests.support.pebble import BLOCKED


def order_in_process(job: Job) -> Report:
    ended = subprocess.run(
        [sys.executable, "-m", "gateman.acme.child"],
        input=msgspec.json.encode(job),
        capture_output=True,
        timeout=TIMEOUT,
        check=True,
    )
    assert ended.stderr == b""
    return msgspec.json.decode(ended.stdout, type=Report)


def test_orders_a_certificate_in_a_process_of_its_own(declare: Declare, storage: Storage) -> None:
    options = declare("one.test", "two.test")

    report = order_in_process(Job(certificates=(options,)))

    stored = storage.read_certificate(options.id)
    assert stored is not None
    assert set(stored.facts.names) == {"one.test", "two.test"}
    assert [line.level for line in report.log] == ["info", "info"]
    assert "terms of service" in report.log[0].text
    assert report.next_at == storage.read_state(options.id).next_at
    assert [one.names for one in report.certificates] == [("one.test", "two.test")]
    assert report.orders == ((report.certificates[0].path, "success", 1),)


def test_an_address_is_proven_by_its_reverse_name(declare: Declare, storage: Storage) -> None:
    options = declare("127.0.0.1")

    run(Job(certificates=(options,)))

    stored = storage.read_certificate(options.id)
    assert stored is not None
    assert stored.facts.addresses == ("127.0.0.1",)


def test_only_one_process_orders(declare: Declare, storage: Storage) -> None:
    """The others, on other machines too, come again later."""
    options = declare("a.test")

    with storage.locked():
        report = run(Job(certificates=(options,)))
        forced = run(Job(certificates=(options,), is_forced=True))

    assert report.next_at == pytest.approx(time.time() + 60, abs=30)
    assert report.log == ()
    assert [line.level for line in forced.log] == ["warning"]
    assert storage.read_certificate(options.id) is None


def test_a_process_that_is_killed_leaves_nothing_behind(
    declare: Declare, storage: Storage, altered: AlteredAuthority
) -> None:
    """Neither a lock nor an answer to a challenge stays."""
    options = declare("a.test", directory=altered.directory, directory_cafile=str(altered.cafile))
    is_validating, end = threading.Event(), threading.Event()

    def hang(request: Request) -> None:
        if request.path.startswith("/chalZ/"):
            is_validating.set()
            end.wait(TIMEOUT)

    altered.alter = hang
    job = msgspec.json.encode(Job(certificates=(options,)))
    with subprocess.Popen(
        [sys.executable, "-m", "gateman.acme.child"], stdin=subprocess.PIPE
    ) as killed:
        assert killed.stdin is not None
        killed.stdin.write(job)
        killed.stdin.close()
        assert is_validating.wait(TIMEOUT)
        killed.kill()
    left = list((storage.folder / "challenges").rglob("a.test"))
    end.set()
    altered.alter = lambda _: None
    again = run(Job(certificates=(options,), is_first=True))
    quiet = run(Job(certificates=(options,)))
    altered.requests.clear()
    run(Job(certificates=(options,)), clock=lambda: again.next_at + 1)

    assert len(left) == 1
    assert [line.text.partition("; ")[0] for line in again.log] == [
        "acme: a.test: there is no certificate yet: the last order was cut off"
    ]
    assert quiet.log == ()
    # It counts as an order that has failed.
    assert again.next_at == pytest.approx(time.time() + 60, abs=45)
    assert [one.code for one in storage.read_state(options.id).attempts] == [
        "ACME_PROCESS_FAILED",
        "",
    ]
    assert list((storage.folder / "challenges").rglob("a.test")) == []
    assert storage.read_certificate(options.id) is not None


def test_nothing_is_ordered_that_could_not_be_stored(
    declare: Declare, storage: Storage, altered: AlteredAuthority
) -> None:
    options = declare("a.test", directory=altered.directory, directory_cafile=str(altered.cafile))
    (storage.folder / "certificates").write_text("a file in its place")

    report = run(Job(certificates=(options,)))

    assert "ACME_STORAGE" in report.log[-1].text
    assert altered.requests == []
    assert report.next_at == pytest.approx(time.time() + 300, abs=30)


def test_a_process_that_is_told_to_end_orders_at_its_next_start(
    declare: Declare, storage: Storage, altered: AlteredAuthority
) -> None:
    options = declare("a.test", directory=altered.directory, directory_cafile=str(altered.cafile))

    def end(request: Request) -> None:
        if request.path == "/order-plz":
            signal.raise_signal(signal.SIGUSR1)

    altered.alter = end
    before = signal.signal(signal.SIGUSR1, lambda *_: sys.exit(1))
    try:
        with pytest.raises(SystemExit):
            run(Job(certificates=(options,)))
    finally:
        signal.signal(signal.SIGUSR1, before)
    altered.alter = lambda _: None
    run(Job(certificates=(options,)))

    assert len(storage.read_state(options.id).attempts) == 2
    assert storage.read_certificate(options.id) is not None


def test_one_certificate_that_fails_does_not_keep_the_others(
    declare: Declare, storage: Storage
) -> None:
    bad, good = declare(BLOCKED), declare("a.test")

    report = run(Job(certificates=(bad, good)))

    assert storage.read_certificate(good.id) is not None
    assert [one.problem is None for one in report.certificates] == [False, True]


def test_what_is_no_job_is_refused() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "gateman.acme.child"],
        input=b'{"certificates": 1}',
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )

    assert ended.returncode == 2
    assert b"its input is not a job" in ended.stderr
