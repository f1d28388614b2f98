"""What is wrong with the way from a proxy to the service, by the proxy's configuration."""

from typing import Any

import pytest

from gateman.doctor.service.observations import ProxySeen, WorkerSeen
from gateman.doctor.service.proxies.route import Action, Upstream
from gateman.doctor.service.proxy_judgement import is_refuted_by_101, judge, worker_behind
from gateman.findings import Finding, Severity, Software, handshakes, services
from gateman.http.client_address import TrustedProxies

from .seen import AT, ROUTE, WORKER, healthy, proxied, worker
from .urls import target

BLOCK = f"location /wss, at {AT}"
NGINX = Software.NGINX


def found(proxy: ProxySeen, *workers: WorkerSeen, **more: Any) -> list[Finding]:
    seen = healthy(proxies=(proxy,), workers=workers or (worker(),), **more)
    return list(judge(target(), seen))


def test_a_good_way_has_no_findings() -> None:
    assert found(proxied()) == []


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (
            {"upstreams": (Upstream(host="127.0.0.1", port=8283),)},
            services.PROXY_LEADS_ELSEWHERE.found(
                software=NGINX,
                proxy="nginx",
                path="/wss",
                upstreams="127.0.0.1:8283",
                where=AT,
                listens="127.0.0.1:8282",
                evidence=BLOCK,
            ),
        ),
        (
            {"upstreams": (Upstream(host="127.0.0.1", port=8282, is_tls=True),)},
            handshakes.PEER_SPOKE_TLS.found(software=NGINX, client=f"nginx ({AT})", evidence=BLOCK),
        ),
        (
            {"upstreams": (Upstream(host="127.0.0.1", port=8282, sends_proxy=True),)},
            handshakes.PROXY_HEADER_UNEXPECTED.found(software=NGINX, evidence=BLOCK),
        ),
        (
            {"lost_fields": ("Upgrade: websocket", "Connection: Upgrade"), "http_version": "1.0"},
            handshakes.UPGRADE_LOST.found(
                software=NGINX,
                handshake="the handshake",
                field="Upgrade: websocket' and 'Connection: Upgrade",
                evidence=BLOCK,
            ),
        ),
        (
            {"http_version": "1.0"},
            handshakes.UPGRADE_HTTP_1_0.found(
                software=NGINX, handshake="the handshake", evidence=BLOCK
            ),
        ),
        (
            {"missing": "the module a"},
            services.PROXY_INCOMPLETE.found(
                proxy="nginx", path="/wss", where=AT, missing="the module a", evidence=BLOCK
            ),
        ),
        (
            {"is_http2_only": True},
            handshakes.HTTP2_ONLY.found(software=NGINX, evidence=AT),
        ),
        (
            {"idle_timeout": 20.0},
            services.PROXY_IDLE_TIMEOUT.found(
                software=NGINX,
                proxy="nginx",
                timeout=20.0,
                option="proxy_read_timeout",
                where=AT,
                ping=25.0,
                needed=75,
            ),
        ),
        (
            {"stream_timeout": 300.0},
            services.PROXY_STREAM_TIMEOUT.found(proxy="nginx", timeout=300.0, where=AT),
        ),
        (
            {"keeps_host": False},
            services.HOST_REPLACED.found(software=NGINX, proxy="nginx", where=AT),
        ),
        (
            {"client_fields": frozenset()},
            services.CLIENT_ADDRESS_UNKNOWN.found(software=NGINX, proxy="nginx", where=AT),
        ),
        (
            {"action": Action.ANSWERS, "answer": "files of /srv", "upstreams": ()},
            services.PROXY_ANSWERS_ITSELF.found(
                software=NGINX,
                proxy="nginx",
                path="/wss",
                block="location /wss",
                where=AT,
                answer="files of /srv",
                listens="127.0.0.1:8282",
            ),
        ),
        (
            {"action": Action.ANSWERS, "answer": "return 404", "is_named": False},
            services.PROXY_NAME_UNKNOWN.found(
                software=NGINX, proxy="nginx", host="example.com", where=AT, answer="return 404"
            ),
        ),
        (
            {"action": Action.REDIRECTS, "answer": "return 301 /x"},
            services.PROXY_REDIRECTS.found(
                proxy="nginx", path="/wss", where=AT, answer="return 301 /x"
            ),
        ),
        (
            {"action": Action.DENIES, "answer": "return 403"},
            services.PROXY_DENIES.found(proxy="nginx", path="/wss", where=AT, answer="return 403"),
        ),
        (
            {"restrictions": ("deny all",)},
            services.PROXY_DENIES.found(proxy="nginx", path="/wss", where=AT, answer="deny all"),
        ),
        (
            {"restrictions": ("deny all", "allow 10.0.0.0/8")},
            services.PROXY_RESTRICTS.found(
                proxy="nginx", path="/wss", where=AT, rules="deny all, allow 10.0.0.0/8"
            ),
        ),
        (
            {"upstreams": (), "doubts": ("a:1: proxy_pass http://$x",)},
            services.PROXY_UNCLEAR.found(
                proxy="nginx", path="/wss", doubt="a:1: proxy_pass http://$x"
            ),
        ),
        (
            {"action": Action.UNKNOWN, "answer": "js_content decides"},
            services.PROXY_UNCLEAR.found(proxy="nginx", path="/wss", doubt="js_content decides"),
        ),
    ],
)
def test_what_a_configuration_does_wrong(changed: dict[str, Any], expected: Finding) -> None:
    assert found(proxied(**changed)) == [expected]


@pytest.mark.parametrize(
    ("seen_worker", "expected"),
    [
        (worker(is_tls=True), "PEER_SPOKE_PLAIN"),
        (worker(requires_proxy=True), "PROXY_HEADER_MISSING"),
        (worker(ping_interval=None), "PROXY_IDLE_UNPINGED"),
        (worker(ping_interval=75.0), "PROXY_IDLE_TIMEOUT"),
        (worker(trusted=TrustedProxies([])), "PROXY_UNTRUSTED"),
    ],
)
def test_what_a_worker_does_not_expect(seen_worker: WorkerSeen, expected: str) -> None:
    assert [one.code for one in found(proxied(), seen_worker)] == [expected]


def test_a_proxy_that_is_dropped() -> None:
    strict = worker(requires_proxy=True, trusted=TrustedProxies([]))
    upstreams = (Upstream(host="127.0.0.1", port=8282, sends_proxy=True),)

    assert found(proxied(upstreams=upstreams), strict) == [
        services.PROXY_UNTRUSTED_DROPPED.found(worker="chat", peer="127.0.0.1", evidence=BLOCK)
    ]


def test_a_unix_socket_is_trusted_by_its_word() -> None:
    unix = worker("websocket+unix:///run/w.sock", trusted=TrustedProxies(["127.0.0.1"]))
    proxy = proxied(upstreams=(Upstream(path="/run/w.sock"),))

    assert [one.code for one in found(proxy, unix)] == ["PROXY_UNTRUSTED"]
    assert found(proxy, worker("websocket+unix:///run/w.sock")) == []


def test_the_default_server_may_lead_to_the_service() -> None:
    assert found(proxied(is_named=False)) == []


def test_another_machine_is_not_called_wrong() -> None:
    assert found(proxied(upstreams=(Upstream(host="app.internal", port=80),))) == []


@pytest.mark.parametrize(
    ("listen", "upstream", "is_behind"),
    [
        ("ws://127.0.0.1:8282", "localhost", True),
        ("ws://0.0.0.0:8282", "192.0.2.1", True),
        ("ws://[::]:8282", "::1", True),
        ("ws://192.0.2.1:8282", "127.0.0.1", False),
        ("ws://127.0.0.1:8282", "192.0.2.1", False),
    ],
)
def test_a_worker_is_found_by_its_address(listen: str, upstream: str, *, is_behind: bool) -> None:
    seen = healthy(
        workers=(worker(listen),),
        proxies=(proxied(upstreams=(Upstream(host=upstream, port=8282),)),),
    )

    assert (worker_behind(seen.route, seen) is not None) == is_behind


def test_what_could_not_be_read_is_a_note() -> None:
    proxy = ProxySeen(software=NGINX, source="/etc/nginx/nginx.conf", problem="permission denied")

    assert found(proxy) == [
        services.PROXY_CONFIGURATION_UNREAD.found(
            proxy="nginx", reason="permission denied", evidence="/etc/nginx/nginx.conf"
        )
    ]
    assert services.PROXY_CONFIGURATION_UNREAD.severity is Severity.NOTE


def test_findings_of_its_certificates_are_passed_on() -> None:
    finding = services.SERVICE_INVALID.found(mistake="a", script="b")
    proxy = ProxySeen(software=NGINX, source="a", route=ROUTE, findings=(finding,))

    assert found(proxy) == [finding]


def test_only_causes_on_the_way_are_refuted_by_a_handshake_that_opens() -> None:
    refuted, other, weak = (
        services.PROXY_LEADS_ELSEWHERE.found(
            proxy="a", path="b", upstreams="c", where="d", listens="e"
        ),
        services.PROXY_IDLE_UNPINGED.found(proxy="a", timeout=1, option="b", where="c"),
        services.HOST_REPLACED.found(proxy="a", where="b"),
    )

    assert [is_refuted_by_101(one) for one in (refuted, other, weak)] == [True, False, False]
    assert WORKER.path == ""


def test_limits_count_only_if_the_handshake_did_not_open() -> None:
    proxy = proxied(restrictions=("limit_req zone=a", "auth_basic"))

    [opened] = found(proxy)
    [failed] = found(proxy, handshake=None)
    assert opened.problem.endswith(": auth_basic")
    assert failed.problem.endswith(": limit_req zone=a, auth_basic")
