"""What HAProxy does with a URL, by its configuration."""

import pytest

from gateman.doctor.service.proxies.haproxy import find_route
from gateman.doctor.service.proxies.haproxy_syntax import parse
from gateman.doctor.service.proxies.route import (
    Action,
    ProxyRoute,
    UnreadableConfiguration,
    Upstream,
)
from gateman.findings import Software
from tests.doctor.service.urls import target

WORKER = Upstream(host="127.0.0.1", port=8282)
DEFAULTS = """\
global
    user haproxy
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 60s
"""
BACKENDS = """\
backend workers
    server w1 127.0.0.1:8282 check
backend web
    server s1 127.0.0.1:80
"""


def route(
    frontend: str,
    *,
    bind: str = ":443 ssl crt /c.pem alpn h2,http/1.1",
    backends: str = BACKENDS,
    defaults: str = DEFAULTS,
    url: str = "wss://example.com/wss",
) -> ProxyRoute:
    text = f"{defaults}frontend clients\n    bind {bind}\n{frontend}\n{backends}"
    found = find_route({"/h.cfg": text}, target(url))
    assert found is not None
    return found


def test_a_whole_configuration_is_read() -> None:
    frontend = "    option forwardfor\n    default_backend workers"

    assert route(frontend) == ProxyRoute(
        software=Software.HAPROXY,
        where="/h.cfg:11",
        block="default_backend workers",
        action=Action.PASSES,
        upstreams=(WORKER,),
        idle_timeout=30.0,
        idle_option="timeout client",
        client_fields=frozenset({"x-forwarded-for"}),
        certificates=("/c.pem",),
        user="haproxy",
    )


@pytest.mark.parametrize(
    ("lines", "port"),
    [
        (["use_backend workers if { path_beg /wss }"], 8282),
        (["use_backend workers if { path_beg /other }"], 80),
        (["use_backend workers unless { path_beg /other }"], 8282),
        (["acl ws path /wss", "use_backend workers if ws"], 8282),
        (["acl ws path /a", "acl ws path /wss", "use_backend workers if ws"], 8282),
        (["acl ws hdr(Upgrade) -i WebSocket", "use_backend workers if ws"], 8282),
        (["acl ws hdr(Upgrade) WebSocket", "use_backend workers if ws"], 80),
        (["acl h hdr(host) -i example.com", "use_backend workers if h !{ ssl_fc }"], 80),
        (["acl h hdr(host) -i example.com", "use_backend workers if h { ssl_fc }"], 8282),
        (["acl h hdr_dom(host) example.com", "use_backend workers if h"], 8282),
        (["acl h req.hdr(Host),lower -m end example.com", "use_backend workers if h"], 8282),
        (["use_backend workers if { ssl_fc_sni example.com }"], 8282),
        (["use_backend workers if { path_reg ^/w.s$ } or { path /a }"], 8282),
        (["use_backend workers if { path_dir wss } METH_GET"], 8282),
        (["use_backend workers if FALSE || TRUE"], 8282),
        (["use_backend workers if { path_beg /wss }  # if { path /a }"], 8282),
    ],
)
def test_conditions_choose_the_backend(lines: list[str], port: int) -> None:
    found = route("\n".join(f"    {one}" for one in (*lines, "default_backend web")))

    assert [one.port for one in found.upstreams] == [port]
    assert found.doubts == ()


def test_a_condition_that_is_not_known_is_told() -> None:
    found = route("    use_backend workers if { src 10.0.0.0/8 }\n    default_backend web")

    assert found.doubts == ("/h.cfg:10: use_backend workers if …",)


@pytest.mark.parametrize(
    ("line", "action"),
    [
        ("redirect scheme https if !{ ssl_fc }", Action.PASSES),
        ("http-request redirect scheme https code 301 unless { path /a }", Action.REDIRECTS),
        ("http-request deny if { path_beg /wss }", Action.DENIES),
        ("http-request deny if { src 10.0.0.1 }", Action.PASSES),
        ("http-request return status 200", Action.ANSWERS),
    ],
)
def test_rules_come_before_the_backend(line: str, action: Action) -> None:
    assert route(f"    {line}\n    default_backend workers").action is action


def test_without_a_backend_it_answers_itself() -> None:
    assert route("    use_backend workers if { path /a }").action is Action.ANSWERS


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ("127.0.0.1:8282", WORKER),
        ("127.0.0.1:8282 ssl verify none", Upstream(host="127.0.0.1", port=8282, is_tls=True)),
        (
            "127.0.0.1:8282 send-proxy-v2",
            Upstream(host="127.0.0.1", port=8282, sends_proxy=True),
        ),
        ("/run/w.sock", Upstream(path="/run/w.sock")),
        ("unix@/run/w.sock", Upstream(path="/run/w.sock")),
        ("ipv4@127.0.0.1:8282", WORKER),
        ("[::1]:8282", Upstream(host="::1", port=8282)),
    ],
)
def test_servers(server: str, expected: Upstream) -> None:
    backends = f"backend workers\n    server a {server}\n    server b 10.0.0.1:1 disabled\n"

    assert route("    default_backend workers", backends=backends).upstreams == (expected,)


def test_options_of_all_servers_count() -> None:
    backends = "backend workers\n    default-server send-proxy\n    server a 127.0.0.1:8282\n"
    found = route("    default_backend workers", backends=backends)

    assert found.upstreams[0].sends_proxy


def test_tcp_passes_the_tls_of_clients_on() -> None:
    found = route(
        "    default_backend workers",
        bind=":443",
        defaults=DEFAULTS.replace("mode http", "mode tcp"),
    )

    assert found.is_raw
    assert found.upstreams == (Upstream(host="127.0.0.1", port=8282, is_tls=True),)
    assert found.certificates == ()


@pytest.mark.parametrize(
    ("lines", "option", "seconds"),
    [
        ("timeout tunnel 1h", "timeout tunnel", 3600),
        ("timeout server 10s", "timeout server", 10),
        ("timeout server 20000", "timeout server", 20),
        ("timeout server 10m", "timeout client", 30),
    ],
)
def test_timeouts(lines: str, option: str, seconds: float) -> None:
    backends = f"backend workers\n    {lines}\n    server a 127.0.0.1:8282\n"
    found = route("    default_backend workers", backends=backends)

    assert (found.idle_option, found.idle_timeout) == (option, seconds)


@pytest.mark.parametrize(
    ("line", "lost"),
    [
        ("http-request del-header Upgrade", ("Upgrade: websocket",)),
        ("http-request set-header Connection close", ("Connection: Upgrade",)),
        ("http-request set-header Connection upgrade", ()),
        ("http-request del-header X-A", ()),
    ],
)
def test_lost_fields(line: str, lost: tuple[str, ...]) -> None:
    assert route(f"    {line}\n    default_backend workers").lost_fields == lost


def test_http2_alone() -> None:
    assert route("    default_backend workers", bind=":443 ssl crt /c alpn h2").is_http2_only
    assert route("    default_backend workers", bind=":443 proto h2").is_http2_only
    assert not route("    default_backend workers").is_http2_only


def test_ranges_of_ports_and_other_ports() -> None:
    text = f"{DEFAULTS}listen all\n    bind 127.0.0.1:8000-8010\n    server a 127.0.0.1:1\n"

    assert find_route({"/h.cfg": text}, target("ws://example.com:8005/")) is not None
    assert find_route({"/h.cfg": text}, target("ws://example.com:8011/")) is None


def test_defaults_are_those_above_or_those_named() -> None:
    text = (
        "defaults a\n    mode tcp\n    timeout client 1s\ndefaults b\n    mode http\n"
        "listen one\n    bind :1\n    server s 127.0.0.1:1\n"
        "listen two from a\n    bind :2\n    server s 127.0.0.1:1\n"
    )
    one, two = (find_route({"/h": text}, target(f"ws://e.com:{port}/")) for port in (1, 2))

    assert one is not None
    assert two is not None
    assert (one.is_raw, one.idle_timeout) == (False, None)
    assert (two.is_raw, two.idle_timeout) == (True, 1)


@pytest.mark.parametrize("text", ["", "bind :1", "global\n    user x\n", "nonsense\n"])
def test_what_is_not_a_configuration_is_refused(text: str) -> None:
    with pytest.raises(UnreadableConfiguration):
        parse({"/h.cfg": text})
