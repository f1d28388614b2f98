"""Clients whose certificate is not issued yet wait for it; an authority's challenge is answered."""

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from gateman import Worker
from gateman.config.worker import settings_of
from gateman.net.certificate_wait import CertificateWait
from gateman.runtime.worker_service import WorkerService
from gateman.tls.issued import IssuedCertificate
from tests.support.deadlines import TIMEOUT
from tests.support.hellos import openssl_hello
from tests.support.issued import asking_authority, contexts_of, declared, issue
from tests.support.loop import eventually, on_loop, turns
from tests.support.raw import EOF, RawClient, handshake
from tests.support.server import TIMEOUTS, Server, authority, serve_made, ssl_options

INTERNAL_ERROR = bytes((21, 3, 3, 0, 2, 2, 80))
UNRECOGNIZED_NAME = bytes((21, 3, 3, 0, 2, 2, 112))


@asynccontextmanager
async def serve_issued(
    *issued: IssuedCertificate,
    listen: str = "websocket://127.0.0.1:0",
    handshake_timeout: float = 20,
) -> AsyncIterator[Server]:
    """Serve a worker whose certificates are issued while it runs."""
    worker = Worker(
        listen,
        {"ssl": ssl_options()},
        transport="ssl",
        timeouts={**TIMEOUTS, "handshake": handshake_timeout},
    )
    settings = replace(settings_of(worker, now=time.time()), contexts=contexts_of(*issued))

    def make() -> WorkerService:
        return WorkerService(settings, {}, worker, worker.connections)

    async with serve_made(worker, make) as server:
        yield server


def take_up(server: Server) -> None:
    """Look for certificates, as a process does all the time."""
    contexts = server.service.contexts
    assert contexts is not None
    assert [found.problem for found in contexts.take_up(now=time.time())] == [""]


async def wait_for(server: Server, count: int) -> None:
    """Wait until so many clients wait for their certificate."""
    await eventually(lambda: len(waiting(server)) == count)


def waiting(server: Server) -> CertificateWait:
    """The clients that wait."""
    contexts = server.service.contexts
    assert contexts is not None
    assert contexts.on_taken_up is not None
    found: CertificateWait = contexts.on_taken_up.__self__  # type: ignore[attr-defined]
    return found


@on_loop
async def test_clients_wait_for_the_first_certificate(tmp_path: Path) -> None:
    """More than continue in one turn; none of them notices more than the time that it took."""
    one = declared(tmp_path, "localhost")
    async with serve_issued(one) as server:
        clients = [asyncio.create_task(server.open()) for _ in range(20)]
        await wait_for(server, 20)
        issue(authority(), one.path, "localhost")
        take_up(server)
        for client in clients:
            await client

        assert server.service.counts["connections"] == 20
        assert (len(waiting(server)), server.lines()) == (0, [])


@on_loop
async def test_a_client_waits_for_its_own_certificate(tmp_path: Path) -> None:
    """And not for that of another name."""
    one, other = declared(tmp_path, "localhost"), declared(tmp_path, "other.test")
    async with serve_issued(one, other) as server:
        client = asyncio.create_task(server.open())
        await wait_for(server, 1)
        issue(authority(), other.path, "other.test")
        take_up(server)
        await wait_for(server, 1)
        assert not client.done()

        issue(authority(), one.path, "localhost")
        take_up(server)
        await client


@on_loop
async def test_a_client_that_has_waited_in_vain_gets_an_alert(tmp_path: Path) -> None:
    async with serve_issued(declared(tmp_path, "localhost"), handshake_timeout=0.2) as server:
        for name in ("localhost", "localhost", None):
            client = await server.connect(tls=False)
            await client.send(openssl_hello(name, ["http/1.1"]))
            assert await client.read(len(INTERNAL_ERROR)) == INTERNAL_ERROR
            assert await client.read_end() == (b"", EOF)
        await eventually(lambda: server.service.present_count == 0)

        assert server.service.counts == {"certificate_missing": 3}
        assert server.lines() == [
            "worker: a client of localhost has waited in vain for a certificate, which the"
            " authority has not issued yet: see what `gateman certificates` and the log say about"
            " the order (CERTIFICATE_NOT_ISSUED)"
        ]


@on_loop
async def test_clients_that_wait_do_not_keep_a_service_from_stopping(tmp_path: Path) -> None:
    async with serve_issued(declared(tmp_path, "localhost")) as server:
        client = await server.connect(tls=False)
        await client.send(openssl_hello("localhost", []))
        await wait_for(server, 1)
    assert len(waiting(server)) == 0


@on_loop
async def test_a_unix_socket_waits_for_the_default_certificate(tmp_path: Path) -> None:
    one = declared(tmp_path, "localhost")
    path = tmp_path / "chat.sock"
    async with serve_issued(one, listen=f"websocket+unix://{path}") as server:
        client = asyncio.create_task(server.open())
        await wait_for(server, 1)
        issue(authority(), one.path, "localhost")
        take_up(server)
        await client


def ask(port: int, name: str) -> tuple[str | None, bytes | None, bytes]:
    """Ask as an authority does: the protocol, the certificate, and what comes behind it."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as plain,
        asking_authority().wrap_socket(plain, server_hostname=name) as secure,
    ):
        return secure.selected_alpn_protocol(), secure.getpeercert(binary_form=True), secure.recv(1)


@on_loop
async def test_an_authority_is_shown_its_challenge_and_nothing_else(tmp_path: Path) -> None:
    """On the port itself, while clients wait, and with certificates in service too."""
    one = declared(tmp_path, "localhost")
    answer = one.challenges["localhost"]
    async with serve_issued(one) as server:
        for _ in range(2):
            issue(authority(), answer, "localhost")
            shown = await asyncio.to_thread(ask, server.port, "localhost")
            pem = answer.read_text()
            der = ssl.PEM_cert_to_DER_cert(pem[pem.index("-----BEGIN CERT") :].split("\n\n")[0])
            assert shown == ("acme-tls/1", der, b"")
            answer.unlink()
            issue(authority(), one.path, "localhost")
            take_up(server)
        await eventually(lambda: not server.service.counts["connections"])

        assert server.service.counts["acme_challenge"] == 2
        assert server.lines() == []


@pytest.mark.parametrize("name", ["localhost", "other.test", None])
@on_loop
async def test_an_authority_that_nobody_has_asked_gets_an_alert(
    tmp_path: Path, name: str | None
) -> None:
    """No file answers it, or it asks for a name that is not this service's."""
    one = declared(tmp_path, "localhost")
    issue(authority(), one.path, "localhost")
    async with serve_issued(one) as server:
        take_up(server)
        client = await server.connect(tls=False)
        await client.send(openssl_hello(name, ["acme-tls/1"]))
        assert await client.read(len(UNRECOGNIZED_NAME)) == UNRECOGNIZED_NAME
        assert await client.read_end() == (b"", EOF)

        assert server.service.counts == {"acme_challenge_unknown": 1}


@on_loop
async def test_a_client_that_offers_more_is_no_authority(tmp_path: Path) -> None:
    """RFC 8737, section 3: its ClientHello has this protocol and no other."""
    one = declared(tmp_path, "localhost")
    issue(authority(), one.path, "localhost")
    issue(authority(), one.challenges["localhost"], "localhost")
    async with serve_issued(one) as server:
        take_up(server)
        client = authority().trusting_client()
        client.set_alpn_protocols(["acme-tls/1", "http/1.1"])
        raw = await RawClient.connect(server.address, tls=client)
        await raw.send(handshake())
        assert (await raw.read_head()).status == 101
        await raw.close()


@on_loop
async def test_nothing_happens_without_clients() -> None:
    wait = CertificateWait(asyncio.get_running_loop())
    wait.resume()
    await turns(2)

    assert len(wait) == 0
