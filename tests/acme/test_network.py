"""Requests to an authority: whom they trust, and what they refuse to read."""

import gzip
import http.server
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import Path

import pytest
import requests
from acme import errors
from josepy.jwk import JWKEC

from gateman.acme.keys import new_account_key
from gateman.acme.network import (
    MAX_ANSWER,
    MAX_RETRY_AFTER,
    AnswerTooBig,
    DeadlinePassed,
    Network,
    failure_of,
    read_retry_after,
    trusted_roots,
)
from tests.support.certificates import Authority, Issued

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("", None),
        ("soon", None),
        ("-1", None),
        ("120", NOW + 120),
        (formatdate(NOW + 60, usegmt=True), NOW + 60),
        (formatdate(NOW - 60, usegmt=True), NOW),
        ("999999999", NOW + MAX_RETRY_AFTER),
        ("9" * 5000, None),
        ("Fri, 32 Jan 2027 08:00:00 GMT", None),
    ],
)
def test_when_an_authority_wants_to_be_asked_again(text: str, moment: float | None) -> None:
    assert read_retry_after({"Retry-After": text}, NOW) == moment


@pytest.mark.parametrize(
    ("cafile", "environ", "roots"),
    [
        ("own.pem", {"SSL_CERT_FILE": "a.pem"}, "own.pem"),
        ("", {"SSL_CERT_FILE": "a.pem", "REQUESTS_CA_BUNDLE": "b.pem"}, "a.pem"),
        ("", {"REQUESTS_CA_BUNDLE": "b.pem"}, "b.pem"),
    ],
)
def test_what_is_named_is_trusted(cafile: str, environ: dict[str, str], roots: str) -> None:
    assert trusted_roots(cafile, environ) == roots


def test_the_system_is_trusted_if_nothing_is_named() -> None:
    system = ssl.get_default_verify_paths()

    assert trusted_roots("", {}) in {system.cafile, system.capath, True}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.close_connection = True
        if self.path == "/closes" and not CLOSED.is_set():
            CLOSED.set()
            return
        self.send_response(302 if self.path == "/elsewhere" else 200)
        if self.path == "/elsewhere":
            self.send_header("Location", "http://127.0.0.1:1/")
        self.send_header("Retry-After", "60")
        if self.path == "/compressed":
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        if self.path == "/endless":
            try:
                while True:
                    self.wfile.write(bytes(1 << 16))
            except OSError:
                pass
        elif self.path == "/compressed":
            self.wfile.write(gzip.compress(bytes(100 << 20)))
        elif self.path == "/slow":
            try:
                while True:
                    self.wfile.write(b" ")
                    SLOWNESS.wait(0.05)
            except OSError:
                pass
        else:
            self.wfile.write(b'{"a": 1}')

    def log_message(self, *_: object) -> None:
        pass


SLOWNESS, CLOSED = threading.Event(), threading.Event()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    with listening(Authority().issue(tmp_path_factory.mktemp("tls"), "127.0.0.1")) as found:
        yield found


@contextmanager
def listening(issued: Issued) -> Iterator[tuple[str, Path]]:
    """Serve; yields the URL and the roots."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"https://127.0.0.1:{server.server_port}", issued.authority
        server.shutdown()


def network(trusted: Path, seconds: float = 30.0) -> Network:
    key = JWKEC.json_loads(new_account_key())
    return Network(key, trusted=str(trusted), deadline=time.monotonic() + seconds)


def test_an_answer_is_read_whole(server: tuple[str, Path]) -> None:
    url, roots = server
    client = network(roots)

    answer = client.get(f"{url}/")

    assert answer.json() == {"a": 1}
    assert client.retry_at is not None
    assert client.server_time is not None
    client.session.close()


def test_a_connection_that_the_authority_has_closed_is_replaced(
    server: tuple[str, Path],
) -> None:
    """As after the wait for a record of the DNS."""
    url, roots = server
    client = network(roots)

    assert client.get(f"{url}/closes").json() == {"a": 1}
    assert CLOSED.is_set()
    client.session.close()


def test_an_endless_answer_is_not_kept(server: tuple[str, Path]) -> None:
    url, roots = server
    client = network(roots)

    with pytest.raises(AnswerTooBig):
        client.get(f"{url}/endless")

    assert MAX_ANSWER == 1 << 20
    client.session.close()


def test_a_compressed_answer_is_not_expanded(server: tuple[str, Path]) -> None:
    """A hundred megabytes, in a hundred kilobytes."""
    url, roots = server
    client = network(roots)

    with pytest.raises(errors.ClientError) as raised:
        client.get(f"{url}/compressed")

    assert failure_of(raised.value)[0] == "unintelligible"
    client.session.close()


def test_a_slow_answer_ends_at_the_deadline(server: tuple[str, Path]) -> None:
    """Each byte arrives within the timeout of one read."""
    url, roots = server
    client = network(roots, seconds=0.5)

    with pytest.raises((DeadlinePassed, requests.Timeout)):
        client.get(f"{url}/slow")

    client.session.close()


def test_nothing_is_sent_without_tls(server: tuple[str, Path]) -> None:
    url, roots = server
    client = network(roots)

    with pytest.raises(requests.exceptions.InvalidSchema):
        client.get(f"{url}/elsewhere")

    client.session.close()


def test_a_stranger_is_not_trusted(server: tuple[str, Path], tmp_path: Path) -> None:
    url, _ = server
    other = Authority().issue(tmp_path, "localhost").authority
    client = network(other)

    with pytest.raises(requests.exceptions.SSLError) as raised:
        client.get(f"{url}/")

    assert failure_of(raised.value) == ("untrusted", "unable to get local issuer certificate")
    client.session.close()


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (DeadlinePassed(), ("timedOut", "no answer in time")),
        (requests.ConnectTimeout("Connection to a timed out"), ("timedOut", "no answer in time")),
        (requests.ConnectionError("odd"), ("unreachable", "no connection")),
        (
            requests.ConnectionError("NameResolutionError(\"Failed to resolve 'a'\")"),
            ("unreachable", "its name cannot be resolved"),
        ),
        (requests.exceptions.SSLError("odd"), ("untrusted", "the TLS handshake failed")),
        (
            requests.exceptions.InvalidSchema("http://a"),
            ("unintelligible", "a URL that is not https"),
        ),
        (AnswerTooBig(), ("unintelligible", "an answer of more than a megabyte")),
        (PermissionError(13, "Permission denied"), ("untrusted", "Permission denied")),
        (KeyError("status"), ("unintelligible", "an answer that RFC 8555 does not allow")),
    ],
    ids=repr,
)
def test_what_fails_on_the_way(error: Exception, failure: tuple[str, str]) -> None:
    assert failure_of(error) == failure


def test_a_clock_that_is_behind_is_said(tmp_path: Path) -> None:
    """As on a machine without a battery: the authority's certificate is not valid yet."""
    start = datetime.now(UTC) + timedelta(days=30)
    issued = Authority().issue(
        tmp_path, "127.0.0.1", starts_at=start, expires_at=start + timedelta(days=30)
    )
    with listening(issued) as (url, roots):
        client = network(roots)
        with pytest.raises(requests.exceptions.SSLError) as raised:
            client.get(f"{url}/")
        client.session.close()

    kind, reason = failure_of(raised.value)
    assert kind == "untrusted"
    # OpenSSL 3.6 adds that the clock may be wrong.
    assert reason.startswith("certificate is not yet valid")
    assert "; this machine's clock says 20" in reason
