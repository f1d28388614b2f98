"""The attack list, rows 19 to 22: TLS, over real sockets."""

import asyncio
import os
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest

from gateman import ConfigError, Connection
from tests.support.certificates import Authority
from tests.support.loop import eventually, on_loop
from tests.support.raw import TEXT, Frame, RawClient, handshake
from tests.support.server import Journal, Server, authority
from tests.support.tickets import admission, serve_counted


def echo(connection: Connection, message: str | bytes) -> None:
    """Answer with the same message."""
    connection.send(message)


async def check_served(server: Server) -> None:
    """See that a good client is served, as if there were no others."""
    client = await server.open()
    await client.send_frame(TEXT, b"hello")
    assert await client.read_frame() == Frame(TEXT, b"hello")
    await client.close()


# Rows 19 to 22: TLS.


@on_loop
async def test_certificates_change_under_live_connections(tmp_path: Path) -> None:
    """Row 19: a reload that fails changes nothing, one that succeeds serves the next client."""
    issued = authority().issue(tmp_path)
    options = {"local_cert": str(issued.certificate), "local_pk": str(issued.key)}
    async with serve_counted(context={"ssl": options}, secure=True, on_message=echo) as server:
        contexts = server.service.settings.contexts
        assert contexts is not None
        old = await server.open()
        shown = [old.tls.getpeercert(binary_form=True)]
        issued.certificate.write_text("broken")
        with pytest.raises(ConfigError):
            contexts.reload(now=time.time())
        shown.append((await server.open()).tls.getpeercert(binary_form=True))
        authority().issue(tmp_path)
        contexts.reload(now=time.time())
        shown.append((await server.open()).tls.getpeercert(binary_form=True))
        await old.send_frame(TEXT, b"still there")

        assert shown[0] == shown[1] != shown[2] == issued.der
        assert await old.read_frame() == Frame(TEXT, b"still there")
        (certificate,) = contexts.certificates
        assert certificate.expires_at == issued.expires_at


@on_loop
async def test_each_name_gets_its_certificate(tmp_path: Path) -> None:
    """Row 20: by the name in the ClientHello, whatever a hostile one asks for."""
    names = {"a.test": "a.test", "x.b.test": "*.b.test", "other.test": "localhost"}
    issuer = Authority()
    issued = {
        name: issuer.issue(tmp_path, name, stem=str(number))
        for number, name in enumerate(["localhost", "a.test", "*.b.test"])
    }
    options = {
        "local_cert": str(issued["localhost"].certificate),
        "local_pk": str(issued["localhost"].key),
        "SNI_server_certs": {
            name: {"local_cert": str(issued[name].certificate), "local_pk": str(issued[name].key)}
            for name in ("a.test", "*.b.test")
        },
    }
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=issuer.pem)
    async with serve_counted(context={"ssl": options}, secure=True) as server:
        for asked, name in [*names.items(), ("a" * 63 + ".test", "localhost"), ("1", "localhost")]:
            client = await RawClient.connect(server.address, tls=context, server_name=asked)
            assert client.tls.getpeercert(binary_form=True) == issued[name].der
            await client.send(handshake())
            assert (await client.read_head()).status == 101
            await client.close()


@on_loop
async def test_old_tls_is_refused_and_http_1_1_chosen() -> None:
    """Row 21: an alert below 1.2; a client that offers h2 gets http/1.1, or nothing."""

    def old_client(port: int) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            context.minimum_version = ssl.TLSVersion.TLSv1
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            pytest.raises(ssl.SSLError) as caught,
        ):
            context.wrap_socket(plain)
        assert caught.value.reason == "TLSV1_ALERT_PROTOCOL_VERSION"

    async with serve_counted(secure=True) as server:
        await asyncio.to_thread(old_client, server.port)
        await eventually(lambda: server.service.counts["tls_unsupported_protocol"] == 1)
        (line,) = server.lines()
        assert line.endswith("the client speaks only versions of TLS below 1.2")
        chosen = []
        for offered in (["h2", "http/1.1"], ["http/1.1"], ["h2"], []):
            context = authority().trusting_client()
            if offered:
                context.set_alpn_protocols(offered)
            client = await RawClient.connect(server.address, tls=context)
            chosen.append(client.tls.selected_alpn_protocol())
            await client.close()

        assert chosen == ["http/1.1", "http/1.1", None, None]


@on_loop
async def test_clients_cannot_renegotiate() -> None:
    """Row 21: a client that asks for a new handshake under TLS 1.2 ends its connection."""
    async with serve_counted(secure=True, on_message=echo) as server:
        command = ["openssl", "s_client", "-tls1_2", "-connect", f"127.0.0.1:{server.port}"]
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LC_ALL": "C"},
        )
        await eventually(lambda: server.service.present_count == 1)
        # What s_client takes for "renegotiate".
        output, _ = await asyncio.wait_for(process.communicate(b"R\n"), 10)
        await check_served(server)

        assert b"RENEGOTIATING" in output
        assert b"no renegotiation" in output
        assert admission(server).count <= 1


@pytest.mark.parametrize("how", ["no close_notify", "reset", "half a record"])
@pytest.mark.parametrize("when", ["before the handshake", "behind it", "in a frame"])
@on_loop
async def test_truncated_tls_is_an_abnormal_end(when: str, how: str) -> None:
    """Row 22: 1006 for the application, and no traceback."""
    journal = Journal()
    async with serve_counted(secure=True, **journal.callbacks()) as server:
        client = await server.connect()
        await journal.until("on_connect")
        if when != "before the handshake":
            await client.send(handshake() + (b"\x81" if when == "in a frame" else b""))
            await journal.until("on_open")
        match how:
            case "no close_notify":
                client.vanish()
            case "reset":
                client.reset()
            case "half a record":
                with socket.socket(fileno=os.dup(client.socket.fileno())) as plain:
                    plain.send(b"\x17\x03\x03\x01\x00half")
                client.vanish()
        await journal.until("on_close", 1006)

        assert journal.of("on_error") == []
        assert server.lines() == []
