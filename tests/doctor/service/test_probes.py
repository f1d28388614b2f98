"""A look at a real service, before it starts, while it runs, and through real proxies."""

import asyncio
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateman import Worker
from gateman.doctor.rows import Outcome
from gateman.doctor.service import probes
from gateman.doctor.service.judgement import judge
from gateman.doctor.service.observations import ServiceSeen
from gateman.doctor.service.rows import rows
from gateman.doctor.target import Settings, Target
from gateman.findings import Finding, Severity
from gateman.master.script import Script
from tests.support import proxies
from tests.support.deadlines import TIMEOUT
from tests.support.haproxy import haproxy
from tests.support.master import Master, echo, master, secure
from tests.support.ports import free_port
from tests.support.server import ssl_options
from tests.support.suspend import suspend

from .urls import target

UPGRADE = """\
proxy_http_version 1.1;
proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection "upgrade";
proxy_set_header Host $http_host;
proxy_set_header X-Forwarded-For $remote_addr;
"""
NGINX = """\
server {{
    listen 127.0.0.1:{port};
    server_name localhost;
    location /wss {{
        proxy_pass http://{upstream};
        {lines}
    }}
}}
"""
APACHE = """\
# a2enmod {modules}
Listen 127.0.0.1:{port}
<VirtualHost 127.0.0.1:{port}>
    ServerName localhost
    {lines}
</VirtualHost>
"""

# Roots that are not those of the tests' certificates.
CA = "/etc/ssl/certs/ca-certificates.crt"


class Look:
    """What was seen of a service, and what is wrong with it."""

    def __init__(
        self, service: Script, declared: Worker, url: Target | None, settings: Settings
    ) -> None:
        told: list[str] = []
        # On a machine that is busy with other tests, files take their time.
        settings = replace(settings, timeout=60.0)
        self.seen: ServiceSeen = asyncio.run(
            probes.look([declared], service, url, settings, told.append)
        )
        self.findings: list[Finding] = judge(url, self.seen)
        self.told = told

    @property
    def codes(self) -> set[str]:
        """Of causes and warnings; earlier counts and a busy machine do not matter here."""
        told = {one.code for one in self.findings if one.severity is not Severity.NOTE}
        return told - {"SERVICE_SLOW"}

    @property
    def causes(self) -> list[str]:
        return [one.code for one in self.findings if one.severity is Severity.CAUSE]


def look(
    service: Master, url: str | None = None, declared: Worker | None = None, **how: Any
) -> Look:
    worker = declared or Worker("websocket://127.0.0.1:0", name="chat", count=2)
    parsed = None if url is None else target(url)
    return Look(Script.find(str(service.path)), worker, parsed, Settings(**how))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Master]:
    with master(echo(options="count=2"), tmp_path_factory.mktemp("service")) as service:
        yield service


@contextmanager
def folder() -> Iterator[Path]:
    # Not pytest's tmp_path, which only its owner may enter: a proxy gives up root.
    made = Path(tempfile.mkdtemp(prefix="gateman-doctor-"))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made)


@contextmanager
def nginx(
    upstream: str, lines: str = UPGRADE, edit: tuple[str, str] = ("", ""), user: str = "www-data"
) -> Iterator[str]:
    port = free_port()
    text = NGINX.format(port=port, upstream=upstream, lines=lines).replace(*edit)
    with folder() as made:
        command = proxies.nginx_command(made, text)
        main = made / "nginx.conf"
        main.write_text(main.read_text().replace("www-data", user))
        with proxies.running(command, port=port, log=made / "error.log"):
            yield f"ws://localhost:{port}/wss?token=secret"


@contextmanager
def apache(lines: str, modules: str = "ssl proxy proxy_http") -> Iterator[str]:
    port = free_port()
    text = APACHE.format(port=port, lines=lines, modules=modules)
    with folder() as made:
        command = proxies.apache_command(made, text)
        with proxies.running([*command, "-DFOREGROUND"], port=port, log=made / "error.log"):
            yield f"ws://localhost:{port}/wss"


@contextmanager
def caddy(lines: str) -> Iterator[str]:
    port = free_port()
    with folder() as made:
        path = made / "Caddyfile"
        path.write_text(f"{{\n  admin off\n}}\nhttp://localhost:{port} {{\n{lines}\n}}\n")
        command = [proxies.program("caddy"), "run", "--config", str(path)]
        with proxies.running(command, port=port, log=made / "log"):
            yield f"ws://localhost:{port}/wss"


# Healthy.


def test_a_healthy_service_behind_nginx(running: Master) -> None:
    with nginx(f"127.0.0.1:{running.port}") as url:
        found = look(running, url)

    assert found.codes == set()
    assert {one.outcome for one in rows(found.seen)} == {Outcome.OK}
    handshake = found.seen.handshake
    assert handshake is not None
    [arrival] = handshake.arrivals
    assert (handshake.status, arrival["status"]) == (101, 101)
    assert arrival["carriers"] == ["field", "query", "key"]
    assert arrival["path"] == "/wss"
    assert "secret" not in repr(found.seen.handshake)
    assert found.told[-1] == f"{url}: how a handshake arrives"


@pytest.mark.parametrize("mode", ["http", "tcp"])
def test_a_healthy_service_behind_haproxy(running: Master, mode: str) -> None:
    with haproxy(running.port, "", mode=mode) as proxy:
        found = look(running, f"ws://localhost:{proxy.address[1]}/wss")

    assert found.codes == set()


def test_a_healthy_service_behind_apache(running: Master) -> None:
    line = f"ProxyPass /wss http://127.0.0.1:{running.port}/wss upgrade=websocket"
    with apache(line) as url:
        assert look(running, url).codes == set()


def test_a_healthy_service_behind_caddy(running: Master) -> None:
    with caddy(f"reverse_proxy /wss* 127.0.0.1:{running.port}\nfile_server") as url:
        assert look(running, url).codes == set()


def test_a_healthy_service_without_a_proxy(running: Master) -> None:
    assert look(running, f"ws://localhost:{running.port}/").codes == set()
    assert look(running).codes == set()


def test_a_healthy_service_with_tls(tmp_path: Path) -> None:
    declared = Worker("wss://127.0.0.1:0", {"ssl": ssl_options()}, name="chat", count=1)
    with master(secure(echo(options="count=1")), tmp_path) as service:
        found = look(service, f"wss://localhost:{service.port}/", declared)

    assert found.codes == set()


# Behind nginx.


@pytest.mark.parametrize(
    ("lines", "edit", "expected"),
    [
        ("", ("", ""), {"UPGRADE_LOST", "HOST_REPLACED"}),
        (UPGRADE.replace("proxy_http_version 1.1;", ""), ("", ""), {"UPGRADE_HTTP_1_0"}),
        (UPGRADE, ("http://", "https://"), {"PEER_SPOKE_TLS"}),
        (UPGRADE, ("/wss", "/other"), {"PROXY_ANSWERS_ITSELF"}),
        (UPGRADE + "proxy_read_timeout 10s;", ("", ""), {"PROXY_IDLE_TIMEOUT"}),
        (UPGRADE.replace("Host $http_host", "X-A b"), ("", ""), {"HOST_REPLACED"}),
        (UPGRADE + "deny all;", ("", ""), {"PROXY_DENIES"}),
        (UPGRADE + "return 301 https://example.com/;", ("", ""), {"PROXY_REDIRECTS"}),
    ],
)
def test_faults_of_nginx(
    running: Master, lines: str, edit: tuple[str, str], expected: set[str]
) -> None:
    with nginx(f"127.0.0.1:{running.port}", lines, edit) as url:
        found = look(running, url)

    assert found.codes == expected
    assert all(re.search(r"site\.conf:\d+", f"{one}{one.evidence}") for one in found.findings[-1:])


def test_a_proxy_that_leads_to_another_port(running: Master) -> None:
    port = free_port()
    with nginx(f"127.0.0.1:{port}") as url:
        found = look(running, url)

    assert found.causes == ["PROXY_LEADS_ELSEWHERE"]
    assert f"http://127.0.0.1:{running.port};" in found.findings[-1].fix


def test_another_service_that_answers(running: Master, tmp_path: Path) -> None:
    with master(echo(), tmp_path) as other:
        found = look(running, f"ws://localhost:{other.port}/")

    assert "ANOTHER_SERVICE_ANSWERS" in found.causes


# Behind others.


@pytest.mark.parametrize(
    ("options", "mode", "expected"),
    [
        ("send-proxy-v2", "http", "PROXY_HEADER_UNEXPECTED"),
        ("send-proxy", "tcp", "PROXY_HEADER_UNEXPECTED"),
        ("ssl", "http", "PEER_SPOKE_TLS"),
    ],
)
def test_faults_of_haproxy(running: Master, options: str, mode: str, expected: str) -> None:
    with haproxy(running.port, options, mode=mode) as proxy:
        found = look(running, f"ws://localhost:{proxy.address[1]}/wss")

    assert found.causes == [expected]


def test_a_proxy_header_that_is_missing(tmp_path: Path) -> None:
    declared = Worker("websocket://127.0.0.1:0", name="chat", proxy_protocol="required")
    script = echo(options="proxy_protocol='required'")
    with master(script, tmp_path) as service, haproxy(service.port, "", mode="http") as proxy:
        found = look(service, f"ws://localhost:{proxy.address[1]}/wss", declared)
        # What is seen of what arrives decides without the configuration, too.
        missing = tmp_path / "none.cfg"
        missing.write_text("frontend f\n  bind :1\n")
        url = f"ws://localhost:{proxy.address[1]}/wss"
        blind = look(service, url, declared, proxy_config=missing)

    assert found.causes == ["PROXY_HEADER_MISSING"]
    assert blind.causes == ["PROXY_HEADER_MISSING"]
    assert "no_proxy_header" in blind.findings[-1].evidence


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("ProxyPass /wss http://127.0.0.1:{port}/wss", "UPGRADE_LOST"),
        ("ProxyPass / http://127.0.0.1:{other}/\n    ProxyPass /wss ws://127.0.0.1:{port}/", None),
        ("DocumentRoot /srv", "PROXY_ANSWERS_ITSELF"),
    ],
)
def test_faults_of_apache(running: Master, lines: str, expected: str | None) -> None:
    with apache(lines.format(port=running.port, other=free_port())) as url:
        found = look(running, url)

    assert found.causes == [expected or "PROXY_LEADS_ELSEWHERE"]


def test_a_module_that_apache_lacks(running: Master) -> None:
    line = f"ProxyPass /wss http://127.0.0.1:{running.port}/wss upgrade=websocket"
    with apache(line, "ssl proxy") as url:
        assert look(running, url).causes == ["PROXY_INCOMPLETE"]


def test_proxies_of_a_worker_with_tls(tmp_path: Path) -> None:
    declared = Worker("wss://127.0.0.1:0", {"ssl": ssl_options()}, name="chat", count=1)
    with master(secure(echo(options="count=1")), tmp_path) as service:
        upstream = f"127.0.0.1:{service.port}"
        with nginx(upstream) as url:
            plain = look(service, url, declared)
        with nginx(upstream, edit=("http://", "https://")) as url:
            encrypted = look(service, url, declared)
        lines = f"{UPGRADE} proxy_ssl_verify on; proxy_ssl_trusted_certificate {CA};"
        with nginx(upstream, lines, ("http://", "https://")) as url:
            doubtful = look(service, url, declared)

    assert plain.causes == ["PEER_SPOKE_PLAIN"]
    assert encrypted.causes == []
    assert doubtful.causes == ["UPSTREAM_TLS_FAILED"]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("reverse_proxy /wss 127.0.0.1:{other}", "PROXY_LEADS_ELSEWHERE"),
        ("reverse_proxy https://127.0.0.1:{port}", "PEER_SPOKE_TLS"),
        ("reverse_proxy /other 127.0.0.1:{port}\nfile_server", "PROXY_ANSWERS_ITSELF"),
        ("reverse_proxy 127.0.0.1:{port} {{\nheader_up -Upgrade\n}}", "UPGRADE_LOST"),
        ("redir https://example.com", "PROXY_REDIRECTS"),
    ],
)
def test_faults_of_caddy(running: Master, lines: str, expected: str) -> None:
    with caddy(lines.format(port=running.port, other=free_port())) as url:
        found = look(running, url)

    assert found.causes == [expected]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run nginx as another user")
def test_a_unix_socket_that_the_proxy_may_not_open() -> None:
    with folder() as made:
        path = made / "w.sock"
        script = echo(f"websocket+unix://{path}", "count=1")
        declared = Worker(f"websocket+unix://{path}", name="chat")
        # The user of another nginx, which is found first, is not that of this one.
        other = nginx("127.0.0.1:9", user="daemon")
        with master(script, made) as service, other, nginx(f"unix:{path}:") as url:
            path.chmod(0o600)
            denied = look(service, url, declared)
            path.chmod(0o666)
            allowed = look(service, url, declared)
            path.unlink()
            removed = look(service, url, declared)

    assert denied.causes == ["SOCKET_DENIED"]
    assert "www-data, who may not write to" in denied.findings[-1].problem
    assert allowed.causes == []
    assert removed.causes == ["SOCKET_REMOVED"]


# The service itself.


def test_a_service_before_its_start(tmp_path: Path) -> None:
    path = tmp_path / "server.py"
    path.write_text(echo())
    declared = Worker(f"websocket://127.0.0.1:{free_port()}", name="chat")
    found = Look(Script.find(str(path)), declared, None, Settings())

    assert [(one.code, one.severity) for one in found.findings] == [
        ("SERVICE_NOT_RUNNING", Severity.NOTE)
    ]


def test_a_port_that_is_taken(tmp_path: Path, running: Master) -> None:
    path = tmp_path / "server.py"
    path.write_text(echo())
    declared = Worker(f"websocket://127.0.0.1:{running.port}", name="chat")
    found = Look(Script.find(str(path)), declared, None, Settings())

    assert found.causes == ["PORT_TAKEN"]
    assert re.search(r"\(pid \d+\) listens on port", found.findings[0].problem)


def test_what_would_not_start(tmp_path: Path) -> None:
    path = tmp_path / "server.py"
    path.write_text(echo())
    declared = Worker("websocket://127.0.0.1:0", name="chat", transport="ssl")
    found = Look(Script.find(str(path)), declared, None, Settings())

    assert found.causes == ["SERVICE_INVALID"]
    assert "no certificate" in found.findings[0].problem


def test_a_process_that_is_stopped(tmp_path: Path) -> None:
    with master(echo(options="count=1"), tmp_path) as service:
        [pid] = service.pids()
        suspend(pid)
        try:
            found = look(service)
        finally:
            os.kill(pid, signal.SIGCONT)

    assert found.causes == ["SERVICE_BLOCKED"]
    assert f"pid {pid}" in found.findings[0].problem


def test_a_process_that_a_client_ends(tmp_path: Path) -> None:
    """It cannot say any more that the handshake arrived."""
    script = f"import os\n{echo(options='count=1')}".replace(
        "Worker.run_all()", "worker.on_open = lambda _: os._exit(3)\nWorker.run_all()"
    )
    with master(script, tmp_path) as service:
        declared = Worker(f"websocket://127.0.0.1:{service.port}", name="chat")
        found = look(service, f"ws://127.0.0.1:{service.port}/", declared)

    assert found.causes == ["PROCESS_ENDED"]
    assert "ended with exit code 3" in found.findings[0].problem


def test_a_clock_that_is_behind_a_file(tmp_path: Path) -> None:
    path = tmp_path / "server.py"
    path.write_text(echo())
    os.utime(path, (time.time() + 86_400,) * 2)
    declared = Worker(f"websocket://127.0.0.1:{free_port()}", name="chat")
    found = Look(Script.find(str(path)), declared, None, Settings())

    assert found.codes == {"CLOCK_BEHIND"}


def test_the_last_warnings_of_the_log_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "server.py"
    path.write_text(echo())
    path.with_suffix(".log").write_text("x pid:1 INFO a\nx pid:1 WARNING b\nx pid:1 ERROR c\n")
    declared = Worker(f"websocket://127.0.0.1:{free_port()}", name="chat")
    found = Look(Script.find(str(path)), declared, None, Settings())

    assert found.seen.log == ("x pid:1 WARNING b", "x pid:1 ERROR c")


def test_a_bus_that_is_away(tmp_path: Path) -> None:
    path = tmp_path / "server.py"
    path.write_text(echo())
    url = f"nats://user:secret@127.0.0.1:{free_port()}?name=chat"
    declared = Worker(f"websocket://127.0.0.1:{free_port()}", name="chat", bus=url)
    found = Look(Script.find(str(path)), declared, None, Settings())

    assert found.codes == {"BUS_AWAY"}
    assert "secret" not in repr(found.findings) + repr(found.seen.buses)


def test_an_address_that_does_not_answer_ends_in_time(running: Master) -> None:
    begun_at = time.monotonic()
    found = look(running, f"ws://localhost:{free_port()}/")

    assert time.monotonic() - begun_at < TIMEOUT
    assert found.causes == ["LISTENS_ELSEWHERE"]
