"""Which clients may come in by their certificate, in real handshakes."""

import hashlib
import ssl
import subprocess
from pathlib import Path

import pytest

from gateman.errors import ConfigError
from gateman.tls.client_certificates import demand_certificates, is_pinned, pins
from gateman.tls.ssl_options import Options
from tests.support.certificates import Authority, Issued
from tests.support.handshakes import shake_hands

DER = b"a certificate"
SHA256 = hashlib.sha256(DER).hexdigest()


@pytest.fixture(scope="module")
def authority() -> Authority:
    """Issue all certificates of a module."""
    return Authority()


@pytest.fixture
def issued(authority: Authority, tmp_path: Path) -> Issued:
    """Put a good certificate for localhost into the test's folder."""
    return authority.issue(tmp_path)


def context_of(issued: Issued, **options: object) -> ssl.SSLContext:
    """Make a context with these demands on clients."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    demand_certificates(context, Options.of_server(options, folder=Path("/")))
    context.load_cert_chain(issued.certificate, issued.key)
    return context


def refusal_of(**options: object) -> str:
    """Make demands that cannot be made."""
    with pytest.raises(ConfigError) as caught:
        demand(Options.of_server(options, folder=Path("/")))
    return str(caught.value)


def demand(options: Options) -> None:
    """Read all that concerns clients, as a server does."""
    demand_certificates(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), options)
    pins(options)


def client_with(trusted: Authority, certificate: Issued) -> ssl.SSLContext:
    """Make a client that shows a certificate."""
    client = trusted.trusting_client()
    client.load_cert_chain(certificate.certificate, certificate.key)
    return client


# An authority.


def test_without_the_option_no_certificate_is_asked_for(
    authority: Authority, issued: Issued
) -> None:
    """The server does not see the certificate of a client that has one."""
    client = client_with(authority, issued)

    assert shake_hands(context_of(issued), client).client_der is None


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_with_a_certificate_of_the_authority_is_let_in(
    authority: Authority, issued: Issued, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    """The server has what the client showed."""
    shown = authority.issue(tmp_path, "me@example.test", stem="me", has_chain=True)
    client = client_with(authority, shown)
    client.maximum_version = version
    context = context_of(issued, verify_peer=True, cafile=issued.authority)

    assert shake_hands(context, client).client_der == shown.der


def test_a_client_without_certificate_is_refused(authority: Authority, issued: Issued) -> None:
    """The handshake ends when there is none."""
    context = context_of(issued, verify_peer=True, cafile=issued.authority)

    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        shake_hands(context, authority.trusting_client())


def test_a_client_of_another_authority_is_refused(
    authority: Authority, issued: Issued, tmp_path: Path
) -> None:
    """The handshake ends when the chain leads nowhere."""
    foreign = Authority().issue(tmp_path, "me@example.test", stem="foreign")
    issued.authority.write_text(authority.pem)
    context = context_of(issued, verify_peer=True, cafile=issued.authority)

    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        shake_hands(context, client_with(authority, foreign))


def test_a_folder_of_authorities_is_used(
    authority: Authority, issued: Issued, tmp_path: Path
) -> None:
    """OpenSSL finds an authority in it by its hash."""
    folder = tmp_path / "trusted"
    folder.mkdir()
    (folder / "ca.pem").write_text(authority.pem)
    subprocess.run(["openssl", "rehash", str(folder)], check=True, capture_output=True)
    context = context_of(issued, verify_peer=True, capath=folder)

    assert shake_hands(context, client_with(authority, issued)).client_der == issued.der


def test_a_demand_without_authority_is_refused() -> None:
    """Every client would be refused."""
    assert refusal_of(verify_peer=True) == (
        "ssl.verify_peer demands a certificate of every client, and nothing says whose:"
        " give cafile or capath, or leave it out: a browser has none to show."
    )


def test_an_exception_for_self_signed_certificates_is_refused(issued: Issued) -> None:
    """It can be had by name only, as a trusted certificate."""
    sentence = refusal_of(verify_peer=True, cafile=issued.authority, allow_self_signed=True)

    assert sentence == (
        "ssl.allow_self_signed cannot be honoured with verify_peer, as Python's ssl module has"
        " no such exception: leave it out, and put the clients' own certificates into cafile."
    )


def test_a_self_signed_certificate_can_be_trusted_itself(
    authority: Authority, issued: Issued, tmp_path: Path
) -> None:
    """What the sentence advises works."""
    own = Issued(
        certificate=tmp_path / "own.pem", key=tmp_path / "own.key", authority=tmp_path / "own.pem"
    )
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=own"
    subprocess.run(
        [*command.split(), "-keyout", str(own.key), "-out", str(own.certificate)],
        check=True,
        capture_output=True,
    )
    context = context_of(issued, verify_peer=True, cafile=own.certificate)

    assert shake_hands(context, client_with(authority, own)).client_der == own.der


def test_a_missing_authority_is_named(tmp_path: Path) -> None:
    """As with every file."""
    assert refusal_of(verify_peer=True, cafile=tmp_path / "none.pem") == (
        f"ssl.cafile names {tmp_path}/none.pem, which does not exist: give the path of a file."
    )


def test_authorities_without_a_line_break_between_them_are_refused(
    issued: Issued, tmp_path: Path
) -> None:
    """Put together with cat: both are there, and OpenSSL reads neither."""
    pem = issued.authority.read_text().rstrip()
    both = tmp_path / "both.pem"
    both.write_text(f"{pem}{pem}\n")
    line = pem.count("\n") + 1

    assert refusal_of(verify_peer=True, cafile=both) == (
        f"ssl.cafile names {both}, where a line break is missing between two blocks, in line"
        f" {line}: begin each -----BEGIN on a line of its own."
    )


def test_a_file_without_authority_is_refused(issued: Issued) -> None:
    """A key in its place, for one."""
    assert refusal_of(verify_peer=True, cafile=issued.key) == (
        f"ssl.cafile names {issued.key}, which holds no certificate in PEM form:"
        " it is a private key; give a certificate."
    )


@pytest.mark.parametrize("name", ["none", "ca.pem", "."])
def test_a_folder_that_is_not_hashed_is_refused(tmp_path: Path, name: str) -> None:
    """OpenSSL would find nothing in it, and refuse every client."""
    (tmp_path / "ca.pem").touch()

    assert refusal_of(verify_peer=True, capath=tmp_path / name) == (
        f"ssl.capath names {tmp_path / name}, which is not a folder of hashed certificates that can"
        " be read: make it one with: openssl rehash FOLDER."
    )


# A single certificate.


def options_with(fingerprint: object) -> Options:
    """Declare a fingerprint."""
    return Options.of_server(
        {"verify_peer": True, "cafile": "ca.pem", "peer_fingerprint": fingerprint},
        folder=Path("/"),
    )


@pytest.mark.parametrize(
    ("fingerprint", "expected"),
    [
        (None, {}),
        ("ab" * 16, {"md5": "ab" * 16}),
        ("ab" * 20, {"sha1": "ab" * 20}),
        ("AB" * 32, {"sha256": "ab" * 32}),
        (":".join(["AB"] * 32), {"sha256": "ab" * 32}),
        ({"sha512": "ab" * 64}, {"sha512": "ab" * 64}),
        ({"md5": "AB" * 16, "sha1": "cd" * 20}, {"md5": "ab" * 16, "sha1": "cd" * 20}),
    ],
)
def test_a_fingerprint_has_php_s_forms(fingerprint: object, expected: dict[str, str]) -> None:
    """Hex told by its length, or named; the openssl command's colons are taken."""
    assert pins(options_with(fingerprint)) == expected


@pytest.mark.parametrize(
    "fingerprint",
    [
        "",
        "ab" * 15,
        "ab" * 64,
        "xy" * 32,
        5,
        {},
        {"sha256": "ab" * 20},
        {"sha257": "ab" * 32},
        {"": ""},
        {"sha256": None},
        {"md5": "ab" * 16, "sha256": "short"},
    ],
)
def test_what_is_no_fingerprint_is_refused(fingerprint: object) -> None:
    """A pin that were dropped would let everybody in."""
    with pytest.raises(ConfigError) as caught:
        pins(options_with(fingerprint))

    assert str(caught.value) == (
        "ssl.peer_fingerprint is not a fingerprint: write 32, 40 or 64 hex digits (md5, sha1,"
        " sha256), or {'sha256': '…'}."
    )


def test_a_fingerprint_needs_a_certificate(issued: Issued) -> None:
    """Where clients show none there is nothing to compare."""
    assert refusal_of(peer_fingerprint=SHA256, cafile=issued.authority) == (
        "ssl.peer_fingerprint has nothing to compare: without verify_peer no client shows a"
        " certificate: set verify_peer and cafile too."
    )


@pytest.mark.parametrize(
    ("der", "pinned", "expected"),
    [
        (None, {}, True),
        (DER, {}, True),
        (None, {"sha256": SHA256}, False),
        (DER, {"sha256": SHA256}, True),
        (b"another", {"sha256": SHA256}, False),
        (DER, {"sha256": SHA256, "md5": hashlib.md5(DER, usedforsecurity=False).hexdigest()}, True),
        (DER, {"sha256": SHA256, "md5": "ab" * 16}, False),
    ],
)
def test_all_fingerprints_have_to_match(
    der: bytes | None, pinned: dict[str, str], *, expected: bool
) -> None:
    """No condition lets everybody in, and a client without certificate meets none."""
    assert is_pinned(der, pinned) is expected
