"""The configurations as texts: what is in them, what may not get in, and that servers read them."""

import re
import socket
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateman.errors import ConfigError
from gateman.ops.proxy import Site, apache, installed_nginx, nginx
from tests.support import proxies
from tests.support.certificates import Authority
from tests.support.deadlines import TIMEOUT

SITE = Site(
    domain="example.com",
    upstream="127.0.0.1:8282",
    certificate="/etc/ssl/example.com/fullchain.pem",
    key="/etc/ssl/example.com/privkey.pem",
)

# Each way in which a text can differ, on ports that do not need root.
VARIANTS: list[dict[str, Any]] = [
    {"listen": "127.0.0.1:8443"},
    {"listen": "8443", "path": "/"},
    {"listen": "8443", "upstream": "unix:/run/gateman.sock"},
    {"listen": "127.0.0.1:8443", "upstream": "unix:/run/gateman.sock", "path": "/"},
    {"listen": "127.0.0.1:8443", "upstream": "[::1]:8282", "path": "/chat.v1/"},
    {"listen": "127.0.0.1:8443", "upstream": "localhost:8282", "path": "/~a/b-c_d"},
]


def directives(text: str) -> list[str]:
    """Return the lines that a server reads, without indentation."""
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


@pytest.fixture
def made(tmp_path: Path) -> Site:
    """Return a site whose files exist."""
    issued = Authority().issue(tmp_path, "example.com")
    return replace(
        SITE,
        certificate=str(issued.certificate),
        key=str(issued.key),
        root=str(tmp_path),
    )


def complaints(command: list[str]) -> str:
    """Let a server test its configuration; return its output except for success."""
    tested = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    lines = (tested.stdout + tested.stderr).splitlines()
    well = re.compile(r"Syntax OK|nginx: (the )?configuration file .* (syntax is ok|is successful)")
    return "\n".join(line for line in lines if not well.fullmatch(line))


def has_ipv6() -> bool:
    """Tell whether this machine can listen on ``[::]``."""
    try:
        socket.socket(socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_nginx_accepts_the_text(made: Site, tmp_path: Path, variant: dict[str, Any]) -> None:
    """``nginx -t`` finds neither an error nor anything to warn of."""
    text = nginx(replace(made, **variant), version=installed_nginx())
    if not has_ipv6():
        text = re.sub(r"# Remove this line.*\n.*\n", "", text)

    assert complaints([*proxies.nginx_command(tmp_path, text), "-t"]) == ""


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_apache_accepts_the_text(made: Site, tmp_path: Path, variant: dict[str, Any]) -> None:
    """``apachectl configtest`` finds neither an error nor anything to warn of."""
    text = apache(replace(made, **variant))

    assert complaints([*proxies.apache_command(tmp_path, text), "-t"]) == ""


def test_one_server_takes_several_sites(made: Site, tmp_path: Path) -> None:
    """Two texts do not get in each other's way, nor in that of the map that many sites have."""
    ports = (8443, 8444)
    sites = [replace(made, domain=f"s{port}.test", listen=f"127.0.0.1:{port}") for port in ports]
    usual = "map $http_upgrade $connection_upgrade { default upgrade; '' close; }"
    text = usual + "".join(nginx(site, version=installed_nginx()) for site in sites)

    assert complaints([*proxies.nginx_command(tmp_path, text), "-t"]) == ""


def test_the_installed_nginx_tells_its_version() -> None:
    """It is the version that ``nginx -v`` prints."""
    told = subprocess.run(
        [proxies.program("nginx"), "-v"], capture_output=True, text=True, check=True
    )

    assert f"nginx version: nginx/{installed_nginx()}" in told.stderr


@pytest.mark.parametrize("script", ["#!/bin/sh\necho 1.22.1 >&2\n", "\0"])
def test_an_nginx_that_does_not_answer_has_no_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    """Something else of that name, or a broken one, is as if there were none."""
    program = tmp_path / "nginx"
    program.write_text(script)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert installed_nginx() is None


# What is in the text.


@pytest.mark.parametrize("version", [None, "1.18", "1.22.1", "1.25", "1.25.0"])
def test_old_nginx_gets_http2_on_the_listen_line(version: str | None) -> None:
    """The form that every version reads, and the only one before 1.25.1."""
    lines = directives(nginx(SITE, version=version))

    assert [line for line in lines if "http2" in line] == [
        "listen 443 ssl http2;",
        "listen [::]:443 ssl http2;",
    ]


@pytest.mark.parametrize("version", ["1.25.1", "1.27.3", "2.0"])
def test_new_nginx_gets_the_http2_directive(version: str) -> None:
    """From 1.25.1 on, ``listen … http2`` is a warning."""
    lines = directives(nginx(SITE, version=version))

    assert lines[lines.index("server {") :][1:4] == [
        "listen 443 ssl;",
        "listen [::]:443 ssl;",
        "http2 on;",
    ]


@pytest.mark.parametrize("version", ["", "1", "nginx/1.22.1", "1.22.1\n", "1.x", "1.2.3.4"])
def test_an_invalid_version_is_refused(version: str) -> None:
    """A typing error in the version does not become a configuration."""
    with pytest.raises(ConfigError) as refused:
        nginx(SITE, version=version)

    assert str(refused.value) == (
        f"{version!r} is not a version of nginx: write it as in 1.22 or 1.27.3."
    )


@pytest.mark.parametrize(
    ("ping_interval", "timeout"), [(25.0, 75), (0.5, 60), (20.0, 60), (20.1, 61), (3600.0, 10800)]
)
def test_the_timeouts_follow_the_pings(ping_interval: float, timeout: int) -> None:
    """Three pings long, and never shorter than Nginx's own minute."""
    site = replace(SITE, ping_interval=ping_interval)

    assert re.findall(r"proxy_(\w+)_timeout (\d+)s;", nginx(site)) == [
        ("read", str(timeout)),
        ("send", str(timeout)),
        ("connect", "5"),
    ]
    assert re.findall(r" timeout=(\d+)$", apache(site), re.MULTILINE) == [str(timeout)]


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/", "/"),
        ("/wss", "~ ^/wss(/|$)"),
        ("/wss/", "~ ^/wss/"),
        ("/chat.v1/x_y~z-0", "~ ^/chat[.]v1/x_y~z-0(/|$)"),
    ],
)
def test_the_path_ends_at_a_slash(path: str, location: str) -> None:
    """A neighbour whose name begins alike stays with the site, and a dot is only a dot."""
    found = re.findall(r"location (.*) \{\n +proxy_pass", nginx(replace(SITE, path=path)))

    assert found == [location]


@pytest.mark.parametrize(
    ("upstream", "for_nginx", "for_apache", "worker"),
    [
        (
            "127.0.0.1:8282",
            "http://127.0.0.1:8282",
            "http://127.0.0.1:8282/wss",
            "websocket://127.0.0.1:8282",
        ),
        ("[::1]:8282", "http://[::1]:8282", "http://[::1]:8282/wss", "websocket://[::1]:8282"),
        (
            "unix:/run/g.sock",
            "http://unix:/run/g.sock",
            "unix:/run/g.sock|http://example.com/wss",
            "websocket+unix:///run/g.sock",
        ),
    ],
)
def test_each_kind_of_upstream(upstream: str, for_nginx: str, for_apache: str, worker: str) -> None:
    """It is written as the servers and the worker want it."""
    site = replace(SITE, upstream=upstream)

    assert re.findall(r"proxy_pass (.*);", nginx(site)) == [for_nginx]
    assert re.findall(r'ProxyPass "(.*?)"', apache(site)) == [for_apache]
    assert [re.findall(r'Worker\("(.*?)"\)', text) for text in (nginx(site), apache(site))] == [
        [worker],
        [worker],
    ]


@pytest.mark.parametrize(
    ("listen", "host", "port"),
    [
        ("443", "*:443", None),
        ("8443", "*:8443", "8443"),
        ("192.0.2.1:443", "192.0.2.1:443", "192.0.2.1:443"),
        ("[2001:db8::1]:8443", "[2001:db8::1]:8443", "[2001:db8::1]:8443"),
    ],
)
def test_apache_gets_a_listen_line_for_other_ports(
    listen: str, host: str, port: str | None
) -> None:
    """Debian's ports.conf has 443 already, and a second ``Listen`` for it is an error."""
    text = apache(replace(SITE, listen=listen))

    assert re.findall(r"<VirtualHost (.*)>", text) == [host]
    assert re.findall(r"^Listen (.*) https$", text, re.MULTILINE) == ([port] if port else [])


def test_the_stale_lines_of_old_guides_are_gone() -> None:
    """None of what made the old samples unsafe, or fail on servers of today, is printed."""
    texts = "\n".join(directives(nginx(SITE)) + directives(apache(SITE)))

    assert (
        re.findall(
            r"ssl on|SSLv[23](?!\w)|TLSv1(?:\.1)?(?![.\w])|RC4|EXP\b|MEDIUM|LOW|wstunnel|ws://"
            r"|SSLProxyEngine|CertificateChainFile|\$proxy_add_x_forwarded_for|\"Upgrade\"",
            texts,
        )
        == []
    )


@pytest.mark.parametrize("text", [nginx(SITE), apache(SITE)], ids=["nginx", "apache"])
def test_the_comments_say_what_to_do(text: str) -> None:
    """Where to save it, how to test and load it, and the notes that people fail without."""
    comments = "\n".join(line for line in text.splitlines() if line.startswith("#"))

    assert re.findall(r"Save this as (\S+)", comments) in (
        ["/etc/nginx/conf.d/example.com.conf"],
        ["/etc/apache2/sites-available/example.com.conf"],
    )
    assert re.findall(r"nginx -t|apachectl configtest", comments) != []
    for word in ("never both", "Firewall", "not by an address", "port 443", SITE.url):
        assert word in comments
    assert "@{" not in text
    assert max(len(line) for line in text.splitlines() if "iphers" not in line.lower()) <= 110


# What may not get in.


@pytest.mark.parametrize("field", ["domain", "upstream", "certificate", "key", "path", "root"])
@pytest.mark.parametrize("strange", [*"\"'`{}();$#\\<>|&%*?^! \t\r\n\0", "${HOME}", "\u2028"])
def test_nothing_breaks_out_of_its_place(field: str, strange: str) -> None:
    """No value holds a character that means something in a configuration, at any position."""
    value = getattr(SITE, field)
    for at in (0, len(value) // 2, len(value)):
        with pytest.raises(ConfigError):
            replace(SITE, **{field: value[:at] + strange + value[at:]})


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"domain": "example..com"}, "'example..com' is not a domain: write it as in example.com."),
        (
            {"domain": "https://example.com"},
            "'https://example.com' is not a domain: write it as in example.com.",
        ),
        ({"domain": "a" * 64}, f"{'a' * 64!r} is not a domain: write it as in example.com."),
        (
            {"domain": "192.0.2.1"},
            "'192.0.2.1' is an address, not a domain: certificates belong to domains: name one.",
        ),
        (
            {"domain": "müller.example"},
            "the domain 'müller.example' is not ASCII: write its xn-- form, as in the certificate.",
        ),
        *(
            (
                {"upstream": upstream},
                f"{upstream!r} is not an address that a worker listens on: write"
                " 127.0.0.1:8282, [::1]:8282 or unix:/run/gateman.sock.",
            )
            for upstream in (
                "8282",
                "127.0.0.1",
                "127.0.0.1:0",
                "127.0.0.1:65536",
                "::1:8282",
                "[::1%eth0]:8282",
                "[127.0.0.1]:8282",
                "websocket://127.0.0.1:8282",
                "127.0.0.1:8282/wss",
                ":8282",
            )
        ),
        (
            {"upstream": "unix:gateman.sock"},
            "the unix socket 'gateman.sock' is not an absolute path: begin it with a slash.",
        ),
        (
            {"upstream": "unix:/run/a:b.sock"},
            "the unix socket '/run/a:b.sock' has a ':' in it, which a configuration could misread:"
            " rename it, or make a link with a plain name.",
        ),
        (
            {"certificate": "server.pem"},
            "the certificate 'server.pem' is not an absolute path: begin it with a slash.",
        ),
        (
            {"key": "/etc/my key.pem"},
            "the key '/etc/my key.pem' has a ' ' in it, which a configuration could misread:"
            " rename it, or make a link with a plain name.",
        ),
        *(
            (
                {"path": path},
                f"{path!r} is not a path for a WebSocket: begin it with a slash and use letters,"
                " digits and . _ ~ -, as in /wss.",
            )
            for path in ("", "wss", "//", "/a//b", "/./wss", "/wss/..", "/wss?room=1", "/ä", "/%41")
        ),
        *(
            (
                {"listen": listen},
                f"{listen!r} is not a port to listen on: write 443, 192.0.2.1:443 or"
                " [2001:db8::1]:443.",
            )
            for listen in ("", "0", "https", "65536", "+443", "::1:443", "example.com:443", ":443")
        ),
        *(
            (
                {"ping_interval": seconds},
                f"a ping interval of {seconds:g} is not between 0 and 3600: give the worker's"
                " timeouts.ping_interval, in seconds.",
            )
            for seconds in (0.0, -1.0, 3601.0, float("nan"), float("inf"))
        ),
    ],
    ids=lambda value: repr(value) if isinstance(value, dict) else "",
)
def test_a_mistake_is_one_sentence(wrong: dict[str, Any], sentence: str) -> None:
    """What cannot be served is refused, with what to write instead."""
    with pytest.raises(ConfigError) as refused:
        replace(SITE, **wrong)

    assert str(refused.value) == sentence


def test_file_names_may_be_in_any_language() -> None:
    """Letters are letters; what stays out is what a configuration would read as its own."""
    site = replace(SITE, key="/etc/ssl/schlüssel-例え_1@b=c,d+e~.key")

    assert f"ssl_certificate_key {site.key};" in nginx(site)
    assert f"SSLCertificateKeyFile {site.key}\n" in apache(site)


@pytest.mark.parametrize("domain", ["localhost", "a.example", "xn--mller-kva.example", "X-1.Test"])
def test_domains_that_exist_are_accepted(domain: str) -> None:
    """A name of this machine, a subdomain, an international domain, capitals."""
    assert replace(SITE, domain=domain, listen="8443").url == f"wss://{domain}:8443/wss"
