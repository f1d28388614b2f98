"""A certificate and its key: what is read of them, and the sentence for all that can be wrong."""

import os
import pty
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateman.errors import ConfigError
from gateman.findings import Severity
from gateman.tls.certificate import Pair, ServerCertificate, inspect, load, read
from gateman.tls.certificate_chain import CertificateFacts
from tests.support.certificates import Authority, Issued
from tests.support.deadlines import TIMEOUT
from tests.support.made_certificates import ODD, make, odd

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC).timestamp()
NOBODY = 65_534


@pytest.fixture(scope="module")
def authority() -> Authority:
    """Issue all certificates of a module."""
    return Authority()


@pytest.fixture
def issued(authority: Authority, tmp_path: Path) -> Issued:
    """Put a good certificate for localhost into the test's folder."""
    return authority.issue(tmp_path)


def pair_of(certificate: Path, key: Path | None = None, passphrase: str | None = None) -> Pair:
    """Declare files as the options of a server do."""
    return Pair(
        option="ssl.local_cert",
        path=certificate,
        key_option="ssl.local_pk",
        key_path=key or certificate,
        passphrase=passphrase,
    )


def failure_to_load(pair: Pair, ciphers: str = "DEFAULT") -> str:
    """Load what cannot be loaded."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers(ciphers)
    with pytest.raises(ConfigError) as caught:
        load(context, pair)
    return str(caught.value)


def openssl(command: str) -> None:
    """Run the program."""
    subprocess.run(["openssl", *command.split()], capture_output=True, check=True, timeout=TIMEOUT)


@contextmanager
def without_privilege() -> Iterator[None]:
    """Be nobody for a moment: root may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


# What a certificate says of itself.


def test_a_certificate_tells_its_names_and_dates(authority: Authority, tmp_path: Path) -> None:
    """Names, addresses and both dates are read from the first certificate of the file."""
    issued = authority.issue(
        tmp_path,
        "example.test",
        "*.example.test",
        "::1",
        starts_at=datetime(2026, 1, 1, tzinfo=UTC),
        expires_at=datetime(2026, 7, 1, tzinfo=UTC),
        has_chain=True,
    )

    certificate = inspect(pair_of(issued.certificate), now=NOW)

    assert certificate.domains == ("example.test", "*.example.test", "::1")
    assert certificate.expires_at == datetime(2026, 7, 1, tzinfo=UTC).timestamp()
    assert len(certificate.chain) == 2
    assert certificate.findings == ()


@pytest.mark.parametrize(
    ("seconds", "days"), [(86_400 * 30, 30), (86_400 * 30 - 1, 29), (1, 0), (0, 0), (-1, -1)]
)
def test_days_left_are_whole_days(seconds: float, days: int) -> None:
    """A day counts only while all of it is left; below zero it has expired."""
    facts = CertificateFacts(subject="", issuer="", starts_at=0.0, expires_at=NOW + seconds)
    certificate = ServerCertificate(
        option="ssl.local_cert", path=Path("server.pem"), chain=(facts,)
    )

    assert certificate.days_left(NOW) == days
    assert certificate.is_valid(NOW) is (seconds > 0)


def test_a_certificate_that_cannot_be_read_tells_nothing() -> None:
    """It is in service all the same."""
    certificate = ServerCertificate(option="ssl.local_cert", path=Path("x"), chain=(None,))

    assert (certificate.domains, certificate.expires_at) == ((), None)
    assert (certificate.days_left(NOW), certificate.is_valid(NOW)) == (None, False)


def test_an_expired_certificate_is_a_finding(authority: Authority, tmp_path: Path) -> None:
    """The server may start with it, and its operator is told."""
    issued = authority.issue(tmp_path, expires_at=datetime(2026, 6, 1, 12, 0, tzinfo=UTC))

    certificate = inspect(pair_of(issued.certificate), now=NOW)

    assert certificate.days_left(NOW) == 0
    assert str(certificate.findings[0]) == (
        f"ssl.local_cert names {issued.certificate}, whose certificate has expired on"
        " 2026-06-01 12:00 UTC, and clients refuse it: renew it"
    )


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        pytest.param(b"", "one begins with -----BEGIN CERTIFICATE-----.", id="empty"),
        pytest.param(b"hello", "one begins with -----BEGIN CERTIFICATE-----.", id="text"),
        pytest.param(
            make().der, "convert it with: openssl x509 -inform DER -in FILE -out NEW.", id="DER"
        ),
        pytest.param(
            make().key_pem,
            "it is a private key; give a certificate.",
            id="key",
        ),
    ],
)
def test_what_is_no_certificate_is_said_to_be_none(
    content: bytes, remedy: str, tmp_path: Path
) -> None:
    """Empty and foreign files get one sentence, with what to do about this one."""
    path = tmp_path / "server.pem"
    path.write_bytes(content)

    assert failure_to_load(pair_of(path)) == (
        f"ssl.local_cert names {path}, which holds no certificate in PEM form: {remedy}"
    )


@pytest.mark.parametrize("name", ODD)
def test_a_certificate_that_openssl_takes_is_never_refused(name: str, tmp_path: Path) -> None:
    """However odd it is, it is served, with a warning if something of it cannot be read."""
    path = tmp_path / "server.pem"
    path.write_bytes(b"".join(odd(name)))

    load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pair_of(path))
    found = inspect(pair_of(path), now=datetime.now(UTC).timestamp())

    malformed = [one for one in found.findings if one.code == "CERTIFICATE_MALFORMED"]
    assert [one.severity for one in malformed] == (
        [] if name == "a negative serial number" else [Severity.WARNING]
    )


def test_a_certificate_that_openssl_refuses_is_refused_in_a_sentence(tmp_path: Path) -> None:
    """Names that are not even a sequence."""
    made = make(names=(), extensions={"2.5.29.17": b"junk"})
    path = tmp_path / "server.pem"
    path.write_bytes(made.pem + made.key_pem)
    if ssl.OPENSSL_VERSION_INFO >= (3, 5):
        # It leaves that to the clients.
        load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pair_of(path))
        return

    assert failure_to_load(pair_of(path)) == (
        f"ssl.local_cert names {path}, a part of which breaks the standard, so that OpenSSL does"
        " not take it: get a new certificate."
    )


def test_a_missing_line_break_is_found(tmp_path: Path) -> None:
    """Files that do not end in one, put together with cat."""
    made, middle = make(), make("middle")
    path = tmp_path / "server.pem"
    path.write_bytes(made.key_pem + made.pem.rstrip() + middle.pem)
    line = path.read_bytes()[: path.read_bytes().index(b"-----END CERT")].count(b"\n") + 1

    assert failure_to_load(pair_of(path)) == (
        f"ssl.local_cert names {path}, where a line break is missing between two blocks, in line"
        f" {line}: begin each -----BEGIN on a line of its own."
    )


# Reading a file.


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The sentence has the option and the whole path."""
    with pytest.raises(ConfigError) as caught:
        read("ssl.cafile", tmp_path / "none.pem")

    assert str(caught.value) == (
        f"ssl.cafile names {tmp_path}/none.pem, which does not exist: give the path of a file."
    )


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """A folder is said to be one."""
    with pytest.raises(ConfigError) as caught:
        read("ssl.cafile", tmp_path)

    assert str(caught.value) == (
        f"ssl.cafile names {tmp_path}, which is a folder: give the path of a file."
    )


def test_a_path_through_a_file_cannot_be_read(issued: Issued) -> None:
    """What else the system says is passed on."""
    with pytest.raises(ConfigError) as caught:
        read("ssl.cafile", issued.key / "x")

    assert str(caught.value) == (
        f"ssl.cafile names {issued.key}/x, which cannot be read (Not a directory):"
        " give the path of a file."
    )


def test_a_file_that_may_not_be_read_is_named_with_the_user(tmp_path: Path) -> None:
    """A key of root's and a worker that is not root: the sentence says who is who."""
    path = tmp_path / "server.key"
    path.touch(mode=0)

    with without_privilege():
        uid = os.geteuid()
        with pytest.raises(ConfigError) as caught:
            read("ssl.local_pk", path)

    assert str(caught.value) == (
        f"ssl.local_pk names {path}, which this process (uid {uid}) may not read:"
        " let its user read the file and enter every folder above it."
    )


# Loading the key.


def test_a_key_apart_is_loaded(issued: Issued) -> None:
    """The usual two files."""
    load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pair_of(issued.certificate, issued.key))


def test_a_key_in_the_same_file_is_loaded(issued: Issued) -> None:
    """PHP's habit of one file, whose order does not matter."""
    both = issued.certificate.with_name("both.pem")
    both.write_bytes(issued.key.read_bytes() + issued.certificate.read_bytes())

    load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pair_of(both))


def test_an_encrypted_key_is_loaded_with_its_passphrase(
    authority: Authority, tmp_path: Path
) -> None:
    """The right passphrase opens it."""
    issued = authority.issue(tmp_path, passphrase="secret")

    load(
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
        pair_of(issued.certificate, issued.key, "secret"),
    )


def test_a_passphrase_that_is_not_needed_does_no_harm(issued: Issued) -> None:
    """A key that was decrypted later still loads."""
    load(
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
        pair_of(issued.certificate, issued.key, "secret"),
    )


def test_a_missing_key_file_is_named(issued: Issued, tmp_path: Path) -> None:
    """The key's own option is the one to correct."""
    assert failure_to_load(pair_of(issued.certificate, tmp_path / "none.key")) == (
        f"ssl.local_pk names {tmp_path}/none.key, which does not exist: give the path of a file."
    )


def test_a_certificate_file_without_key_asks_for_the_other_file(issued: Issued) -> None:
    """Without local_pk the key must be in the same file."""
    assert failure_to_load(pair_of(issued.certificate)) == (
        f"ssl.local_cert names {issued.certificate}, which holds no private key:"
        " name the key's file in ssl.local_pk."
    )


def test_a_key_file_without_key_is_refused(issued: Issued) -> None:
    """Anything but a PEM key gets one sentence."""
    issued.key.write_text("hello")

    assert failure_to_load(pair_of(issued.certificate, issued.key)) == (
        f"ssl.local_pk names {issued.key}, which holds no private key in PEM form:"
        " one begins with -----BEGIN PRIVATE KEY-----."
    )


def test_a_broken_key_is_refused(issued: Issued) -> None:
    """What looks like a key and is none is left to OpenSSL, which says so."""
    issued.key.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")

    assert failure_to_load(pair_of(issued.certificate, issued.key)) == (
        f"ssl.local_cert names {issued.certificate}, which OpenSSL cannot load with the key in"
        f" {issued.key}: look at both with: openssl x509 -noout -in FILE;"
        " openssl pkey -noout -in FILE."
    )


@pytest.mark.parametrize("has_rsa_key", [False, True])
def test_a_key_of_another_certificate_is_refused(
    authority: Authority, issued: Issued, tmp_path: Path, *, has_rsa_key: bool
) -> None:
    """Of the same type or of another, OpenSSL's two words for it are one sentence."""
    other = authority.issue(tmp_path, stem="other", has_rsa_key=has_rsa_key)

    assert failure_to_load(pair_of(issued.certificate, other.key)) == (
        f"ssl.local_pk names {other.key}, whose key does not belong to the certificate in"
        f" {issued.certificate}: give the key that the certificate was made with; in a file with"
        " a chain, the server's own certificate comes first."
    )


@pytest.mark.parametrize("passphrase", ["wrong", "", "x" * 2000])
def test_a_wrong_passphrase_is_refused(
    authority: Authority, tmp_path: Path, passphrase: str
) -> None:
    """Wrong, empty or longer than OpenSSL takes: one sentence, and it does not show it."""
    issued = authority.issue(tmp_path, passphrase="secret")

    assert failure_to_load(pair_of(issued.certificate, issued.key, passphrase)) == (
        f"ssl.local_pk names {issued.key}, whose key the passphrase does not open:"
        " give the right passphrase."
    )


OLD = {
    "DES-CBC": "rsa -des -traditional",
    "RC2-CBC": "rsa -rc2 -traditional",
    "BF-CBC": "rsa -bf -traditional",
    "PBE-MD5-DES": "pkcs8 -topk8 -v1 PBE-MD5-DES",
    "PBE-SHA1-DES": "pkcs8 -topk8 -v1 PBE-SHA1-DES",
    "PBE-SHA1-RC2-40": "pkcs8 -topk8 -v1 PBE-SHA1-RC2-40",
    "PBE-SHA1-RC4-128": "pkcs8 -topk8 -v1 PBE-SHA1-RC4-128",
    "DES-CBC of PBES2": "pkcs8 -topk8 -v2 des",
    "RC2-CBC of PBES2": "pkcs8 -topk8 -v2 rc2",
}


@pytest.mark.parametrize(("name", "command"), OLD.items(), ids=list(OLD))
def test_an_encryption_that_openssl_no_longer_reads_is_said(
    authority: Authority, tmp_path: Path, name: str, command: str
) -> None:
    """The passphrase may be right; and the command that is named makes a key that is read."""
    issued = authority.issue(tmp_path, has_rsa_key=True)
    old, new = tmp_path / "old.key", tmp_path / "new.key"
    legacy = "-provider legacy -provider default"
    openssl(f"{command} {legacy} -in {issued.key} -out {old} -passout pass:secret")

    sentence = failure_to_load(pair_of(issued.certificate, old, "secret"))

    assert sentence == (
        f"ssl.local_pk names {old}, whose key is encrypted with {name.partition(' ')[0]}, which"
        " OpenSSL 3 no longer reads: convert it with: openssl pkey -provider legacy -provider"
        " default -in FILE -aes256 -out NEW."
    )
    told = sentence.partition("with: openssl ")[2].removesuffix(".")
    told = told.replace("FILE", str(old)).replace("NEW", str(new))
    openssl(f"{told} -passin pass:secret -passout pass:secret")
    load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pair_of(issued.certificate, new, "secret"))


@pytest.mark.parametrize(
    "command", ["rsa -des3 -traditional", "pkcs8 -topk8 -v1 PBE-SHA1-3DES", "pkcs8 -topk8"]
)
def test_other_encryptions_are_read(authority: Authority, tmp_path: Path, command: str) -> None:
    """With a wrong passphrase it is the passphrase that is wrong."""
    issued = authority.issue(tmp_path, has_rsa_key=True)
    key = tmp_path / "encrypted.key"
    openssl(f"{command} -in {issued.key} -out {key} -passout pass:secret")

    load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pair_of(issued.certificate, key, "secret"))
    assert "the passphrase does not open" in failure_to_load(
        pair_of(issued.certificate, key, "wrong")
    )


def test_a_missing_passphrase_is_said(authority: Authority, tmp_path: Path) -> None:
    """An encrypted key without passphrase has its own sentence."""
    issued = authority.issue(tmp_path, passphrase="secret")

    assert failure_to_load(pair_of(issued.certificate, issued.key)) == (
        f"ssl.local_pk names {issued.key}, whose key is encrypted: give its passphrase,"
        " or decrypt it: openssl pkey -in FILE -out NEW."
    )


def test_no_prompt_asks_for_a_passphrase(authority: Authority, tmp_path: Path) -> None:
    """On a terminal OpenSSL would ask and wait; the program ends with the sentence instead."""
    issued = authority.issue(tmp_path, passphrase="secret")
    program = (
        "import fcntl, sys, termios, time\n"
        # The terminal becomes that of the session, /dev/tty.
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        "from gateman.tls.contexts import TlsContexts\n"
        "options = dict(zip(('local_cert', 'local_pk'), sys.argv[1:]))\n"
        "TlsContexts.load(options, now=time.time())\n"
    )
    ours, theirs = pty.openpty()
    try:
        ended = subprocess.run(
            [sys.executable, "-c", program, str(issued.certificate), str(issued.key)],
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.PIPE,
            start_new_session=True,
            timeout=TIMEOUT,
            check=False,
        )
    finally:
        os.close(theirs)
        os.close(ours)

    assert b"whose key is encrypted: give its passphrase" in ended.stderr


def test_a_key_too_weak_for_the_level_is_refused(authority: Authority, tmp_path: Path) -> None:
    """RSA with 2048 bits is level 2 and no more."""
    issued = authority.issue(tmp_path, has_rsa_key=True)

    sentence = failure_to_load(pair_of(issued.certificate, issued.key), "DEFAULT:@SECLEVEL=4")

    assert sentence == (
        f"ssl.local_cert names {issued.certificate}, which is too weak for security level 4:"
        " get a new certificate: ECDSA P-256 or RSA with 2048 bits or more, and SHA-256."
    )


def test_a_passphrase_is_in_no_representation(issued: Issued) -> None:
    """What a traceback or a log shows of a pair is not its passphrase."""
    assert "secret" not in repr(pair_of(issued.certificate, issued.key, "secret"))
