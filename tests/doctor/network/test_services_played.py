"""Services as they should be are not blamed; gateman's and Caddy's wrong ports are named."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.support.looked_at import causes, findings, folder, openssl, wait_for_tls
from tests.support.made_certificates import make
from tests.support.ports import free_port
from tests.support.proxies import program, running
from tests.support.server import needs_ipv6
from tests.support.service import DOMAIN, Service, serve

SERVER = """
import json, sys
from gateman import Worker
worker = Worker(sys.argv[1], json.loads(sys.argv[2]))
Worker.run_all()
"""

CADDY = """
{{
    admin off
    auto_https disable_redirects
    storage file_system {folder}/storage
    skip_install_trust
    local_certs
}}
https://a.test:{tls} {{
    respond x 426
}}
https://b.test:{new} {{
    tls internal {{
        protocols tls1.3
    }}
    respond x 426
}}
https://c.test:{client} {{
    tls internal {{
        client_auth {{
            mode require
        }}
    }}
    respond x 426
}}
http://a.test:{plain} {{
    respond x 426
}}
"""


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serve(SERVER, tmp_path_factory.mktemp("tls"), authority=trustme.CA()) as service:
        yield service


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serve(SERVER, tmp_path_factory.mktemp("plain")) as service:
        yield service


def test_gateman_is_not_blamed(secure: Service, plain: Service) -> None:
    assert findings(f"wss://{DOMAIN}:{secure.port}/", ca=secure.authority) == []
    assert findings(f"wss://localhost:{secure.port}/", ca=secure.authority, address=None) == []
    assert findings(f"ws://{DOMAIN}:{plain.port}/") == []
    assert findings(f"ws://localhost:{plain.port}/", address=None) == []


def test_gateman_with_the_other_scheme(secure: Service, plain: Service) -> None:
    (to_plain,) = findings(f"wss://{DOMAIN}:{plain.port}/chat")
    (to_tls,) = findings(f"ws://{DOMAIN}:{secure.port}/chat")

    assert (to_plain.code, to_tls.code) == ("TLS_ON_PLAIN_PORT", "PLAIN_ON_TLS_PORT")
    assert f"connect to wss://{DOMAIN}:{secure.port}/chat" in to_tls.fix


@pytest.fixture(scope="module")
def caddy() -> Iterator[tuple[dict[str, int], Path]]:
    ports = {name: free_port() for name in ("tls", "new", "client", "plain")}
    with folder() as path:
        (path / "Caddyfile").write_text(CADDY.format(folder=path, **ports))
        command = ["env", f"HOME={path}", f"XDG_DATA_HOME={path}", f"XDG_CONFIG_HOME={path}"]
        command += [program("caddy"), "run", "--config", str(path / "Caddyfile")]
        with running(command, port=ports["plain"], log=path / "log"):
            for kind, name in (("tls", "a.test"), ("new", "b.test"), ("client", "c.test")):
                wait_for_tls(ports[kind], name)
            yield ports, path / "storage/pki/authorities/local/root.crt"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("wss://a.test:{tls}/", []),
        ("ws://a.test:{plain}/", []),
        ("wss://a.test:{plain}/", ["TLS_ON_PLAIN_PORT"]),
        ("ws://a.test:{tls}/", ["PLAIN_ON_TLS_PORT"]),
        ("wss://other.test:{tls}/", ["SNI_UNKNOWN"]),
        ("wss://b.test:{new}/", ["TLS_13_ONLY"]),
        ("wss://c.test:{client}/", ["CLIENT_CERTIFICATE_REQUIRED"]),
    ],
)
def test_caddy(url: str, expected: list[str], caddy: tuple[dict[str, int], Path]) -> None:
    ports, authority = caddy

    assert causes(url.format(**ports), ca=authority) == expected


def test_caddy_is_recognised(caddy: tuple[dict[str, int], Path]) -> None:
    ports, _ = caddy
    (found,) = findings(f"wss://a.test:{ports['plain']}/")

    assert "Caddyfile" in found.fix


@needs_ipv6
def test_ipv6(tmp_path: Path) -> None:
    san = {"2.5.29.17": bytes.fromhex("3012871000000000000000000000000000000001")}
    made = make("::1", names=(), extensions=san)
    with openssl(tmp_path, made) as port:
        url = f"wss://[::1]:{port}/"
        assert findings(url, ca=next(tmp_path.glob("openssl-*.pem")), address=None) == []
