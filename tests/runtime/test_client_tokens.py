"""Tokens whose keys a provider has, at a real https server."""

import asyncio
import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from gateman.clients.tokens import Tokens
from gateman.errors import TokenError
from gateman.runtime.client_tokens import ClientTokens
from tests.support.certificates import Authority
from tests.support.loop import on_loop
from tests.support.tokens import jwk, token

OLD = ec.generate_private_key(ec.SECP256R1())
NEW = ec.generate_private_key(ec.SECP256R1())


class Provider:
    """What answers with keys, or otherwise."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.status = 200
        self.body = b""
        self.requests = 0

    def have(self, **keys: Any) -> None:
        described = [jwk(key, name) for name, key in keys.items()]
        self.body = json.dumps({"keys": described}).encode()


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    authority = Authority()
    issued = authority.issue(tmp_path, "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(issued.authority))
    with serving(issued.certificate, issued.key) as served:
        yield served


@contextmanager
def serving(certificate: Path, key: Path) -> Iterator[Provider]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.requests += 1
            self.send_response(served.status)
            self.send_header("Location", f"{served.url}/other")
            self.end_headers()
            self.wfile.write(served.body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Write nothing."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    served = Provider(f"https://localhost:{server.server_port}/jwks")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def tokens_of(provider: Provider) -> ClientTokens:
    return ClientTokens(Tokens(jwks_url=provider.url), 8192, clock=lambda: 1000.0)


def signed(key: Any, name: str, **claims: Any) -> str:
    return token(key, {"sub": "42", **claims}, algorithm="ES256", kid=name)


@on_loop
async def test_keys_are_fetched_once_for_all_who_wait(provider: Provider) -> None:
    provider.have(old=OLD, new=NEW)
    tokens = tokens_of(provider)

    got = await asyncio.gather(
        *(tokens.connection(signed(OLD, "old", exp=1060)) for _ in range(5)),
        tokens.connection(signed(NEW, "new")),
    )

    assert [claims.user for claims in got] == ["42"] * 6
    assert [tokens.ttl(claims.expires_at) for claims in got] == [60.0] * 5 + [None]
    claims = await tokens.subscription(signed(NEW, "new", channel="a"), "a", "42")
    assert claims.expires_at is None
    assert provider.requests == 1


@on_loop
async def test_invented_keys_do_not_cause_requests(provider: Provider) -> None:
    provider.have(old=OLD)
    tokens = tokens_of(provider)
    await tokens.connection(signed(OLD, "old"))

    for number in range(5):
        with pytest.raises(TokenError, match="the provider has no such key"):
            await tokens.connection(signed(NEW, f"new-{number}"))
    assert provider.requests == 1


def broken(provider: Provider) -> None:
    provider.status = 500


def redirecting(provider: Provider) -> None:
    provider.status = 302


def too_long(provider: Provider) -> None:
    provider.body = b" " * (257 << 10)


def no_keys(provider: Provider) -> None:
    provider.body = b"<html>"


@pytest.mark.parametrize(
    ("change", "logged"),
    [
        (broken, "HTTP Error 500"),
        (redirecting, "it answers with a redirect (302)"),
        (too_long, "it has more than 262144 bytes"),
        (no_keys, "it is not a set of keys (RFC 7517)"),
    ],
)
def test_a_provider_that_has_no_keys_to_give(
    provider: Provider,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[Provider], None],
    logged: str,
) -> None:
    """The client may come back: it is not its token's fault."""
    provider.have(old=OLD)
    change(provider)

    @on_loop
    async def connect() -> None:
        with pytest.raises(TokenError, match="keys are not here") as caught:
            await tokens_of(provider).connection(signed(OLD, "old"))
        assert caught.value.is_temporary

    connect()
    assert logged in caplog.text


def test_a_provider_that_is_not_trusted(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")

    @on_loop
    async def connect() -> None:
        with pytest.raises(TokenError, match="keys are not here"):
            await tokens_of(provider).connection(signed(OLD, "old"))

    connect()
    assert "CERTIFICATE_VERIFY_FAILED" in caplog.text


@on_loop
async def test_the_operator_is_told_why_a_token_is_not_valid(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An expired one is usual, and says nothing about the service."""
    tokens = ClientTokens(Tokens(secret="0" * 32), 8192)

    # Twice, of which the second time is counted only; one mistake does not hide another.
    for claims, key in (({"exp": 1}, b"0" * 32), ({}, b"1" * 32), ({"sub": 1}, b"0" * 32)) * 2:
        with pytest.raises(TokenError):
            await tokens.connection(token(key, claims, algorithm="HS256"))
    assert [record.getMessage() for record in caplog.records] == [
        "a client's token is not valid: Signature verification failed",
        "a client's token is not valid: Expected `str`, got `int` - at `$.sub`",
    ]


@on_loop
async def test_secrets_need_no_provider() -> None:
    tokens = ClientTokens(Tokens(secret="0" * 32), 8192)

    text = token(b"0" * 32, {"sub": "1"}, algorithm="HS256")
    assert (await tokens.connection(text)).user == "1"
