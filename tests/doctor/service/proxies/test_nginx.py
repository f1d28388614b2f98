"""What nginx does with a URL, by its configuration."""

import pytest

from gateman.doctor.service.proxies.nginx import find_route
from gateman.doctor.service.proxies.nginx_syntax import included, parse, split_dump
from gateman.doctor.service.proxies.route import (
    Action,
    ProxyRoute,
    UnreadableConfiguration,
    Upstream,
)
from gateman.findings import Software
from gateman.ops import proxy
from tests.doctor.service.urls import target

MAIN = "/etc/nginx/nginx.conf"
UPGRADE = (
    "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;"
    ' proxy_set_header Connection "upgrade";'
)
WORKER = Upstream(host="127.0.0.1", port=8282)
SITE = proxy.Site(
    domain="example.com", upstream="127.0.0.1:8282", certificate="/c.pem", key="/k.pem"
)


def http(text: str, *, main: str = "") -> dict[str, str]:
    return {MAIN: f"user www-data;\n{main}\nevents {{}}\nhttp {{\n{text}\n}}\n"}


def server(text: str, listen: str = "443 ssl", name: str = "example.com") -> str:
    return f"server {{ listen {listen}; server_name {name}; {text} }}"


def route(text: str, url: str = "wss://example.com/wss") -> ProxyRoute:
    found = find_route(http(text), target(url))
    assert found is not None
    return found


def passing(location: str, more: str = "") -> str:
    return f"location {location} {{ proxy_pass http://127.0.0.1:8282; {UPGRADE} {more} }}"


def test_the_printed_configuration_is_read_whole() -> None:
    files = {
        MAIN: "user www-data;\nevents {}\nhttp {\n  include conf.d/*.conf;\n}\n",
        "/etc/nginx/conf.d/example.com.conf": proxy.nginx(SITE),
    }
    line = proxy.nginx(SITE).splitlines().index("    location ~ ^/wss(/|$) {") + 1

    assert find_route(files, target()) == ProxyRoute(
        software=Software.NGINX,
        where=f"/etc/nginx/conf.d/example.com.conf:{line}",
        block="location ~ ^/wss(/|$)",
        action=Action.PASSES,
        upstreams=(WORKER,),
        idle_timeout=75.0,
        idle_option="proxy_read_timeout",
        client_fields=frozenset({"x-real-ip", "x-forwarded-for"}),
        certificates=("/c.pem",),
        user="www-data",
    )


@pytest.mark.parametrize(
    ("locations", "expected"),
    [
        (["/", "/wss"], "location /wss"),
        (["/wss", "/", "~ ^/w"], "location ~ ^/w"),
        (["^~ /wss", "~ ^/w"], "location ^~ /wss"),
        (["= /wss", "~ ^/w", "^~ /wss"], "location = /wss"),
        (["~* ^/WSS$", "/wss"], "location ~* ^/WSS$"),
        (["~ ^/WSS$", "/wss"], "location /wss"),
        (["~ ^/(?<name>w)", "~ ^/wss"], "location ~ ^/(?<name>w)"),
        (["/other", "/ws"], "location /ws"),
        (["=/wss", "/"], "location =/wss"),
        (['"/wss"', "/"], "location /wss"),
    ],
)
def test_locations_are_searched_in_nginx_order(locations: list[str], expected: str) -> None:
    assert route(server(" ".join(map(passing, locations)))).block == expected


def test_nested_locations_are_searched() -> None:
    nested = f"location /a {{ {passing('/a/wss')} }} {passing('/')}"

    assert route(server(nested), "wss://example.com/a/wss").block == "location /a/wss"
    assert route(server(nested), "wss://example.com/a/b").action is Action.ANSWERS


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["other.com", "example.com"], 1),
        (["*.com", "example.com"], 1),
        (["example.*", "*.com"], 1),
        ([r"~^ex.*\.com$", "example.*"], 1),
        (["other.com", r"~^EX.*\.com$"], 1),
        (["other.com", ".example.com"], 1),
        (["other.com", "another.com"], 0),
    ],
)
def test_server_names_have_an_order(names: list[str], expected: int) -> None:
    servers = [
        f"server {{ listen 443; server_name {name}; return 2{n:02}; }}"
        for n, name in enumerate(names)
    ]

    assert route("\n".join(servers)).answer == f"return 2{expected:02}"


def test_the_default_server_answers_for_an_unknown_name() -> None:
    found = route(
        server("return 200;", name="a.com")
        + server("return 404;", listen="443 default_server", name="b.com")
    )

    assert (found.is_named, found.action, found.answer) == (False, Action.ANSWERS, "return 404")


@pytest.mark.parametrize(
    ("listen", "url", "is_found"),
    [
        ("443 ssl", "wss://example.com/", True),
        ("[::]:443 ssl", "wss://example.com/", True),
        ("127.0.0.1:8443", "wss://example.com:8443/", True),
        ("localhost", "ws://example.com/", True),
        ("unix:/run/nginx.sock", "ws://example.com/", False),
        ("8080", "ws://example.com/", False),
    ],
)
def test_only_a_server_of_the_port_is_looked_at(listen: str, url: str, *, is_found: bool) -> None:
    found = find_route(http(server("return 200;", listen=listen)), target(url))

    assert (found is not None) == is_found


@pytest.mark.parametrize(
    ("lines", "lost", "version"),
    [
        ("", ("Upgrade: websocket", "Connection: Upgrade"), "1.0"),
        ("proxy_http_version 1.1;", ("Upgrade: websocket", "Connection: Upgrade"), "1.1"),
        (UPGRADE.replace("proxy_http_version 1.1;", ""), (), "1.0"),
        (UPGRADE, (), "1.1"),
        (UPGRADE.replace('"upgrade"', "$http_connection"), (), "1.1"),
        (UPGRADE.replace('"upgrade"', "$connection_upgrade"), (), "1.1"),
        (UPGRADE.replace('"upgrade"', "$closing"), ("Connection: Upgrade",), "1.1"),
        (UPGRADE.replace('"upgrade"', '""'), ("Connection: Upgrade",), "1.1"),
        (UPGRADE.replace('"upgrade"', "$unknown"), (), "1.1"),
        (UPGRADE.replace("$http_upgrade", '""'), ("Upgrade: websocket",), "1.1"),
    ],
)
def test_lost_lines_of_the_upgrade(lines: str, lost: tuple[str, ...], version: str) -> None:
    maps = (
        "map $http_upgrade $connection_upgrade { default upgrade; '' close; }\n"
        "map $http_upgrade $closing { default upgrade; WebSocket close; }\n"
    )
    found = route(maps + server(f"location / {{ proxy_pass http://127.0.0.1:8282; {lines} }}"))

    assert (found.lost_fields, found.http_version) == (lost, version)


def test_fields_are_inherited_only_where_none_is_set() -> None:
    bare = "location / { proxy_pass http://127.0.0.1:8282; }"
    own = "location / { proxy_pass http://127.0.0.1:8282; proxy_set_header X-A b; }"

    assert route(UPGRADE + server(bare)).lost_fields == ()
    assert route(server(UPGRADE + bare)).lost_fields == ()
    assert len(route(server(UPGRADE + own)).lost_fields) == 2


def test_a_newer_nginx_speaks_http_1_1_by_itself() -> None:
    files = http(server("location / { proxy_pass http://127.0.0.1:8282; }"))
    found = find_route(files, target(), default_version="1.1")

    assert found is not None
    assert found.http_version == "1.1"


@pytest.mark.parametrize(
    ("url", "upstreams"),
    [
        ("http://127.0.0.1:8282", (WORKER,)),
        ("http://127.0.0.1:8282/", (WORKER,)),
        ("https://127.0.0.1:8282", (Upstream(host="127.0.0.1", port=8282, is_tls=True),)),
        ("http://[::1]:8282/ws", (Upstream(host="::1", port=8282),)),
        ("http://worker", (WORKER, Upstream(path="/run/w.sock"))),
        ("http://app.internal", (Upstream(host="app.internal", port=80),)),
        ("http://unix:/run/w.sock:/", (Upstream(path="/run/w.sock"),)),
        ("http://unix:/run/w.sock", (Upstream(path="/run/w.sock"),)),
        ("http://$worker_name", (WORKER,)),
        ("http://$unknown", ()),
        ("http://127.0.0.1:$port", ()),
    ],
)
def test_where_it_leads(url: str, upstreams: tuple[Upstream, ...]) -> None:
    upstream = (
        "upstream worker { server 127.0.0.1:8282 weight=2; server unix:/run/w.sock;"
        " server 10.0.0.1:1 down; keepalive 2; }\n"
    )
    text = f"set $worker_name 127.0.0.1:8282; location / {{ proxy_pass {url}; {UPGRADE} }}"
    found = route(upstream + server(text))

    assert (found.action, found.upstreams) == (Action.PASSES, upstreams)
    assert bool(found.doubts) == (not upstreams)


@pytest.mark.parametrize(
    ("text", "action", "answer"),
    [
        ("return 301 https://$host$request_uri;", Action.REDIRECTS, "return 301 https://"),
        ("return https://example.org;", Action.REDIRECTS, "return https://"),
        ("location / { return 403; }", Action.DENIES, "return 403"),
        ("location / { root /srv; }", Action.ANSWERS, "files of /srv"),
        ("location / { fastcgi_pass php; }", Action.ANSWERS, "fastcgi_pass php"),
        ("location / { try_files $uri /index.html; }", Action.ANSWERS, "try_files"),
        ("rewrite ^/(.*)$ https://e.org/$1 permanent;", Action.REDIRECTS, "rewrite"),
        ("if ($scheme = https) { return 404; }", Action.ANSWERS, "return 404"),
        (
            "if ($http_upgrade != websocket) { return 404; } return 204;",
            Action.ANSWERS,
            "return 204",
        ),
        (
            "location / { content_by_lua_block { if a then b = {} end } }",
            Action.UNKNOWN,
            "content_by",
        ),
        ("rewrite ^/wss$ /other last;", Action.UNKNOWN, "/etc/nginx/nginx.conf:5: rewrite"),
    ],
)
def test_what_answers_in_its_place(text: str, action: Action, answer: str) -> None:
    found = route(server(text))

    assert found.action is action
    assert found.answer.startswith(answer)


def test_a_named_location_behind_try_files_is_followed() -> None:
    found = route(server(f"location / {{ try_files $uri @ws; }} {passing('@ws')}"))

    assert (found.action, found.block) == (Action.PASSES, "location @ws")


def test_an_if_that_holds_for_a_websocket_is_followed() -> None:
    text = "if ($http_upgrade = websocket) { proxy_pass http://127.0.0.1:8282; }"
    found = route(server(f"location / {{ {text} root /srv; }}"))

    assert (found.action, found.upstreams) == (Action.PASSES, (WORKER,))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", 60), ("10s", 10), ("1h30m", 5400), ("500ms", 0.5), ("1d", 86400), ("90", 90)],
)
def test_timeouts(text: str, seconds: float) -> None:
    line = f"proxy_read_timeout {text};" if text else ""

    assert route(server(passing("/", line))).idle_timeout == seconds


@pytest.mark.parametrize(
    ("lines", "is_kept"),
    [
        ("", False),
        ("proxy_set_header Host $http_host;", True),
        ("proxy_set_header Host $host;", True),
        ("proxy_set_header Host example.com;", True),
        ("proxy_set_header Host other.com;", False),
        ("proxy_set_header X-Forwarded-Host $host;", True),
    ],
)
def test_whether_the_host_is_kept(lines: str, *, is_kept: bool) -> None:
    assert route(server(passing("/", lines))).keeps_host == is_kept


def test_rules_of_access() -> None:
    found = route(server(passing("/", "allow 10.0.0.0/8; deny all; auth_basic 'secret realm';")))

    assert found.restrictions == ("deny all", "allow 10.0.0.0/8", "auth_basic")
    assert route(server(passing("/", "auth_basic off; allow all;"))).restrictions == ()


def test_a_stream_server_passes_bytes_on() -> None:
    stream = (
        "stream { upstream w { server 127.0.0.1:8282; } server { listen 443; proxy_pass w;"
        " proxy_protocol on; proxy_timeout 1h; } }"
    )
    found = find_route(http("", main=stream), target())

    assert found is not None
    assert (found.is_raw, found.idle_timeout) == (True, 3600)
    # The client's own TLS.
    assert found.upstreams == (
        Upstream(host="127.0.0.1", port=8282, is_tls=True, sends_proxy=True),
    )


def test_the_dump_of_nginx_is_split_into_files() -> None:
    dump = "# configuration file /a:\nuser x;\n\n# configuration file /b:\nhttp {}\n"

    assert split_dump(dump) == {"/a": "user x;\n\n", "/b": "http {}\n"}
    assert included("a; include conf.d/*.conf;\n# include no;\n include 'b c';") == [
        "conf.d/*.conf"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "http {",
        "http { } }",
        "{ }",
        'user "x;',
        "user",
        "include nginx.conf;",
        "a {" * 100,
        "nothing like it",
    ],
)
def test_what_is_not_a_configuration_is_refused(text: str) -> None:
    with pytest.raises(UnreadableConfiguration):
        parse({MAIN: text})


def test_a_dump_without_files_is_refused() -> None:
    with pytest.raises(UnreadableConfiguration, match="nginx -T"):
        split_dump("nginx: configuration file test failed")


def test_comments_quotes_and_escapes_are_read() -> None:
    main = parse({MAIN: 'a \'b;c\' "d\\"e" f\\ g; # h;\nlog ${x}y; if ($a ~ "}") { i j; }'})

    assert [(one.name, one.args) for one in main.children] == [
        ("a", ("b;c", 'd"e', "f g")),
        ("log", ("${x}y",)),
        ("if", ("($a", "~", "}", ")")),
    ]
