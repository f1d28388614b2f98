"""What is wrong with a service, by what was seen of it: a test for each code."""

from typing import Any

import pytest

from gateman.doctor.service.judgement import judge
from gateman.doctor.service.observations import BusSeen, ListenerSeen, RightsSeen, ServiceSeen
from gateman.doctor.service.proxies.route import Action, Upstream
from gateman.doctor.target import Settings
from gateman.findings import ALL_CLIENTS, Finding, Severity, Software, handshakes, services
from gateman.http.client_address import TrustedProxies

from .seen import (
    NOW,
    arrived,
    handshake,
    healthy,
    process,
    proxied,
    slot,
    status,
    worker,
)
from .urls import target

URL = "wss://example.com/wss"
DIRECT = "ws://example.com:8282/"


def found(seen: ServiceSeen, url: str | None = URL) -> list[Finding]:
    return judge(None if url is None else target(url), Settings(), seen, now=NOW)


def codes(seen: ServiceSeen, url: str | None = URL) -> list[str]:
    return [one.code for one in found(seen, url)]


def direct(**more: Any) -> ServiceSeen:
    """A service to which the URL leads without a proxy."""
    listeners = (ListenerSeen(address="0.0.0.0", port=8282, owner="python (pid 6)", is_own=True),)
    known: dict[str, Any] = {"workers": (worker("ws://0.0.0.0:8282"),), "listeners": listeners}
    running = status(slot(0, process()), listen="ws://0.0.0.0:8282")
    return healthy(**{**known, "status": running, "proxies": (), **more})


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
    seen = healthy(mistake="no worker is declared", workers=(), handshake=None, proxies=())

    assert found(seen, None) == [
        services.SERVICE_INVALID.found(mistake="no worker is declared", script="server.py")
    ]


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
        services.LISTENS_ELSEWHERE.found(port=9999, listens="127.0.0.1:8282")
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


# What arrived.


def lost(*names: str, **more: Any) -> Any:
    fields = {name: text for name, text in arrived()["fields"].items() if name not in names}
    return arrived(**{"fields": fields, "status": 400, **more})


def bare(arrival: Any = None, **more: Any) -> ServiceSeen:
    """A service of which only what arrived is known, behind a proxy that could not be read."""
    arrivals = () if arrival is None else (arrival,)
    return healthy(proxies=(), own_addresses=(), handshake=handshake(*arrivals, **more))


@pytest.mark.parametrize(
    ("arrival", "expected"),
    [
        (lost("upgrade", "connection", version="1.0"), "UPGRADE_LOST"),
        (lost("connection"), "UPGRADE_LOST"),
        (lost(version="1.0", status=505), "UPGRADE_HTTP_1_0"),
        (lost("sec-websocket-key"), "HANDSHAKE_FIELD_LOST"),
        (arrived(begins_with="proxy", status=400), "PROXY_HEADER_UNEXPECTED"),
        (arrived(status=400, causes=["plain_on_tls_port"]), "PEER_SPOKE_PLAIN"),
        (arrived(status=403, causes=["origin_refused", "refused_403"]), "ORIGIN_REFUSED"),
        (arrived(status=503, causes=["max_connections"]), "SERVER_FULL"),
        (arrived(status=429, causes=["max_connections_per_ip"]), "ADDRESS_LIMIT"),
        (arrived(status=503, causes=["max_handshakes_per_second"]), "HANDSHAKE_RATE"),
        (arrived(status=503, causes=["draining"]), "SERVER_DRAINING"),
        (arrived(status=431, causes=["refused_431"]), "HEAD_TOO_LARGE"),
        (arrived(status=400, causes=["refused_400"]), "REQUEST_REFUSED"),
        (arrived(status=401), "APPLICATION_REFUSED"),
        (arrived(status=500), "APPLICATION_FAILED"),
        (arrived(status=101), "ANSWER_LOST"),
    ],
)
def test_what_arrived_decides(arrival: Any, expected: str) -> None:
    assert codes(bare(arrival, status=502)) == [expected]


@pytest.mark.parametrize(
    ("cause", "status_", "expected"),
    [
        ("plain_on_tls_port", 400, "PEER_SPOKE_PLAIN"),
        ("max_connections", 503, "SERVER_FULL"),
        ("max_connections_per_ip", 429, "ADDRESS_LIMIT"),
    ],
)
def test_what_was_noticed_before_the_request_counts_for_it(
    cause: str, status_: int, expected: str
) -> None:
    caused: Any = {"pid": 7, "worker": "chat", "cause": cause, "count": 1, "message": "…"}
    seen = bare(arrived(status=status_), status=status_, causes=(caused,))

    assert codes(seen) == [expected]


def test_a_socket_that_was_removed() -> None:
    unix = worker("websocket+unix:///run/w.sock", is_socket_missing=True)
    running = status(slot(0, process()), listen="ws+unix:///run/w.sock")

    assert found(healthy(workers=(unix,), status=running), None) == [
        services.SOCKET_REMOVED.found(path="/run/w.sock", worker="chat", script="server.py")
    ]


def test_a_gateway_without_business_workers() -> None:
    seen = bare(arrived(status=503), status=503, text="no business worker is available")

    assert found(seen) == [services.BUSINESS_MISSING.found(worker="chat", script="server.py")]


def test_the_evidence_of_what_arrived() -> None:
    [finding] = found(bare(lost("upgrade", causes=["refused_400"]), status=400))

    assert finding == handshakes.UPGRADE_LOST.found(
        handshake="the handshake",
        field="Upgrade: websocket",
        evidence="GET /wss HTTP/1.1 from 127.0.0.1, host: example.com, connection: upgrade;"
        " answered 400 (refused_400)",
    )


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        ("tls_on_plain_port", "PEER_SPOKE_TLS"),
        ("plain_on_tls_port", "PEER_SPOKE_PLAIN"),
        ("unexpected_proxy_header", "PROXY_HEADER_UNEXPECTED"),
        ("no_proxy_header", "PROXY_HEADER_MISSING"),
        ("bad_proxy_header", "PROXY_HEADER_MISSING"),
        ("proxy_not_trusted", "PROXY_UNTRUSTED"),
        ("tls_tlsv1_alert_unknown_ca", "UPSTREAM_TLS_FAILED"),
        ("left_after_certificate", "UPSTREAM_TLS_FAILED"),
        ("max_connections", "SERVER_FULL"),
        ("left_early", "HANDSHAKE_NOT_ARRIVED"),
    ],
)
def test_what_went_wrong_meanwhile_decides(cause: str, expected: str) -> None:
    caused = {"pid": 7, "worker": "chat", "cause": cause, "count": 1, "message": "10.0.0.1 …"}

    assert codes(bare(status=502, causes=(caused,))) == [expected]


def test_a_proxy_that_leaves_when_it_has_seen_the_certificate() -> None:
    caused: Any = {"pid": 7, "worker": "chat", "cause": "left_early", "count": 1, "message": ""}
    upstreams = (Upstream(host="127.0.0.1", port=8282, is_tls=True),)
    seen = healthy(
        workers=(worker(is_tls=True),),
        proxies=(proxied(upstreams=upstreams),),
        handshake=handshake(status=502, causes=(caused,)),
    )

    assert codes(seen) == ["UPSTREAM_TLS_FAILED"]


def test_nothing_that_arrived_is_undecided() -> None:
    assert found(bare(status=502, server="nginx")) == [
        services.HANDSHAKE_NOT_ARRIVED.found(
            url=URL,
            answer="the status 502",
            command=f"run this on the machine of 192.0.2.1: gateman doctor server.py {URL}",
            evidence="nginx",
            candidates=(
                "PROXY_LEADS_ELSEWHERE",
                "PROXY_ANSWERS_ITSELF",
                "ANOTHER_SERVICE_ANSWERS",
            ),
        )
    ]


def test_nothing_that_arrived_is_explained_by_the_configuration() -> None:
    seen = healthy(proxies=(proxied(action=Action.ANSWERS),), handshake=handshake(status=404))

    assert codes(seen) == ["PROXY_ANSWERS_ITSELF"]


def test_without_an_answer_the_look_from_outside_tells() -> None:
    assert codes(bare(status=None, problem="refused")) == []


def test_processes_that_did_not_say_what_arrived_leave_it_open() -> None:
    assert codes(bare(status=502, silent=(7,))) == []


def test_another_service_answers() -> None:
    here, elsewhere = (
        services.ANOTHER_SERVICE_ANSWERS.found(
            url=URL, listens="127.0.0.1:8282", addresses="192.0.2.1", severity=severity
        )
        for severity in (Severity.CAUSE, Severity.WARNING)
    )

    assert found(healthy(proxies=(), handshake=handshake(status=101))) == [here]
    # It may be another machine of the same service.
    assert found(bare(status=101)) == [elsewhere]


def test_a_port_that_leads_to_a_program_that_is_no_proxy() -> None:
    listener = ListenerSeen(address="0.0.0.0", port=443, owner="node (pid 9)")
    seen = healthy(proxies=(), listeners=(listener,), handshake=handshake(status=404))

    assert found(seen) == [
        services.PORT_OF_ANOTHER.found(
            port=443, owner="node (pid 9)", listens="127.0.0.1:8282", evidence="the status 404"
        )
    ]


def test_a_master_that_is_stopping() -> None:
    running = status(slot(0, process()), listen="ws://0.0.0.0:8282")
    running["master"]["state"] = "stopping"

    assert codes(direct(status=running), None) == ["SERVER_DRAINING"]


def test_a_bus_that_is_away() -> None:
    buses = (
        BusSeen(worker="chat", servers="10.0.0.1:4222", problem="connection refused"),
        BusSeen(worker="chat", servers="10.0.0.2:4222"),
    )

    assert found(direct(buses=buses), None) == [
        services.BUS_AWAY.found(worker="chat", servers="10.0.0.1:4222", reason="connection refused")
    ]


def test_a_proxy_that_is_not_trusted() -> None:
    arrival = arrived(peer="10.0.0.1", is_trusted=False)

    assert found(bare(arrival)) == [
        services.PROXY_UNTRUSTED.found(
            worker="chat",
            peer="10.0.0.1",
            limit=1000,
            evidence="GET /wss HTTP/1.1 from 10.0.0.1, host: example.com, upgrade: websocket,"
            " connection: upgrade; answered 101",
        )
    ]


def test_a_proxy_that_replaces_the_host() -> None:
    fields = {**arrived()["fields"], "host": "127.0.0.1:8282"}

    assert codes(bare(arrived(fields=fields))) == ["HOST_REPLACED"]
    forwarded = {**fields, "x-forwarded-host": "example.com"}
    assert codes(bare(arrived(fields=forwarded))) == []


def test_a_handshake_that_opens_refutes_the_configuration() -> None:
    seen = healthy(proxies=(proxied(lost_fields=("Upgrade: websocket",), idle_timeout=10.0),))

    assert codes(seen) == ["PROXY_IDLE_TIMEOUT"]


def test_the_configuration_and_what_arrived_are_one_finding() -> None:
    seen = healthy(
        proxies=(proxied(lost_fields=("Upgrade: websocket",)),),
        handshake=handshake(lost("upgrade"), status=400),
    )

    assert [(one.code, one.evidence) for one in found(seen)] == [
        ("UPGRADE_LOST", "location /wss, at /etc/nginx/site.conf:7")
    ]


def test_rights_of_a_socket() -> None:
    denied = RightsSeen(
        path="/run/w.sock",
        right="write to",
        mode="srwx------",
        owner="root root",
        user="www-data",
    )
    seen = healthy(denied=(denied,), handshake=handshake(status=502))

    assert found(seen) == [
        services.SOCKET_DENIED.found(
            proxy="nginx",
            user="www-data",
            right="write to",
            path="/run/w.sock",
            mode="srwx------",
            owner="root root",
        )
    ]


def test_a_worker_that_requires_a_proxy_header_drops_untrusted_proxies() -> None:
    caused = {
        "pid": 7,
        "worker": "chat",
        "cause": "proxy_not_trusted",
        "count": 1,
        "message": "10.0.0.1 is not a trusted proxy",
    }
    strict = worker(requires_proxy=True, trusted=TrustedProxies([]))
    seen = healthy(
        workers=(strict,),
        proxies=(),
        own_addresses=(),
        handshake=handshake(status=502, causes=(caused,)),
    )

    [finding] = found(seen)
    assert (finding.code, finding.problem) == (
        "PROXY_UNTRUSTED_DROPPED",
        "chat requires a PROXY header, and drops the connections of the proxy at 10.0.0.1, which is"
        " not in its trusted_proxies",
    )
    assert finding.fails_for == ALL_CLIENTS
    assert Software.NGINX not in services.PROXY_UNTRUSTED_DROPPED.fixes
