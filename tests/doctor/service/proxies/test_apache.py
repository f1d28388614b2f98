"""What Apache does with a URL, by its configuration."""

import pytest

from gateman.doctor.service.proxies.apache import find_route
from gateman.doctor.service.proxies.apache_syntax import included, parse, server_root
from gateman.doctor.service.proxies.route import (
    Action,
    ProxyRoute,
    UnreadableConfiguration,
    Upstream,
)
from gateman.findings import Software
from gateman.ops import proxy
from tests.doctor.service.urls import target

MAIN = "/etc/apache2/apache2.conf"
HEAD = "ServerRoot /etc/apache2\nListen 443\nUser www-data\n"
WORKER = Upstream(host="127.0.0.1", port=8282)
PASS = "ProxyPass /wss http://127.0.0.1:8282/wss upgrade=websocket"
REWRITE = """\
RewriteEngine On
RewriteCond %{HTTP:Upgrade} =websocket [NC]
RewriteRule ^/?(.*) "ws://127.0.0.1:8282/$1" [P,L]
"""


def route(text: str, url: str = "wss://example.com/wss", *, head: str = HEAD) -> ProxyRoute:
    files = {MAIN: f"{head}<VirtualHost *:443>\nServerName example.com\n{text}\n</VirtualHost>\n"}
    found = find_route(files, target(url))
    assert found is not None
    return found


def test_the_printed_configuration_is_read_whole() -> None:
    site = proxy.Site(
        domain="example.com", upstream="127.0.0.1:8282", certificate="/c.pem", key="/k.pem"
    )
    text = proxy.apache(site)
    path = "/etc/apache2/sites-enabled/example.com.conf"
    files = {MAIN: f"{HEAD}IncludeOptional sites-enabled/*.conf\n", path: text}
    [line] = [
        n for n, one in enumerate(text.splitlines(), 1) if one.strip().startswith("ProxyPass ")
    ]

    assert find_route(files, target()) == ProxyRoute(
        software=Software.APACHE,
        where=f"{path}:{line}",
        block="ProxyPass http://127.0.0.1:8282/wss upgrade=websocket connectiontimeout=5"
        " timeout=75",
        action=Action.PASSES,
        upstreams=(WORKER,),
        idle_timeout=75.0,
        idle_option="timeout= of ProxyPass, or Timeout",
        client_fields=frozenset({"x-forwarded-for"}),
        certificates=("/c.pem",),
        user="www-data",
    )


@pytest.mark.parametrize(
    ("text", "upstreams", "is_passed_on"),
    [
        (PASS, (WORKER,), True),
        ("ProxyPass /wss http://127.0.0.1:8282/wss", (WORKER,), False),
        ("ProxyPass /wss ws://127.0.0.1:8282/wss", (WORKER,), True),
        ("ProxyPass / ws://127.0.0.1:8282/", (WORKER,), True),
        (REWRITE, (WORKER,), True),
        (
            "ProxyPassMatch ^/w(.*) wss://127.0.0.1:8282/$1",
            (Upstream(host="127.0.0.1", port=8282, is_tls=True),),
            True,
        ),
        (
            '<Location "/wss">\nProxyPass unix:/run/w.sock|http://x/ upgrade=ANY\n</Location>',
            (Upstream(path="/run/w.sock"),),
            True,
        ),
        (
            "<Proxy balancer://w>\nBalancerMember ws://127.0.0.1:8282\n</Proxy>\n"
            "ProxyPass / balancer://w/",
            (WORKER,),
            True,
        ),
        ("ProxyPass /wss http://app", (Upstream(host="app", port=80),), False),
    ],
)
def test_where_it_leads(text: str, upstreams: tuple[Upstream, ...], *, is_passed_on: bool) -> None:
    found = route(text)

    assert (found.action, found.upstreams) == (Action.PASSES, upstreams)
    assert (found.lost_fields == ()) == is_passed_on


@pytest.mark.parametrize(
    ("text", "block"),
    [
        (f"ProxyPass / http://127.0.0.1:80/\n{PASS}", "ProxyPass / http://127.0.0.1:80/"),
        (f"{PASS}\nProxyPass / http://127.0.0.1:80/", PASS),
        (f"{REWRITE}\n{PASS}", "RewriteRule ^/?(.*) ws://127.0.0.1:8282/$1 [P,L]"),
        (f"ProxyPass /wssx http://127.0.0.1:80/\n{PASS}", PASS),
        (
            f"ProxyPass / http://127.0.0.1:80/\n<Location /wss>\n{PASS.replace('/wss ', '', 1)}"
            "\n</Location>",
            PASS.replace("/wss ", "", 1),
        ),
    ],
)
def test_rules_have_an_order(text: str, block: str) -> None:
    assert route(text).block == block


@pytest.mark.parametrize(
    ("text", "action"),
    [
        (f"ProxyPass /wss !\n{PASS}", Action.ANSWERS),
        ("DocumentRoot /srv", Action.ANSWERS),
        ("Redirect permanent / https://example.org/", Action.REDIRECTS),
        ("RedirectMatch ^/w https://example.org/", Action.REDIRECTS),
        (
            "RewriteEngine On\nRewriteRule ^ https://%{HTTP_HOST}%{REQUEST_URI} [R=301,L]",
            Action.REDIRECTS,
        ),
        ("RewriteEngine On\nRewriteRule ^/wss - [F]", Action.DENIES),
        (
            "RewriteEngine On\nRewriteCond %{REMOTE_ADDR} ^10\\.\nRewriteRule ^ - [F]",
            Action.UNKNOWN,
        ),
        ("RewriteEngine Off\nRewriteRule ^/wss - [F]", Action.ANSWERS),
        ('SetHandler "proxy:fcgi://127.0.0.1:9000"', Action.ANSWERS),
        (
            "RewriteEngine On\nRewriteCond %{HTTPS} off\nRewriteRule ^ https://x/ [R]",
            Action.ANSWERS,
        ),
        (
            "RewriteEngine On\nRewriteCond %{HTTP:Upgrade} !=websocket [NC]\nRewriteRule ^ - [F]",
            Action.ANSWERS,
        ),
    ],
)
def test_what_answers_in_its_place(text: str, action: Action) -> None:
    assert route(text).action is action


def test_virtual_hosts_are_found_by_name_and_alias() -> None:
    def host(name: str, answer: str, alias: str = "") -> str:
        return (
            f"<VirtualHost *:443>\nServerName {name}\nServerAlias {alias}\nRedirect / {answer}\n"
            "</VirtualHost>\n"
        )

    files = {MAIN: HEAD + host("a.com", "https://a/") + host("b.com", "https://b/", "*.b.org")}

    for name, answer, is_named in [
        ("b.com", "https://b/", True),
        ("x.b.org", "https://b/", True),
        ("c.com", "https://a/", False),
    ]:
        found = find_route(files, target(f"wss://{name}/"))
        assert found is not None
        assert (found.answer, found.is_named) == (f"redirect / {answer}", is_named)


def test_a_port_that_it_does_not_listen_on_is_not_its_own() -> None:
    assert find_route({MAIN: HEAD}, target("wss://example.com:8443/")) is None


def test_what_is_not_loaded_is_left_out() -> None:
    head = HEAD + "LoadModule proxy_module m.so\n"
    text = (
        "<IfModule mod_missing.c>\nRedirect / https://x/\n</IfModule>\n"
        f"<IfModule proxy_module>\n{PASS}\n</IfModule>\n"
        "<IfModule !proxy_module>\nRedirect / https://x/\n</IfModule>"
    )

    assert route(text, head=head).block == PASS


def test_defined_words_and_continued_lines_are_read() -> None:
    text = "Define WORKER 127.0.0.1:8282\n# ProxyPass / x\nProxyPass /wss \\\n  ws://${WORKER}/"

    assert route(text).upstreams == (WORKER,)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (PASS, 60),
        (f"{PASS} timeout=600", 600),
        (f"{PASS} timeout=10", 60),
        (f"Timeout 20\n{PASS} timeout=10", 20),
        (f"Timeout 20\nProxyTimeout 30\n{PASS}", 30),
        (f"{PASS} timeout=90000ms", 90),
    ],
)
def test_the_longer_of_two_timeouts_counts(text: str, seconds: float) -> None:
    assert route(text).idle_timeout == seconds


def test_what_else_keeps_clients_out() -> None:
    denied = route(f"{PASS}\n<Location /wss>\nRequire all denied\n</Location>")
    authenticated = route(f"{PASS}\n<Location />\nAuthType Basic\nRequire valid-user\n</Location>")

    assert denied.restrictions == ("Require all denied",)
    assert authenticated.restrictions == ("Require valid-user", "authtype Basic")
    assert route(f"Protocols h2\n{PASS}").is_http2_only
    assert not route(f"Protocols h2 http/1.1\n{PASS}").is_http2_only
    assert route(f"SetEnv force-proxy-request-1.0 1\n{PASS}").http_version == "1.0"
    assert not route(f"ProxyAddHeaders Off\n{PASS}").keeps_host
    assert route(f"{PASS}\nRequestHeader unset Upgrade").lost_fields == ("Upgrade: websocket",)


@pytest.mark.parametrize(
    ("modules", "line", "missing"),
    [
        ("proxy", PASS, "the module proxy_http (a2enmod proxy_http)"),
        ("proxy_http", PASS, ""),
        ("proxy_wstunnel", "ProxyPass /wss ws://127.0.0.1:8282/", ""),
        ("proxy_wstunnel", PASS, "the module proxy_http (a2enmod proxy_http)"),
        ("proxy_http", "ProxyPass / https://127.0.0.1:8282/", "the line `SSLProxyEngine on`"),
        ("proxy_http", "SSLProxyEngine on\nProxyPass / https://127.0.0.1:8282/", ""),
    ],
)
def test_what_it_lacks(modules: str, line: str, missing: str) -> None:
    assert route(line, head=f"{HEAD}LoadModule {modules}_module m.so\n").missing == missing


def test_included_files_are_named() -> None:
    text = 'ServerRoot "/etc/httpd"\nInclude conf.d/*.conf\nIncludeOptional sites/\n#Include no\n'

    assert included(text) == ["conf.d/*.conf", "sites/*"]
    assert server_root(text) == "/etc/httpd"


@pytest.mark.parametrize(
    "text", ["<VirtualHost *:443>", "</Location>", "<A>\n</B>", "Include apache2.conf"]
)
def test_what_is_not_a_configuration_is_refused(text: str) -> None:
    with pytest.raises(UnreadableConfiguration):
        parse({MAIN: f"ServerRoot /etc/apache2\n{text}"})
