"""The process that orders certificates: first orders by each challenge, from a real authority."""

import subprocess
import sys

import msgspec

from gateman.acme.child import run
from gateman.acme.job import Job, Report
from gateman.acme.storage import Storage
from tests.acme.conftest import Declare
from tests.support.deadlines import TIMEOUT


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


def test_an_address_is_proven_by_its_reverse_name(declare: Declare, storage: Storage) -> None:
    options = declare("127.0.0.1")

    run(Job(certificates=(options,)))

    stored = storage.read_certificate(options.id)
    assert stored is not None
    assert stored.facts.addresses == ("127.0.0.1",)


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
