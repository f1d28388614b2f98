"""The master's part of ACME: storages, listeners of HTTP-01, and what cannot be."""

import logging
import os
import socket
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateman import Worker
from gateman.acme.job import Job
from gateman.acme.storage import Storage
from gateman.acme.storage_folder import why_ephemeral
from gateman.errors import ConfigError
from gateman.master.certificate_orders import CertificateOrders
from gateman.master.plan import WorkerPlan, plan
from gateman.master.privileges import account
from tests.support.master import descendants, is_alive, until
from tests.support.ports import free_port

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")


def worker(storage: Path, *domains: str, port: int = 443, acme: Any = (), **options: Any) -> Worker:
    value = {"domains": domains or "a.test", "storage": str(storage), **dict(acme)}
    return Worker(f"wss://127.0.0.1:{port}", acme=value, **options)


def planned(*workers: Worker) -> list[WorkerPlan]:
    return plan(workers, now=0.0)


def refusal(plans: Sequence[WorkerPlan]) -> str:
    with pytest.raises(ConfigError) as caught:
        CertificateOrders(plans)
    return str(caught.value)


def jobs(orders: CertificateOrders) -> list[Job]:
    return [one.job for one in orders.processes]


def test_workers_of_one_storage_have_one_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is ordered before the processes serve."""
    plans = planned(
        worker(tmp_path / "one", "a.test", bus="nats://127.0.0.1:4222?name=chat"),
        Worker("ws://127.0.0.1:1"),
        worker(tmp_path / "one", "b.test", port=8443),
        worker(tmp_path / "two", "c.test", port=9443),
    )
    with caplog.at_level(logging.INFO):
        orders = CertificateOrders(plans)

    found = [(job.bus, [one.domains for one in job.certificates]) for job in jobs(orders)]
    assert found == [
        ("nats://127.0.0.1:4222?name=chat", [("a.test",), ("b.test",)]),
        (None, [("c.test",)]),
    ]
    assert orders.due_at is not None
    assert orders.due_at > time.monotonic() + 60
    orders.begin()
    assert orders.due_at <= time.monotonic()
    [first, *_] = [one.message for one in caplog.records if one.levelno == logging.INFO]
    assert first == f"acme: keys and certificates are in {tmp_path / 'one'}"
    [first, *_] = [one.message for one in caplog.records if one.levelno == logging.WARNING]
    reason = why_ephemeral(tmp_path / "one")
    assert first.startswith(f"acme.storage, {tmp_path / 'one'}, {reason}")


def test_a_worker_that_does_not_start_keeps_no_other_from_its_certificates(tmp_path: Path) -> None:
    away = {"directory": f"https://127.0.0.1:{free_port()}/dir"}
    orders = CertificateOrders(planned(worker(tmp_path / "acme", acme=away)))
    assert orders.due_at is not None
    # The servers of other tests may run, too.
    before = set(descendants(os.getpid()))
    orders.tick(orders.due_at - 1)
    assert set(descendants(os.getpid())) == before
    orders.tick(orders.due_at)
    [pid] = set(descendants(os.getpid())) - before
    orders.close()

    assert not is_alive(pid)


def test_the_storage_is_made_for_its_user_alone(tmp_path: Path) -> None:
    CertificateOrders(planned(worker(tmp_path / "acme")))

    assert stat.S_IMODE((tmp_path / "acme").stat().st_mode) == 0o700


@needs_root
def test_the_storage_belongs_to_the_user_of_the_processes(tmp_path: Path) -> None:
    CertificateOrders(planned(worker(tmp_path / "acme", user="nobody")))

    assert (tmp_path / "acme").stat().st_uid == account("nobody").uid


@needs_root
def test_users_do_not_share_a_storage(tmp_path: Path) -> None:
    plans = planned(
        worker(tmp_path / "acme", user="nobody"), worker(tmp_path / "acme", "b.test", port=8443)
    )

    assert refusal(plans) == (
        f"workers of different users have certificates in {tmp_path / 'acme'}, which only one of"
        " them can read: give each 'storage' in acme, or the same user."
    )


def test_one_name_is_declared_in_one_way(tmp_path: Path) -> None:
    """As `check` says, too."""
    with pytest.raises(ConfigError, match=r"begin with the name 'a\.test'"):
        planned(
            worker(tmp_path / "acme"),
            worker(tmp_path / "acme", port=8443, acme={"key_type": "rsa2048"}),
        )


def test_a_storage_that_cannot_be_made_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert "cannot be used" in refusal(planned(worker(tmp_path / "file" / "acme")))


def test_http_is_listened_on_once(tmp_path: Path) -> None:
    """All processes of the workers that declare the address accept from the same socket."""
    http = {"http": f"127.0.0.1:{free_port()}"}
    orders = CertificateOrders(
        planned(
            worker(tmp_path, "a.test", acme=http),
            worker(tmp_path, "b.test", port=8443),
            worker(tmp_path, "c.test", port=9443, acme=http),
        )
    )
    first, second, third = map(orders.http_descriptors, range(3))
    with socket.socket(fileno=os.dup(first[0])) as sock:
        name = sock.getsockname()
    orders.close()

    assert (len(first), second, third) == (1, [], first)
    assert name == ("127.0.0.1", int(http["http"].rpartition(":")[2]))


def test_a_port_in_use_is_said_to_be_that_of_http(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        plans = planned(worker(tmp_path, acme={"http": f"127.0.0.1:{port}"}))

        assert refusal(plans).startswith(
            f"acme.http: websocket://127.0.0.1:{port}: the port is in use by another program: "
        )


def test_http_does_not_listen_where_a_worker_does(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two workers listen on one port"):
        planned(worker(tmp_path, port=8080, acme={"http": "0.0.0.0:8080"}))


def test_sockets_of_systemd_are_used_and_left(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as passed:
        http = f"127.0.0.1:{passed.getsockname()[1]}"
        orders = CertificateOrders(planned(worker(tmp_path, acme={"http": http})), [passed])
        assert orders.http_descriptors(0) == orders.descriptors == [passed.fileno()]
        orders.close()
        assert passed.fileno() > 0


def declared(*workers: Worker) -> list[list[Any]]:
    """What the processes of workers report."""
    return [msgspec.to_builtins(one.settings.acme) for one in planned(*workers) if one.settings]


def test_a_reload_may_change_all_but_the_places(tmp_path: Path) -> None:
    """The master has made them: a storage, and the sockets of HTTP-01."""
    storage = tmp_path / "acme"
    before, same, *others = (
        found.acme_places
        for found in planned(
            worker(storage),
            worker(storage, "b.test", port=1),
            worker(tmp_path / "other", "c.test", port=2),
            worker(storage, "d.test", port=3, acme={"http": "0.0.0.0:80"}),
            Worker("ws://127.0.0.1:4"),
        )
    )

    assert before == same
    assert before not in others


def test_what_is_declared_anew_is_ordered_when_it_is_applied(tmp_path: Path) -> None:
    orders = CertificateOrders(planned(worker(tmp_path), worker(tmp_path, "b.test", port=8443)))
    orders.begin()
    [process] = orders.processes
    process.due_at = None
    [same] = declared(worker(tmp_path))
    [longer] = declared(worker(tmp_path, "a.test", "c.test"))
    orders.declare(0, same)
    orders.apply()
    assert process.due_at is None

    orders.declare(0, longer)
    assert [one.domains for one in process.job.certificates] == [("a.test",), ("b.test",)]
    orders.apply()
    assert [one.domains for one in process.job.certificates] == [("a.test", "c.test"), ("b.test",)]
    assert process.due_at is not None
    assert {tuple(one["names"]) for one in orders.described()} == {
        ("a.test", "c.test"),
        ("b.test",),
    }


def test_what_cannot_be_is_not_ordered(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Both workers would have one file; and a process may say anything."""
    orders = CertificateOrders(planned(worker(tmp_path), worker(tmp_path, "b.test", port=8443)))
    before = jobs(orders)
    orders.declare(1, declared(worker(tmp_path, acme={"key_type": "rsa2048"}))[0])
    orders.apply()
    orders.declare(0, [{"domains": 1}])
    orders.apply()

    assert jobs(orders) == before
    [first, second] = [one.message for one in caplog.records if one.levelno == logging.ERROR]
    assert "two different certificates of acme begin with the name 'a.test'" in first
    assert second.startswith("acme: a process has declared certificates that are none: ")


def away(storage: Path, *domains: str) -> Worker:
    """Declare certificates of an authority that cannot be reached."""
    url = f"https://127.0.0.1:{free_port()}/dir"
    acme = [{"domains": one, "storage": str(storage), "directory": url} for one in domains]
    return Worker("wss://127.0.0.1:443", acme=acme)


def test_a_renewal_can_be_requested(tmp_path: Path) -> None:
    """The answer comes at its end; then the whole job is looked at again."""
    orders = CertificateOrders(planned(away(tmp_path / "acme", "a.test", "b.test")))
    [process] = orders.processes
    answers: list[dict[str, Any]] = []
    before = orders.described()
    orders.renew("b.test", lambda **answer: answers.append(answer))
    try:

        def is_done() -> bool:
            orders.tick(time.monotonic())
            orders.reap(time.monotonic())
            return bool(answers)

        until(is_done)
        after = orders.described()
        due_at = process.due_at
    finally:
        orders.close()
    [line] = answers[0]["lines"]
    [renewed] = answers[0]["certificates"]

    assert [(one["names"], one["problem"]) for one in before] == [
        (("a.test",), None),
        (("b.test",), None),
    ]
    assert line.startswith("acme: b.test: the authority 127.0.0.1 cannot be reached")
    assert renewed["problem"]["code"] == "ACME_UNREACHABLE"
    assert after == [before[0], renewed]
    assert due_at is not None
    assert due_at <= time.monotonic()


def test_a_name_that_is_not_ordered(tmp_path: Path) -> None:
    orders = CertificateOrders(planned(away(tmp_path / "acme", "a.test")))
    answers: list[dict[str, Any]] = []
    orders.renew("other.test", lambda **answer: answers.append(answer))
    orders.close()

    assert answers == [{"error": "no certificate of acme is for other.test."}]


def test_a_certificate_that_is_there_is_not_called_missing(tmp_path: Path) -> None:
    """Its file is not read by the master: what is in it, the first report says."""
    plans = planned(away(tmp_path / "acme", "a.test", "b.test"))
    settings = plans[0].settings
    assert settings is not None
    storage = Storage.prepare(tmp_path / "acme")
    storage.write_certificate(settings.acme[0].id, b"a certificate")
    orders = CertificateOrders(plans)
    found = [one["names"] for one in orders.described()]
    orders.close()

    assert found == [("b.test",)]
