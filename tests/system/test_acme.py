"""Certificates by themselves, the whole way: a service, a real authority, and clients that wait."""

import asyncio
import http.client
import shutil
import signal
import socket
import ssl
import stat
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, closing
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from websockets.asyncio.client import connect as connect_async
from websockets.sync.client import ClientConnection, connect

from tests.support.certificates import for_threads
from tests.support.deadlines import TIMEOUT
from tests.support.hellos import openssl_hello
from tests.support.loop import eventually
from tests.support.master import Master, master, until
from tests.support.nats import NatsServer, nats_server
from tests.support.pebble import Pebble, pebble
from tests.support.ports import free_port

SERVICE = """
from gateman import Worker

worker = Worker(
    "wss://127.0.0.1:{port}", {context!r}, name="chat", count={count}, {options}
    timeouts={{"handshake": {timeout}}},
)

@worker.on_message
def answer(connection, message):
    connection.send(message)

Worker.run_all()
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    with pebble(tmp_path_factory.mktemp("pebble")) as server:
        yield server


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with nats_server(tmp_path_factory.mktemp("nats")) as server:
        yield server


def acme(authority: Pebble, folder: Path, *domains: str, **more: Any) -> dict[str, Any]:
    """The options of one certificate of this authority."""
    return {
        "domains": domains,
        "directory": authority.directory,
        "directory_cafile": str(authority.cafile),
        "storage": str(folder / "acme"),
        **more,
    }


def service(
    port: int, *acme: dict[str, Any], count: int = 1, options: str = "", timeout: float = 60.0
) -> str:
    context = {"ssl": {"acme": list(acme)}}
    return SERVICE.format(port=port, context=context, count=count, options=options, timeout=timeout)


def trusting(authority: Pebble) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority.root())


def client(port: int, authority: Pebble, name: str) -> ClientConnection:
    """Connect by a name of the certificate, which a client that trusts the authority verifies."""
    return connect(
        f"wss://{name}:{port}/",
        sock=socket.create_connection(("127.0.0.1", port)),
        ssl=for_threads(trusting(authority)),
        open_timeout=TIMEOUT,
    )


def names(shown: ClientConnection) -> set[str]:
    """The names of the certificate that a client was shown, and has verified."""
    found: Any = cast("ssl.SSLSocket", shown.socket).getpeercert()
    return {name for _, name in found["subjectAltName"]}


def certificate(shown: ClientConnection) -> bytes | None:
    return cast("ssl.SSLSocket", shown.socket).getpeercert(binary_form=True)


# A command of DNS-01, for the name servers of the tests.
RECORDS = """
import json, sys, urllib.request
verb, name, value = sys.argv[2:]
record = {"host": name + "."} | ({"value": value} if verb == "set" else {})
url = f"{sys.argv[1]}/{verb}-txt"
urllib.request.urlopen(urllib.request.Request(url, json.dumps(record).encode()))
"""


def test_first_clients_wait_for_certificates_by_each_challenge(
    authority: Pebble, tmp_path: Path
) -> None:
    """Several names, an IP address, and a wildcard; the rest of port 80 leads to https."""
    (tmp_path / "record.py").write_text(RECORDS)
    command = [sys.executable, str(tmp_path / "record.py"), authority.dns_management]
    address = f"127.0.0.1:{authority.http_port}"
    certificates = [
        acme(authority, tmp_path, "a.test", "b.test"),
        acme(authority, tmp_path, "127.0.0.1"),
        acme(authority, tmp_path, "c.test", challenge="http-01", http=address),
        acme(authority, tmp_path, "*.d.test", dns={"command": command, "wait": 0}),
    ]
    wanted: dict[str, set[str]] = {
        "a.test": {"a.test", "b.test"},
        "b.test": {"a.test", "b.test"},
        "127.0.0.1": {"127.0.0.1"},
        "c.test": {"c.test"},
        "chat.d.test": {"*.d.test"},
    }
    port = authority.tls_port
    with master(service(port, *certificates, count=2), tmp_path) as running:
        for name, certified in wanted.items():
            with client(port, authority, name) as connection:
                connection.send(name)
                assert (connection.recv(TIMEOUT), names(connection)) == (name, certified)
        answer = ask(authority.http_port, "/chat?a=b", "c.test")
        running.wait_for("has issued a certificate (dns-01)")
        for challenge in ("tls-alpn-01", "http-01"):
            assert f"has issued a certificate ({challenge})" in running.stderr

    assert (answer.status, answer.headers["Location"]) == (308, "https://c.test/chat?a=b")
    stored = [path for path in (tmp_path / "acme").rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in stored} == {0o600}
    assert not [path for path in stored if "challenges" in path.parts]


def ask(port: int, target: str, host: str) -> http.client.HTTPResponse:
    """Ask over plain HTTP."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    with closing(connection):
        connection.request("GET", target, headers={"Host": host})
        return connection.getresponse()


CLIENTS = 200


def test_a_renewal_drops_no_connection(authority: Pebble, tmp_path: Path) -> None:
    """Clients of before keep theirs, in both processes; those of after are shown the new one."""
    port = authority.tls_port
    script = service(port, acme(authority, tmp_path, "localhost"), count=2)
    with master(script, tmp_path) as running:
        with client(port, authority, "localhost") as first:
            before = certificate(first)
        answered = asyncio.run(stay_connected(running, trusting(authority)))
        with client(port, authority, "localhost") as last:
            after = certificate(last)

    assert answered == CLIENTS
    assert before != after


async def stay_connected(running: Master, context: ssl.SSLContext) -> int:
    """Connect clients, renew the certificate, and count the clients that are answered then."""
    url = f"wss://localhost:{running.port}/"
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(CLIENTS):
            connecting = connect_async(url, host="127.0.0.1", ssl=context, open_timeout=TIMEOUT)
            clients.append(await stack.enter_async_context(connecting))
        renewed = await asyncio.to_thread(running.gateman, "certificates", "--renew")
        assert renewed.returncode == 0, renewed.stderr
        # Each process has taken up the first one and the second one.
        await eventually(lambda: running.stderr.count("is in service") >= 4)
        for one in clients:
            await one.send("hello")
        return [await one.recv() for one in clients].count("hello")


def test_a_certificate_is_renewed_by_itself(tmp_path: Path) -> None:
    """One of 20 seconds, which is due after half of them."""
    with pebble(tmp_path, lifetime=20) as authority:
        port = authority.tls_port
        with (
            master(service(port, acme(authority, tmp_path, "a.test")), tmp_path) as running,
            client(port, authority, "a.test") as first,
        ):
            until(lambda: running.stderr.count("is in service") >= 2)
            with client(port, authority, "a.test") as second:
                assert certificate(second) != certificate(first)
            first.send("hello")
            assert first.recv(TIMEOUT) == "hello"


def key_of(shown: ClientConnection) -> type:
    der = certificate(shown)
    assert der is not None
    return type(x509.load_der_x509_certificate(der).public_key())


def test_what_is_declared_may_change(authority: Pebble, tmp_path: Path) -> None:
    """Another name and type of key, with a reload; until they are ordered, the old one serves."""
    port = authority.tls_port
    one = acme(authority, tmp_path, "a.test")
    with master(service(port, one), tmp_path) as running:
        with client(port, authority, "a.test") as first:
            assert issubclass(key_of(first), ec.EllipticCurvePublicKey)
        more = service(port, {**one, "key_type": "rsa2048", "domains": ["a.test", "b.test"]})
        running.path.write_text(more)
        assert running.gateman("reload").returncode == 0
        with client(port, authority, "a.test"), client(port, authority, "b.test") as second:
            assert names(second) == {"a.test", "b.test"}
            assert issubclass(key_of(second), rsa.RSAPublicKey)
        running.path.write_text(service(port, {**one, "storage": str(tmp_path / "other")}))
        refused = running.gateman("reload")

    assert "the storage or http of acme in the script is not what it was" in refused.stderr
    assert refused.returncode != 0


def test_a_storage_that_is_lost_is_made_anew(authority: Pebble, tmp_path: Path) -> None:
    """A running service continues with what it has; the next one orders again."""
    port = authority.tls_port
    script = service(port, acme(authority, tmp_path, "a.test"))
    shown = []
    with master(script, tmp_path):
        for _ in range(2):
            with client(port, authority, "a.test") as connection:
                shown.append(certificate(connection))
            shutil.rmtree(tmp_path / "acme", ignore_errors=True)
    with master(script, tmp_path), client(port, authority, "a.test") as connection:
        shown.append(certificate(connection))

    assert shown[0] == shown[1] != shown[2]


def test_an_authority_that_is_away_is_told_of_and_keeps_no_service_from_stopping(
    tmp_path: Path,
) -> None:
    """It accepts, and never answers; the client gets an alert in time."""
    with socket.create_server(("127.0.0.1", 0)) as away:
        options = {
            "domains": "a.test",
            "directory": f"https://127.0.0.1:{away.getsockname()[1]}/dir",
            "storage": str(tmp_path / "acme"),
        }
        with master(service(free_port(), options, timeout=0.3), tmp_path) as running:
            with socket.create_connection(("127.0.0.1", running.port)) as plain:
                plain.settimeout(TIMEOUT)
                plain.sendall(openssl_hello("a.test", []))
                assert plain.recv(100) == bytes((21, 3, 3, 0, 2, 2, 80))
                assert plain.recv(100) == b""
            running.wait_for("(CERTIFICATE_NOT_ISSUED)")
            away.settimeout(TIMEOUT)
            ordering, _ = away.accept()
            with ordering:
                counts = [one["counts"] for one in running.processes()]
                running.signal(signal.SIGTERM)
                assert running.wait() == 0

    assert sum(one.get("certificate_missing", 0) for one in counts) == 1


def test_two_nodes_order_once(authority: Pebble, nats: NatsServer, tmp_path: Path) -> None:
    """They share the storage and the lock; the other node takes up what the first has ordered."""
    options = acme(authority, tmp_path, "a.test")
    bus = f"bus={nats.url!r},"
    ports = (authority.tls_port, free_port())
    with ExitStack() as stack:
        nodes = []
        for number, port in enumerate(ports):
            folder = tmp_path / f"{number}"
            folder.mkdir()
            script = service(port, options, options=bus)
            nodes.append(stack.enter_context(master(script, folder, listens=False)))
        for node in nodes:
            node.wait_for("listens on")
        shown = set()
        for port in ports:
            with client(port, authority, "a.test") as connection:
                shown.add(certificate(connection))
        until(lambda: any("has issued" in node.stderr for node in nodes))
        issued = sum(node.stderr.count("has issued") for node in nodes)

    assert (len(shown), issued) == (1, 1)
    assert len(list((tmp_path / "acme" / "accounts").iterdir())) == 1
