"""Finding the proxies of this machine, and reading what they read."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateman.doctor.service import proxy_files
from gateman.doctor.service.observations import ListenerSeen, ProxySeen
from gateman.doctor.service.proxies.route import Action, Upstream
from gateman.findings import Software
from tests.support import proxies
from tests.support.certificates import Authority
from tests.support.haproxy import haproxy
from tests.support.ports import free_port

from .urls import target

WORKER = (Upstream(host="127.0.0.1", port=8282),)
NGINX = """\
server {{
    listen 127.0.0.1:{port};
    server_name localhost;
    location /wss {{ proxy_pass http://127.0.0.1:8282; }}
}}
"""
APACHE = """\
# a2enmod ssl proxy proxy_http
Listen 127.0.0.1:{port}
<VirtualHost 127.0.0.1:{port}>
    ServerName localhost
    ProxyPass /wss http://127.0.0.1:8282/wss upgrade=websocket
</VirtualHost>
"""


def look(url: str, owner: str = "", given: Path | None = None) -> tuple[ProxySeen, ...]:
    port = target(url).port
    listeners = [ListenerSeen(address="127.0.0.1", port=port, owner=owner)]
    return proxy_files.look(target(url), listeners, given, now=time.time())


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not pytest's tmp_path, which only its owner may enter: a proxy gives up root.
    made = Path(tempfile.mkdtemp(prefix="gateman-proxy-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def test_a_running_nginx_is_found_by_its_port(folder: Path) -> None:
    port = free_port()
    command = proxies.nginx_command(folder, NGINX.format(port=port))
    with proxies.running(command, port=port, log=folder / "error.log"):
        [seen] = look(f"ws://localhost:{port}/wss", "nginx (pid 1)")

    assert seen.route is not None
    assert (seen.software, seen.route.upstreams) == (Software.NGINX, WORKER)
    assert seen.route.where == f"{folder}/site.conf:4"
    assert seen.source == f"{folder}/nginx.conf"


def test_a_running_apache_is_found_by_its_port(folder: Path) -> None:
    port = free_port()
    command = proxies.apache_command(folder, APACHE.format(port=port))
    with proxies.running([*command, "-DFOREGROUND"], port=port, log=folder / "error.log"):
        [seen] = look(f"ws://localhost:{port}/wss", "apache2 (pid 1)")

    assert seen.route is not None
    assert (seen.software, seen.route.upstreams) == (Software.APACHE, WORKER)
    assert seen.route.where == f"{folder}/site.conf:5"


def test_a_running_haproxy_is_found_without_the_owner_of_the_port() -> None:
    with haproxy(8282, "check", mode="http") as proxy:
        [seen] = look(f"ws://localhost:{proxy.address[1]}/wss")

    assert seen.route is not None
    assert (seen.software, seen.route.upstreams) == (Software.HAPROXY, WORKER)


@pytest.mark.parametrize("owner", ["node (pid 1)", "python (pid 1)"])
def test_a_port_of_another_program_has_no_proxy(owner: str) -> None:
    assert look("ws://localhost:9/", owner) == ()


@pytest.mark.parametrize(
    ("name", "text", "software"),
    [
        ("a.conf", "http {{ " + NGINX + " }}", Software.NGINX),
        ("b.conf", APACHE, Software.APACHE),
        (
            "c.cfg",
            "frontend f\n  mode http\n  bind :{port}\n  default_backend w\nbackend w\n"
            "  server a 127.0.0.1:8282\n",
            Software.HAPROXY,
        ),
        (
            "d.json",
            '{{"apps":{{"http":{{"servers":{{"a":{{"listen":[":{port}"],"routes":[{{"handle":['
            '{{"handler":"reverse_proxy","upstreams":[{{"dial":"127.0.0.1:8282"}}]}}]}}]}}}}}}}}}}',
            Software.CADDY,
        ),
    ],
)
def test_a_file_that_is_given_is_read_by_its_kind(
    tmp_path: Path, name: str, text: str, software: Software
) -> None:
    path = tmp_path / name
    path.write_text(text.format(port=8443))
    [seen] = look("ws://localhost:8443/wss", given=path)

    assert seen.problem == ""
    assert seen.route is not None
    assert (seen.software, seen.route.action, seen.route.upstreams) == (
        software,
        Action.PASSES,
        WORKER,
    )


def test_included_files_of_a_file_that_is_given_are_read(tmp_path: Path) -> None:
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "a.conf").write_text(NGINX.format(port=8443))
    path = tmp_path / "nginx.conf"
    path.write_text("http { include sites/*.conf; }")
    [seen] = look("ws://localhost:8443/wss", given=path)

    assert seen.route is not None
    assert seen.route.where == f"{tmp_path}/sites/a.conf:4"


@pytest.mark.parametrize("text", ["http {", "nonsense", "", "\0\xff" * 100])
def test_what_cannot_be_understood_is_a_problem(tmp_path: Path, text: str) -> None:
    path = tmp_path / "nginx.conf"
    path.write_text(text)
    [seen] = look("ws://localhost:8443/wss", given=path)

    assert seen.route is None
    assert seen.problem or text == ""


def test_a_file_that_is_too_large_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "haproxy.cfg"
    path.write_text("frontend a\n" + "# padding\n" * 1_000_000)
    [seen] = look("ws://localhost:8443/wss", given=path)

    assert seen.problem.endswith("haproxy.cfg is too large")


def test_a_certificate_that_has_expired_is_found(tmp_path: Path) -> None:
    issued = Authority().issue(tmp_path, "localhost")
    text = NGINX.format(port=8443).replace(
        "server_name", f"ssl_certificate {issued.certificate}; server_name"
    )
    path = tmp_path / "nginx.conf"
    path.write_text(f"http {{ {text} }}")
    later = 40_000_000_000.0  # behind the year 3000
    [seen] = proxy_files.look(target("wss://localhost:8443/wss"), [], path, now=later)

    assert [one.code for one in seen.findings] == ["CERTIFICATE_EXPIRED"]
