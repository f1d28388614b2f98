"""What is wrong with a service, by what was seen of it: a test for each code."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from gateman.doctor.service.observations import BusSeen, ListenerSeen, ServiceSeen
from gateman.errors import MasterSilent
from gateman.findings import ALL_CLIENTS, Severity, services

from .seen import (
    DIRECT,
    NOW,
    URL,
    codes,
    direct,
    found,
    healthy,
    process,
    slot,
    status,
    worker,
)


@pytest.mark.parametrize(
    ("seen", "url"),
    [
        (healthy(), URL),
        (healthy(handshake=None), URL),
        (healthy(proxies=(), addresses=("198.51.100.1",), own_addresses=()), URL),
        (direct(), DIRECT),
        (direct(handshake=None), DIRECT),
        (direct(), None),
        (direct(addresses=("127.0.0.1",), own_addresses=("127.0.0.1",)), DIRECT),
        (
            healthy(
                workers=(worker("websocket+unix:///run/w.sock"),),
                status=status(slot(0, process()), listen="ws+unix:///run/w.sock"),
            ),
            None,
        ),
        (direct(workers=(worker("ws://example.com:8282"),)), None),
    ],
)
def test_a_healthy_service_has_no_findings(seen: ServiceSeen, url: str | None) -> None:
    assert found(seen, url) == []


# The service.


def test_what_would_not_start() -> None:
    seen = healthy(mistake="no worker is declared", workers=(), status=None, proxies=())

    assert found(seen, None) == [
        services.SERVICE_INVALID.found(mistake="no worker is declared", script="server.py"),
        services.SERVICE_NOT_RUNNING.found(script="server.py", severity=Severity.NOTE),
    ]


def test_what_would_not_start_again() -> None:
    """The processes that run have what was declared before; where they listen is not judged."""
    seen = healthy(mistake="server.py:7: invalid syntax", workers=())

    assert found(seen) == [
        services.SERVICE_INVALID.found(
            mistake="server.py:7: invalid syntax", script="server.py", severity=Severity.WARNING
        )
    ]


@pytest.mark.parametrize("url", [URL, DIRECT, "ws://example.com:9999/"])
def test_what_would_not_start_is_the_cause(url: str) -> None:
    """Where it would listen is not known, and nothing is said about it."""
    seen = healthy(mistake="no certificate", workers=(), status=None, handshake=None)

    assert found(seen, url) == [
        services.SERVICE_INVALID.found(mistake="no certificate", script="server.py"),
        services.SERVICE_NOT_RUNNING.found(script="server.py"),
    ]


@pytest.mark.parametrize(
    ("silent", "how"),
    [
        (MasterSilent(6, is_stopped=True), "is stopped"),
        (MasterSilent(6), "does not answer"),
    ],
)
def test_a_master_that_does_not_answer(silent: MasterSilent, how: str) -> None:
    seen = healthy(status=None, silent_master=silent, problem=str(silent), handshake=None)

    assert found(seen) == [services.MASTER_SILENT.found(script="server.py", pid=6, how=how)]


def test_a_service_that_is_not_running() -> None:
    seen = healthy(status=None, handshake=None)

    assert found(seen) == [services.SERVICE_NOT_RUNNING.found(script="server.py")]
    assert found(seen, None) == [
        services.SERVICE_NOT_RUNNING.found(script="server.py", severity=Severity.NOTE)
    ]


def test_a_port_that_another_process_has() -> None:
    other = ListenerSeen(address="0.0.0.0", port=8282, owner="node (pid 9)")
    seen = healthy(status=None, handshake=None, listeners=(other,))

    assert found(seen)[0] == services.PORT_TAKEN.found(
        owner="node (pid 9)", port=8282, worker="chat", evidence="0.0.0.0"
    )


def test_a_running_service_that_cannot_be_asked() -> None:
    seen = healthy(status=None, problem="this user may not connect", handshake=None)

    assert found(seen) == [services.SERVICE_UNREACHABLE.found(reason="this user may not connect")]


def test_a_service_that_runs_with_other_addresses() -> None:
    seen = direct(status=status(slot(0, process()), listen="ws://0.0.0.0:8281"))

    assert found(seen, None) == [
        services.SERVICE_CHANGED.found(
            script="server.py", declared="0.0.0.0:8282", running="0.0.0.0:8281"
        )
    ]


@pytest.mark.parametrize(
    ("seen", "url"),
    [
        (direct(status=status(slot(0), listen="ws://0.0.0.0:8281"), handshake=None), DIRECT),
        (healthy(status=status(slot(0), listen="ws://127.0.0.1:8281"), handshake=None), URL),
    ],
)
def test_an_address_that_is_not_in_use_yet(seen: ServiceSeen, url: str) -> None:
    """Clients are led there, directly or by a proxy: it is why they cannot connect."""
    (only,) = found(seen, url)

    assert (only.code, only.severity) == ("SERVICE_CHANGED", Severity.CAUSE)


def test_slots_that_crash() -> None:
    down = slot(
        0, state="given_up", last_exit="exited with code 1", last_lines=["a", "b", "c", "d"]
    )

    assert found(direct(status=status(down, listen="ws://0.0.0.0:8282")), None) == [
        services.SERVICE_CRASHES.found(
            worker="chat", how="exited with code 1", script="server.py", evidence="b | c | d"
        )
    ]
    running = status(slot(1, process()), down, listen="ws://0.0.0.0:8282")
    assert found(direct(status=running), None) == [
        services.SERVICE_CRASHES_PARTLY.found(
            worker="chat",
            count=1,
            total=2,
            how="exited with code 1",
            script="server.py",
            evidence="b | c | d",
        )
    ]


def test_another_worker_that_crashes_is_a_warning() -> None:
    """A business worker does not listen: clients of all gateways need it."""
    chat, down = slot(0, process()), {"state": "given_up", "last_exit": "exited with code 1"}
    two = (worker("ws://0.0.0.0:8282"), replace(worker("ws://0.0.0.0:8283"), name="news"))
    news = status(
        chat, slot(0, worker="news", **down), listen="ws://0.0.0.0:8282, ws://0.0.0.0:8283"
    )
    business = status(chat, slot(0, worker="business", **down), listen="ws://0.0.0.0:8282")

    assert [one.severity for one in found(direct(status=news, workers=two), DIRECT)] == [
        Severity.WARNING
    ]
    assert [one.severity for one in found(direct(status=business), DIRECT)] == [Severity.CAUSE]


def test_slots_whose_processes_serve_between_crashes() -> None:
    last = {"last_exit": "ended with exit code 3 after 0.6 s", "last_lines": ["a"]}
    ending = slot(0, process(), recent_crashes=3, **last)
    once = slot(1, process(), recent_crashes=2, **last)
    finding = partial(
        services.SERVICE_UNSTABLE.found,
        worker="chat",
        count=3,
        how="ended with exit code 3 after 0.6 s",
        script="server.py",
        evidence="a",
    )

    assert found(direct(status=status(ending, listen="ws://0.0.0.0:8282")), None) == [finding()]
    assert found(direct(status=status(ending, once, listen="ws://0.0.0.0:8282")), None) == [
        finding(severity=Severity.WARNING)
    ]
    assert found(direct(status=status(once, listen="ws://0.0.0.0:8282")), None) == []


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ({"status": "starting", "uptime": 20.0, "lag": None}, "SERVICE_STARTING"),
        ({"status": "starting", "uptime": 1.0, "lag": None}, None),
        ({"lag": 2.0}, "SERVICE_SLOW"),
        ({"connections": 900}, "DESCRIPTORS_FEW"),
        ({"counts": {"tls_no_shared_cipher": 3}}, "REFUSALS_COUNTED"),
    ],
)
def test_processes(states: dict[str, Any], expected: str | None) -> None:
    running = status(slot(0, process(**states)), listen="ws://0.0.0.0:8282")

    assert codes(direct(status=running, open_files={7: 1024}), None) == (
        [expected] if expected else []
    )


def test_processes_that_are_blocked() -> None:
    both = status(
        slot(0, process(7, status="busy")),
        slot(1, process(8, status="stopped")),
        listen="ws://0.0.0.0:8282",
    )

    assert found(direct(status=both, busy_pids=frozenset({7, 8})), None) == [
        services.SERVICE_BLOCKED.found(worker="chat", pids="7 8", evidence="7 busy, 8 stopped")
    ]
    [partly] = found(direct(status=both, busy_pids=frozenset({8})), None)
    assert (partly.code, partly.severity) == ("SERVICE_BLOCKED", Severity.WARNING)


def test_refusals_are_told_in_one_sentence() -> None:
    counts = {"origin_refused": 2, "connections": 9, "tls_unsupported_protocol": 1}
    running = status(
        slot(0, process(7, counts=counts)),
        slot(1, process(8, counts=counts)),
        listen="ws://0.0.0.0:8282",
    )

    assert found(direct(status=running), None) == [
        services.REFUSALS_COUNTED.found(
            worker="chat",
            told="pages of origins that are not allowed were refused (ORIGIN_REFUSED) (4);"
            " a TLS handshake failed (tls_unsupported_protocol) (2)",
        )
    ]


def test_certificates_that_were_not_issued() -> None:
    """Without one in service, nobody can connect; one that serves still does so."""
    problem = {"code": "ACME_CAA", "problem": "a CAA record forbids it", "fix": "allow it", "at": 1}
    running = status(slot(0, process()))
    running["certificates"] = [
        {"names": ["a.test"], "expires_at": NOW + 1, "problem": None},
        {"names": ["b.test"], "expires_at": NOW + 1, "problem": problem},
        {"names": ["c.test", "d.test"], "expires_at": None, "problem": problem},
    ]

    assert [
        (one.code, one.severity, one.problem, one.fix)
        for one in found(direct(status=running, now=NOW), None)
        if one.code.startswith("ACME")
    ] == [
        (
            "ACME_CAA",
            severity,
            f"the certificate for {name} was not issued: a CAA record forbids it",
            "allow it",
        )
        for name, severity in (("b.test", Severity.WARNING), ("c.test", Severity.CAUSE))
    ]


@pytest.mark.parametrize(
    ("url", "severity"),
    [
        ("wss://b.test/", Severity.CAUSE),
        ("wss://c.test/", Severity.WARNING),
        ("wss://chat.d.test/", Severity.CAUSE),
    ],
)
def test_a_certificate_of_another_name_keeps_nobody_out(url: str, severity: Severity) -> None:
    problem = {"code": "ACME_CAA", "problem": "a CAA record forbids it", "fix": "allow it", "at": 1}
    running = status(slot(0, process()))
    running["certificates"] = [
        {"names": ["b.test", "*.d.test"], "expires_at": None, "problem": problem}
    ]
    seen = found(direct(status=running, now=NOW), url)

    assert [one.severity for one in seen if one.code.startswith("ACME")] == [severity]


def test_a_clock_that_is_behind() -> None:
    assert found(direct(future_files=(("/srv/server.py", NOW + 86_400),)), None) == [
        services.CLOCK_BEHIND.found(
            file="/srv/server.py", now="2027-01-15 08:00 UTC", written="2027-01-16 08:00 UTC"
        )
    ]


def test_findings_of_certificates_are_passed_on() -> None:
    finding = services.CLOCK_BEHIND.found(file="a", now="b", written="c")

    assert found(direct(workers=(worker("ws://0.0.0.0:8282", findings=(finding,)),)), None) == [
        finding
    ]


# The addresses.


def test_a_port_where_nothing_listens() -> None:
    assert found(direct(handshake=None), "ws://example.com:9999/") == [
        services.LISTENS_ELSEWHERE.found(where="port 9999", listens="127.0.0.1:8282")
    ]


def test_a_port_that_the_system_redirects() -> None:
    assert found(direct(), "ws://example.com:9999/") == []


@pytest.mark.parametrize(
    ("listens", "own"), [("[::1]", "127.0.0.1"), ("192.0.2.1", "192.0.2.7"), ("127.0.0.1", "::1")]
)
def test_an_address_where_nothing_listens(listens: str, own: str) -> None:
    seen = direct(
        workers=(worker(f"ws://{listens}:8282"),),
        listeners=(ListenerSeen(address=listens.strip("[]"), port=8282, is_own=True),),
        status=None,
        addresses=(own,),
        own_addresses=(own,),
        handshake=None,
    )
    expected = services.LISTENS_ELSEWHERE.found(
        where=f"{own} port 8282", listens=listens.strip("[]")
    )

    assert expected in found(seen, DIRECT)


def test_a_port_of_another_protocol() -> None:
    seen = direct(handshake=None, workers=(worker("text://0.0.0.0:8282"),))

    assert found(seen, "ws://example.com:8282/") == [
        services.SPEAKS_ANOTHER_PROTOCOL.found(port=8282, worker="chat", protocol="text")
    ]


def test_a_service_for_its_own_machine_only() -> None:
    seen = healthy(proxies=(), handshake=None)

    assert found(seen, DIRECT) == [
        services.LISTENS_ON_LOOPBACK_ONLY.found(
            host="example.com", address="192.0.2.1", listens="127.0.0.1"
        )
    ]


@pytest.mark.parametrize(("others", "fails_for"), [(("192.0.2.1",), None), ((), ALL_CLIENTS)])
def test_ipv4_alone_where_the_name_has_ipv6(others: tuple[str, ...], fails_for: Any) -> None:
    addresses = ("2001:db8::1", *others)

    assert found(direct(addresses=addresses, own_addresses=addresses), DIRECT) == [
        services.LISTENS_ON_IPV4_ONLY.found(
            host="example.com",
            address="2001:db8::1",
            listens="0.0.0.0",
            port=8282,
            fails_for=fails_for,
        )
    ]


def test_a_master_that_is_stopping() -> None:
    running = status(slot(0, process()), listen="ws://0.0.0.0:8282")
    running["master"]["state"] = "stopping"
    running["slots"][0]["state"] = "waiting"

    assert codes(direct(status=running), None) == ["SERVER_DRAINING"]


def test_a_callback_that_blocks_when_a_client_connects() -> None:
    """Nothing blocked before the doctor's handshake."""
    before, after = (
        status(slot(0, process(lag=lag)), listen="ws://0.0.0.0:8282") for lag in (0.001, 2.9)
    )

    assert found(direct(status=before, after=after)) == [
        services.SERVICE_SLOW.found(worker="chat", lag=2.9)
    ]


def test_a_bus_that_is_away() -> None:
    buses = (
        BusSeen(worker="chat", servers="10.0.0.1:4222", problem="connection refused"),
        BusSeen(worker="chat", servers="10.0.0.2:4222"),
    )

    assert found(direct(buses=buses), None) == [
        services.BUS_AWAY.found(worker="chat", servers="10.0.0.1:4222", reason="connection refused")
    ]
