"""The attack list, rows 19 to 22: TLS, over real sockets."""

import asyncio
import os
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from gateman import ConfigError, Connection
from tests.support.certificates import Authority
from tests.support.counted_server import admission, serve_counted
from tests.support.deadlines import TIMEOUT
from tests.support.loop import eventually, on_loop
from tests.support.made_certificates import PUBLIC, Made, make
from tests.support.raw import TEXT, Frame, RawClient, handshake
from tests.support.server import Journal, Server, authority


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
        output, _ = await asyncio.wait_for(process.communicate(b"R\n"), TIMEOUT)
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


# What the log says of handshakes that fail.


def options_of(made: Made, folder: Path, **more: object) -> dict[str, object]:
    """Write a certificate and its key, and declare them."""
    path = folder / "made.pem"
    path.write_bytes(made.pem + made.key_pem)
    return {"ssl": {"local_cert": str(path), **more}}


def refused(port: int, name: str | None = "a.test", **settings: object) -> None:
    """Shake hands as a client that does not go through with it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for setting, value in settings.items():
        setattr(context, setting, value)
    with socket.create_connection(("127.0.0.1", port)) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname=name)


async def leave(port: int, name: str | None, version: ssl.TLSVersion) -> None:
    """Read the certificate and leave without a word, as most clients that refuse it do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = version
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(outgoing.read())
    await reader.read(1)
    writer.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("made", "name", "expected"),
    [
        (
            make("a.test", policies=PUBLIC),
            "b.test",
            "ssl.local_cert names FILE, whose certificate is for a.test, and not for 'b.test', for"
            " which the client asked: connect by",
        ),
        (
            make("a.test", issuer=make("authority"), policies=PUBLIC),
            "a.test",
            "ssl.local_cert names FILE, whose certificate is from 'authority', whose own"
            " certificate is not sent with it, and clients refuse it",
        ),
        (
            make("a.test", days=0.5),
            "a.test",
            "ssl.local_cert names FILE, whose certificate has expired on",
        ),
        (
            make("a.test", issuer=make("authority"), names=()),
            "a.test",
            "ssl.local_cert names FILE, whose certificate names no domain and no address",
        ),
        (
            make("a.test"),
            "a.test",
            "ssl.local_cert names FILE, whose certificate is signed by itself, and clients",
        ),
        (
            make("a.test", issuer=make("authority")),
            None,
            "ssl.local_cert names FILE, whose certificate is for a.test, and not for an address:"
            " the client named no domain, as one that connects by an IP address: connect by",
        ),
    ],
    ids=["another name", "no intermediate", "expired", "no names", "self-signed", "by address"],
)
@on_loop
async def test_a_client_that_leaves_without_a_word_is_explained(
    made: Made, name: str | None, expected: str, version: ssl.TLSVersion, tmp_path: Path
) -> None:
    """Most clients send no alert, and hear of nothing but 1006: the log says what is wrong."""
    if name == "b.test":
        # One that is signed by itself would be told so first.
        made = make("a.test", issuer=make("authority"))
    options = options_of(made, tmp_path)
    async with serve_counted(context=options, secure=True) as server:
        await leave(server.port, name, version)
        await eventually(lambda: server.service.counts["left_after_certificate"] == 1)
        (line,) = server.lines()

    expected = expected.replace("FILE", str(tmp_path / "made.pem"))
    assert line.startswith(f"worker: a client left when it was shown the certificate: {expected}")


@on_loop
async def test_a_client_that_looks_at_the_name_after_tls_is_explained(tmp_path: Path) -> None:
    """As OkHttp does: the handshake succeeds, and nothing follows."""
    made = make("a.test", issuer=make("authority"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    options = options_of(made, tmp_path)
    async with serve_counted(context=options, secure=True, trusted_proxies=[]) as server:
        for name in ("b.test", "a.test", "a.test"):
            client = await RawClient.connect(server.address, tls=context, server_name=name)
            await client.close()
        await eventually(lambda: server.service.counts["left_after_certificate"] == 3)
        (line,) = server.lines()

    assert "not for 'b.test', for which the client asked" in line


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("key", "called"),
    [
        (ec.generate_private_key(ec.SECP256K1()), "ECDSA secp256k1"),
        (ec.generate_private_key(ec.BrainpoolP256R1()), "ECDSA brainpoolP256r1"),
        (ed25519.Ed25519PrivateKey.generate(), "Ed25519"),
        (ec.generate_private_key(ec.SECP521R1()), "ECDSA P-521"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@on_loop
async def test_a_key_that_clients_cannot_use_is_named(
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey,
    called: str,
    newest: ssl.TLSVersion,
    tmp_path: Path,
) -> None:
    """At the start, and when a client fails: nobody has set ssl.ciphers."""
    options = options_of(make("a.test", key=key), tmp_path)
    async with serve_counted(context=options, secure=True) as server:
        contexts = server.service.settings.contexts
        assert contexts is not None
        assert (
            f"has a key of type {called}, which Chrome and most browsers refuse"
            in contexts.warnings[0]
        )
        # What Chromium takes.
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}"]
        command += ["-sigalgs", "ECDSA+SHA256:ECDSA+SHA384:RSA-PSS+SHA256:RSA+SHA256"]
        command += ["-groups", "X25519:P-256:P-384"]
        command += ["-tls1_2"] if newest is ssl.TLSVersion.TLSv1_2 else ["-tls1_3"]
        process = await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        await asyncio.wait_for(process.wait(), TIMEOUT)
        await eventually(lambda: bool(server.service.counts))
        (line,) = server.lines()

    assert line == (
        "worker: a TLS handshake failed: the client cannot use the certificate, whose key is of"
        f" type {called}"
    )


@on_loop
async def test_the_versions_that_are_left_are_named(tmp_path: Path) -> None:
    """A client of TLS 1.2 is not told that it speaks only versions below it."""
    options = options_of(make("a.test"), tmp_path, min_proto_version="TLSv1.3")
    async with serve_counted(context=options, secure=True) as server:
        await asyncio.to_thread(refused, server.port, maximum_version=ssl.TLSVersion.TLSv1_2)
        await eventually(lambda: server.service.counts["tls_unsupported_protocol"] == 1)
        (line,) = server.lines()

    assert line.endswith("in common: ssl.min_proto_version leaves TLSv1.3")
