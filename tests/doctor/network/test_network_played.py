"""Each fault below certificates, with the real part that causes it, is named."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.haproxy import haproxy
from tests.support.looked_at import causes, findings, folder, impostor, nginx, openssl, write
from tests.support.made_certificates import make
from tests.support.ports import free_port
from tests.support.proxies import APACHE_MODULES, program, running

CERTIFIED = make("a.test")


@pytest.fixture(scope="module")
def files() -> Iterator[Path]:
    with folder() as path:
        write(path, "server", key=CERTIFIED)
        (path / "both.pem").write_bytes(CERTIFIED.pem + CERTIFIED.key_pem)
        yield path


@pytest.fixture(scope="module")
def ports(files: Path) -> Iterator[dict[str, int]]:
    tls = f"ssl_certificate {files}/server.pem; ssl_certificate_key {files}/server.key;"
    blocks = {
        "plain": "listen PORT; return 426;",
        "tls": f"listen PORT ssl; {tls} return 426;",
        "1.3": f"listen PORT ssl; {tls} ssl_protocols TLSv1.3; return 426;",
        "1.2": f"listen PORT ssl; {tls} ssl_protocols TLSv1.2; return 426;",
        "client": f"listen PORT ssl; {tls} ssl_verify_client on;"
        f" ssl_client_certificate {files}/server.pem; return 426;",
        "asks": f"listen PORT ssl; {tls} ssl_verify_client optional_no_ca; return 426;",
        "rejects": "listen PORT ssl; ssl_reject_handshake on;",
        "proxy": f"listen PORT ssl proxy_protocol; {tls} return 426;",
        "plain proxy": "listen PORT proxy_protocol; return 426;",
        "dhe": f"listen PORT ssl; {tls} ssl_protocols TLSv1.2;"
        " ssl_ciphers ECDHE-ECDSA-AES128-CCM; return 426;",
    }
    with nginx(files, blocks) as found:
        yield found


def look(url: str, files: Path) -> list[str]:
    return causes(url, ca=files / "server.pem")


@pytest.mark.parametrize(
    ("scheme", "name", "expected"),
    [
        ("wss", "tls", []),
        ("ws", "plain", []),
        ("wss", "1.2", []),
        ("wss", "asks", []),
        ("wss", "plain", ["TLS_ON_PLAIN_PORT"]),
        ("ws", "tls", ["PLAIN_ON_TLS_PORT"]),
        ("wss", "1.3", ["TLS_13_ONLY"]),
        ("wss", "client", ["CLIENT_CERTIFICATE_REQUIRED"]),
        ("wss", "rejects", ["SNI_UNKNOWN"]),
        ("wss", "proxy", ["PROXY_HEADER_EXPECTED"]),
        ("ws", "plain proxy", ["PROXY_HEADER_EXPECTED"]),
        ("wss", "dhe", ["TLS_CIPHERS"]),
    ],
)
def test_nginx(
    scheme: str, name: str, expected: list[str], files: Path, ports: dict[str, int]
) -> None:
    assert look(f"{scheme}://a.test:{ports[name]}/chat", files) == expected


def test_what_nginx_is_told(files: Path, ports: dict[str, int]) -> None:
    (found,) = findings(f"wss://a.test:{ports['plain']}/chat?token=1", ca=files / "server.pem")

    port = ports["plain"]
    assert found.problem == f"port {port} of 127.0.0.1 speaks plain HTTP, and wss:// needs TLS"
    assert found.fix == (
        f"write listen {port} ssl; with ssl_certificate and ssl_certificate_key, in the server"
        f" block of a.test; or connect to ws://a.test:{port}/chat"
    )


@pytest.fixture(scope="module")
def apache_ports(files: Path) -> Iterator[dict[str, int]]:
    ports = {"plain": free_port(), "tls": free_port()}
    names = ["authz_core", "mime", "mpm_event", "setenvif", "socache_shmcb", "ssl"]
    modules = "\n".join(f"LoadModule {one}_module {APACHE_MODULES}/mod_{one}.so" for one in names)
    (files / "apache.conf").write_text(f"""
ServerRoot {files}
DefaultRuntimeDir {files}
PidFile {files}/apache.pid
ErrorLog {files}/apache.log
ServerName localhost
Mutex pthread
{modules}
StartServers 1
ServerLimit 1
ThreadsPerChild 16
MaxRequestWorkers 16
TypesConfig /dev/null
Listen 127.0.0.1:{ports["plain"]}
Listen 127.0.0.1:{ports["tls"]}
<VirtualHost *:{ports["tls"]}>
    SSLEngine on
    SSLCertificateFile {files}/server.pem
    SSLCertificateKeyFile {files}/server.key
</VirtualHost>
""")
    user = ["-c", "User www-data", "-c", "Group www-data"]
    command = [program("apache2"), "-f", str(files / "apache.conf"), *user, "-DFOREGROUND"]
    with running(command, port=ports["plain"], log=files / "apache.log"):
        yield ports


@pytest.mark.parametrize(
    ("scheme", "name", "expected"),
    [
        ("wss", "tls", []),
        ("ws", "plain", []),
        ("wss", "plain", ["TLS_ON_PLAIN_PORT"]),
        ("ws", "tls", ["PLAIN_ON_TLS_PORT"]),
    ],
)
def test_apache(
    scheme: str, name: str, expected: list[str], files: Path, apache_ports: dict[str, int]
) -> None:
    found = findings(f"{scheme}://a.test:{apache_ports[name]}/", ca=files / "server.pem")

    assert [one.code for one in found] == expected
    if name == "plain" and found:
        assert "SSLEngine on" in found[0].fix


@pytest.mark.parametrize(
    ("scheme", "bind", "expected"),
    [
        ("wss", "ssl crt {files}/both.pem alpn http/1.1", []),
        ("ws", "", []),
        ("wss", "", ["TLS_ON_PLAIN_PORT"]),
        ("ws", "ssl crt {files}/both.pem", ["PLAIN_ON_TLS_PORT"]),
        ("wss", "accept-proxy ssl crt {files}/both.pem", ["PROXY_HEADER_EXPECTED"]),
        ("wss", "ssl crt {files}/both.pem strict-sni", ["SNI_UNKNOWN"]),
        ("wss", "ssl crt {files}/both.pem ssl-min-ver TLSv1.3", ["TLS_13_ONLY"]),
        ("wss", "ssl crt {files}/both.pem ca-file {files}/server.pem verify required", None),
    ],
)
def test_haproxy(scheme: str, bind: str, expected: list[str] | None, files: Path) -> None:
    port = free_port()
    host = "b.test" if "strict" in bind else "a.test"
    (files / "haproxy.cfg").write_text(f"""
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend clients
    bind 127.0.0.1:{port} {bind.format(files=files)}
    http-request return status 200
""")
    command = [program("haproxy"), "-db", "-q", "-f", str(files / "haproxy.cfg")]
    with running(command, port=port, log=files / "haproxy.log"):
        found = look(f"{scheme}://{host}:{port}/", files)

    assert found == (["CLIENT_CERTIFICATE_REQUIRED"] if expected is None else expected)


@pytest.mark.parametrize("is_inner", [True, False], ids=["twice", "once"])
def test_tls_inside_tls(files: Path, ports: dict[str, int], *, is_inner: bool) -> None:
    """A proxy that ends TLS before a server that expects it, and before one that does not."""
    port = free_port()
    behind = ports["tls"] if is_inner else ports["plain"]
    (files / "tcp.cfg").write_text(f"""
defaults
    mode tcp
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend clients
    bind 127.0.0.1:{port} ssl crt {files}/both.pem
    default_backend workers
backend workers
    server worker 127.0.0.1:{behind}
""")
    command = [program("haproxy"), "-db", "-q", "-f", str(files / "tcp.cfg")]
    with running(command, port=port, log=files / "tcp.log"):
        assert look(f"wss://a.test:{port}/", files) == ["TLS_TWICE"] * is_inner


def test_a_proxy_whose_server_is_down(files: Path) -> None:
    with haproxy(free_port(), "", lines=["retries 0"]) as proxy:
        port = proxy.address[1]
        assert look(f"wss://a.test:{port}/", files) == ["TLS_CLOSED"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("-tls1_3",), ["TLS_13_ONLY"]),
        (("-tls1_2",), []),
        (("-tls1_1", "-cipher", "ALL@SECLEVEL=0"), ["TLS_OLD"]),
        (("-tls1", "-cipher", "ALL@SECLEVEL=0"), ["TLS_OLD"]),
        (("-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-CCM8"), ["TLS_CIPHERS"]),
        (("-tls1_2", "-Verify", "1"), ["CLIENT_CERTIFICATE_REQUIRED"]),
        (("-tls1_3", "-Verify", "1"), ["CLIENT_CERTIFICATE_REQUIRED", "TLS_13_ONLY"]),
        (("-alpn", "h2"), ["ALPN_REFUSED"]),
        (("-alpn", "http/1.1"), []),
    ],
    ids=" ".join,
)
def test_openssl(options: tuple[str, ...], expected: list[str], files: Path) -> None:
    with openssl(files, CERTIFIED, *options) as port:
        assert look(f"wss://a.test:{port}/", files) == expected


def test_plain_http_before_openssl(files: Path) -> None:
    with openssl(files, CERTIFIED) as port:
        assert look(f"ws://a.test:{port}/", files) == ["PLAIN_ON_TLS_PORT"]


# Other protocols, and none.


@pytest.mark.parametrize(
    ("banner", "protocol"),
    [
        (b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", "SSH"),
        (b"220 mail.a.test ESMTP Postfix\r\n", "SMTP (mail)"),
        (b"J\0\0\0\x0a8.0.36\0\x08\0\0\0", "MySQL"),
        (b'INFO {"server_id":"N"} \r\n', "NATS"),
        (b"hello\r\n", "an unknown protocol"),
    ],
)
@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_another_protocol(scheme: str, banner: bytes, protocol: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(banner)
        with contextlib.suppress(OSError):
            await reader.read(1 << 16)
        writer.close()

    with impostor(serve) as port:
        found = findings(f"{scheme}://a.test:{port}/")

    assert [one.code for one in found] == ["OTHER_PROTOCOL"]
    assert protocol in found[0].problem


def test_a_server_that_hangs() -> None:
    """The kernel accepts for a process that is stopped."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert causes(f"wss://a.test:{port}/", timeout=3) == ["SERVER_SILENT"]


def test_a_server_that_answers_without_a_status_line(files: Path) -> None:
    """Python's http.server does, to what it does not understand."""
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    with running(command, port=port, log=files / "http.log"):
        assert look(f"wss://a.test:{port}/", files) == ["TLS_ON_PLAIN_PORT"]


def test_a_server_that_leaves_at_once() -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    with impostor(serve) as port:
        assert causes(f"wss://a.test:{port}/") == ["TLS_CLOSED"]


@pytest.mark.parametrize("host", ["a.test", "b.test"])
def test_names_that_are_cut(host: str, files: Path, ports: dict[str, int]) -> None:
    """As a device does that looks for names in hellos."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello = await reader.read(1 << 16)
        if b"b.test" in hello:
            writer.transport.abort()
            return
        upstream, to_upstream = await asyncio.open_connection("127.0.0.1", ports["tls"])
        to_upstream.write(hello)

        async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(1 << 16):
                    sink.write(data)
            sink.close()

        try:
            await asyncio.gather(pass_on(reader, to_upstream), pass_on(upstream, writer))
        finally:
            to_upstream.transport.abort()

    with impostor(serve) as port:
        expected = ["SNI_CUT"] if host == "b.test" else []
        assert look(f"wss://{host}:{port}/", files) == expected


def test_packets_that_are_lost(files: Path, ports: dict[str, int]) -> None:
    """As on a path with a smaller MTU, whose ICMP messages are dropped: large ones never come."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, to_upstream = await asyncio.open_connection("127.0.0.1", ports["tls"])
        to_upstream.write(await reader.read(1 << 16))
        writer.write((await upstream.read(1 << 16))[:300])
        try:
            with contextlib.suppress(OSError):
                await reader.read()
        finally:
            to_upstream.transport.abort()

    with impostor(serve) as port:
        url = f"wss://a.test:{port}/"
        assert causes(url, ca=files / "server.pem", timeout=3) == ["TLS_STALLED"]


def test_nothing_listens() -> None:
    port = free_port()
    (found,) = findings(f"wss://a.test:{port}/")

    assert found.code == "TCP_REFUSED"
    assert found.problem == (
        f"connections to 127.0.0.1 port {port} are refused: nothing listens there"
    )
    assert f"ss -ltnp 'sport = :{port}'" in found.fix
