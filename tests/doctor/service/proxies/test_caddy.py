"""What Caddy does with a URL, by its configuration in JSON."""

import json
from typing import Any

import pytest

from gateman.doctor.service.proxies.caddy import find_route
from gateman.doctor.service.proxies.route import (
    Action,
    ProxyRoute,
    UnreadableConfiguration,
    Upstream,
)
from gateman.findings import Software
from tests.doctor.service.urls import target

WORKER = Upstream(host="127.0.0.1", port=8282)
PASS: dict[str, Any] = {"handler": "reverse_proxy", "upstreams": [{"dial": "127.0.0.1:8282"}]}


def route(*routes: dict[str, Any], url: str = "wss://example.com/wss", **server: Any) -> ProxyRoute:
    servers = {"srv0": {"listen": [":443"], "routes": list(routes), **server}}
    found = find_route(json.dumps({"apps": {"http": {"servers": servers}}}), target(url), name="c")
    assert found is not None
    return found


def test_what_a_caddyfile_becomes_is_read() -> None:
    # example.com { reverse_proxy /wss* 127.0.0.1:8282; file_server }
    inner = [
        {"match": [{"path": ["/wss*"]}], "handle": [PASS]},
        {"handle": [{"handler": "vars"}, {"handler": "file_server"}]},
    ]
    found = route(
        {
            "match": [{"host": ["example.com"]}],
            "handle": [{"handler": "subroute", "routes": inner}],
            "terminal": True,
        }
    )

    assert found == ProxyRoute(
        software=Software.CADDY,
        where="c, apps.http.servers.srv0.routes[0].routes[0]",
        block="reverse_proxy",
        action=Action.PASSES,
        upstreams=(WORKER,),
        idle_option="read_timeout of the transport",
        client_fields=frozenset({"x-forwarded-for"}),
    )


@pytest.mark.parametrize(
    ("match", "action"),
    [
        ({"path": ["/wss"]}, Action.PASSES),
        ({"path": ["/WS*"]}, Action.PASSES),
        ({"path": ["/other"]}, Action.ANSWERS),
        ({"path_regexp": {"pattern": "^/w.s"}}, Action.PASSES),
        ({"host": ["*.com"]}, Action.PASSES),
        ({"host": ["*.example.com"]}, Action.ANSWERS),
        ({"header": {"Upgrade": ["websocket"], "Connection": ["*Upgrade*"]}}, Action.PASSES),
        ({"not": [{"path": ["/wss"]}]}, Action.ANSWERS),
        ({"protocol": "https"}, Action.PASSES),
        ({"method": ["POST"]}, Action.ANSWERS),
        ({"remote_ip": {"ranges": ["10.0.0.0/8"]}}, Action.UNKNOWN),
    ],
)
def test_matchers(match: dict[str, Any], action: Action) -> None:
    assert route({"match": [match], "handle": [PASS]}).action is action


@pytest.mark.parametrize(
    ("handler", "action", "answer"),
    [
        ({"handler": "static_response", "status_code": 404}, Action.ANSWERS, "static_response 404"),
        (
            {"handler": "static_response", "status_code": 302, "headers": {"Location": ["/x"]}},
            Action.REDIRECTS,
            "302 to /x",
        ),
        ({"handler": "static_response", "abort": True}, Action.DENIES, "static_response 200"),
        ({"handler": "file_server"}, Action.ANSWERS, "file_server"),
        ({"handler": "unheard_of"}, Action.UNKNOWN, "an empty 200, as no route matches"),
    ],
)
def test_what_answers_in_its_place(handler: dict[str, Any], action: Action, answer: str) -> None:
    found = route({"handle": [handler]})

    assert (found.action, found.answer) == (action, answer)


def test_a_prefix_that_is_stripped_and_a_group_are_followed() -> None:
    strip = {"handler": "rewrite", "strip_path_prefix": "/api"}
    inner = [{"match": [{"path": ["/wss"]}], "handle": [PASS]}]
    found = route(
        {"group": "g", "match": [{"path": ["/x"]}], "handle": [{"handler": "file_server"}]},
        {"group": "g", "handle": [strip, {"handler": "subroute", "routes": inner}]},
        {"group": "g", "handle": [{"handler": "file_server"}]},
        url="wss://example.com/api/wss",
    )

    assert found.action is Action.PASSES


@pytest.mark.parametrize(
    ("dial", "transport", "expected"),
    [
        ("[::1]:8282", {}, Upstream(host="::1", port=8282)),
        ("unix//run/w.sock", {}, Upstream(path="/run/w.sock")),
        (":8282", {}, WORKER),
        ("127.0.0.1:8282", {"tls": {}}, Upstream(host="127.0.0.1", port=8282, is_tls=True)),
        (
            "127.0.0.1:8282",
            {"proxy_protocol": "v2"},
            Upstream(host="127.0.0.1", port=8282, sends_proxy=True),
        ),
    ],
)
def test_where_it_leads(dial: str, transport: dict[str, Any], expected: Upstream) -> None:
    handler = {**PASS, "upstreams": [{"dial": dial}], "transport": transport}

    assert route({"handle": [handler]}).upstreams == (expected,)


def test_an_upstream_that_is_a_placeholder_is_not_known() -> None:
    assert route({"handle": [{**PASS, "upstreams": [{"dial": "{env.W}:1"}]}]}).upstreams == ()


@pytest.mark.parametrize(
    ("request_", "lost"),
    [
        ({"delete": ["Upgrade"]}, ("Upgrade: websocket",)),
        ({"set": {"Connection": ["close"]}}, ("Connection: Upgrade",)),
        ({"set": {"Upgrade": ["websocket"]}}, ()),
    ],
)
def test_lost_fields(request_: dict[str, Any], lost: tuple[str, ...]) -> None:
    handler = {**PASS, "headers": {"request": request_}}

    assert route({"handle": [handler]}).lost_fields == lost


def test_timeouts_and_protocols() -> None:
    handler = {**PASS, "stream_timeout": "5m", "transport": {"read_timeout": 90_000_000_000}}
    found = route({"handle": [{"handler": "authentication"}, handler]}, protocols=["h2"])

    assert (found.stream_timeout, found.idle_timeout) == (300, 90)
    assert found.is_http2_only
    assert found.restrictions == ("authentication (basic_auth)",)
    assert not route({"handle": [PASS]}, protocols=["h1", "h2"]).is_http2_only


def test_the_host_may_be_replaced() -> None:
    replaced = {**PASS, "headers": {"request": {"set": {"Host": ["{upstream_hostport}"]}}}}

    assert not route({"handle": [replaced]}).keeps_host


def test_another_port_is_not_its_own() -> None:
    servers = {"a": {"listen": ["127.0.0.1:8000-8010"]}}
    text = json.dumps({"apps": {"http": {"servers": servers}}})

    assert find_route(text, target("ws://example.com:8005/")) is not None
    assert find_route(text, target("wss://example.com/")) is None


@pytest.mark.parametrize("text", ["", "example.com {", "[" * 100_000])
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(UnreadableConfiguration):
        find_route(text, target())


@pytest.mark.parametrize("text", ["[]", "1", '{"apps":[]}', '{"apps":{"http":{"servers":[1]}}}'])
def test_what_has_no_servers_answers_nothing(text: str) -> None:
    assert find_route(text, target()) is None


def test_deep_routes_are_refused() -> None:
    handler: dict[str, Any] = PASS
    for _ in range(40):
        handler = {"handler": "subroute", "routes": [{"handle": [handler]}]}

    with pytest.raises(UnreadableConfiguration, match="too deeply"):
        route({"handle": [handler]})
