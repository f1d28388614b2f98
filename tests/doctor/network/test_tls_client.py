"""A handshake of a probe, with all that the server says in it."""

import ssl
from pathlib import Path

import pytest

from gateman.doctor.network.connection import Connection
from gateman.doctor.network.observations import HandshakeSeen, Tls
from gateman.doctor.network.tls_client import Offer, shake_hands
from tests.support.looked_at import openssl
from tests.support.loop import on_loop
from tests.support.made_certificates import make

MADE = make("a.test")


async def shake(port: int, **offer: object) -> HandshakeSeen:
    connection = await Connection.open("127.0.0.1", port, timeout=10)
    try:
        made = Offer(server_name="a.test", **offer)  # type: ignore[arg-type]
        return (await shake_hands(connection, made, timeout=10))[0]
    finally:
        connection.abort()


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
@on_loop
async def test_what_a_server_shows_is_kept(version: str, tmp_path: Path) -> None:
    """By the one private name of the standard library that is used: if it changes, this fails."""
    newest = ssl.TLSVersion[version]
    with openssl(tmp_path, MADE, "-verify", "1", "-alpn", "http/1.1") as port:
        seen = await shake(port, newest=newest)

    assert (seen.outcome, seen.version, seen.alpn) == (
        Tls.AGREED,
        version.replace("_", "."),
        "http/1.1",
    )
    assert seen.certificates == (MADE.der,)
    assert seen.asks_client


@on_loop
async def test_what_it_shows_before_it_refuses(tmp_path: Path) -> None:
    newest = ssl.TLSVersion.TLSv1_2
    with openssl(tmp_path, MADE, "-Verify", "1") as port:
        seen = await shake(port, newest=newest)

    assert (seen.outcome, seen.alert, seen.asks_client) == (Tls.ALERT, 40, True)
    assert seen.certificates == (MADE.der,)


@on_loop
async def test_the_roots_that_are_given(tmp_path: Path) -> None:
    with openssl(tmp_path, MADE) as port:
        refused = await shake(port, roots=make("other").pem.decode(), host="a.test")
        trusted = await shake(port, roots=MADE.pem.decode(), host="a.test")
        misnamed = await shake(port, roots=MADE.pem.decode(), host="b.test")

    assert (refused.outcome, refused.reason) == (Tls.FAILED, "self-signed certificate")
    assert trusted.outcome is Tls.AGREED
    assert (misnamed.outcome, misnamed.reason) == (
        Tls.FAILED,
        "Hostname mismatch, certificate is not valid for 'b.test'.",
    )
