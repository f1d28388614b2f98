"""What a handshake with a nonce tells: a test for each code."""

from dataclasses import replace
from typing import Any

import pytest

from gateman.doctor.service.observations import ListenerSeen, RightsSeen, ServiceSeen
from gateman.doctor.service.proxies.route import Action, Upstream
from gateman.findings import ALL_CLIENTS, Severity, Software, handshakes, services
from gateman.http.client_address import TrustedProxies

from .seen import (
    URL,
    arrived,
    codes,
    found,
    handshake,
    healthy,
    process,
    proxied,
    slot,
    status,
    worker,
)


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
                services.PROXY_LEADS_ELSEWHERE,
                services.PROXY_ANSWERS_ITSELF,
                services.ANOTHER_SERVICE_ANSWERS,
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


def test_a_process_that_blocks_after_the_101_leaves_it_open() -> None:
    assert codes(bare(status=101, silent=(7,))) == []


@pytest.mark.parametrize(
    ("answer", "arrival"), [(101, None), (None, None), (500, arrived(status=500))]
)
def test_a_process_that_the_handshake_ends(answer: int | None, arrival: Any) -> None:
    """It may be that of a business worker, whose gateway answers."""
    crashed = slot(
        0, recent_crashes=1, last_exit="was killed by SIGSEGV after 3 s", last_lines=["a"]
    )
    seen = replace(bare(arrival, status=answer), after=status(crashed))

    assert found(seen) == [
        services.PROCESS_ENDED.found(
            worker="chat", how="was killed by SIGSEGV after 3 s", evidence="a"
        )
    ]


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
