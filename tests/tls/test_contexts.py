"""A server's contexts: chosen by name, resumed, watched and replaced, in real handshakes."""

import hashlib
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateman.errors import ConfigError
from gateman.tls.contexts import TlsContexts
from tests.support.certificates import Authority, Issued
from tests.support.handshakes import shake_hands
from tests.support.made_certificates import ODD, odd

NOW = datetime(2026, 6, 1, tzinfo=UTC).timestamp()
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture(scope="module")
def authority() -> Authority:
    """Issue all certificates of a module."""
    return Authority()


@pytest.fixture
def issued(authority: Authority, tmp_path: Path) -> Issued:
    """Put a good certificate for localhost into the test's folder."""
    return authority.issue(tmp_path)


def options_of(issued: Issued, **more: object) -> dict[str, Any]:
    """Declare a certificate and its key, and more."""
    return {"local_cert": str(issued.certificate), "local_pk": str(issued.key), **more}


def refusal_of(options: Any) -> str:
    """Load what cannot be loaded."""
    with pytest.raises(ConfigError) as caught:
        TlsContexts.load(options, now=NOW)
    return str(caught.value)


def served(contexts: TlsContexts, client: ssl.SSLContext, name: str) -> tuple[str, ...]:
    """Tell for which names a client that asks for one is shown a certificate."""
    client.check_hostname = False
    return shake_hands(contexts.select(name), client, server_name=name).domains


# Names.


def test_each_name_has_its_certificate(authority: Authority, tmp_path: Path) -> None:
    """Exact names, wildcards of one label, and the default for the rest, on the wire."""
    default = authority.issue(tmp_path, "default.test", stem="default")
    exact = authority.issue(tmp_path, "a.example.test", stem="exact")
    wildcard = authority.issue(tmp_path, "*.example.test", stem="wildcard", has_rsa_key=True)
    contexts = TlsContexts.load(
        options_of(
            default,
            SNI_server_certs={
                "a.example.test": {"local_cert": exact.certificate, "local_pk": exact.key},
                "*.example.test": {"local_cert": wildcard.certificate, "local_pk": wildcard.key},
            },
        ),
        now=NOW,
    )
    client = authority.trusting_client()

    assert served(contexts, client, "a.example.test") == ("a.example.test",)
    assert served(contexts, client, "A.Example.TEST") == ("a.example.test",)
    assert served(contexts, client, "b.example.test") == ("*.example.test",)
    assert served(contexts, client, "example.test") == ("default.test",)
    assert served(contexts, client, "c.b.example.test") == ("default.test",)


def test_a_client_that_sends_no_server_name_gets_the_default(
    authority: Authority, tmp_path: Path
) -> None:
    """A client that connects by address sends no name."""
    default = authority.issue(tmp_path, "127.0.0.1", stem="default")
    other = authority.issue(tmp_path, "a.test", stem="other")
    contexts = TlsContexts.load(
        options_of(
            default,
            SNI_server_certs={"a.test": {"local_cert": other.certificate, "local_pk": other.key}},
        ),
        now=NOW,
    )
    context = contexts.select(None)

    handshake = shake_hands(context, authority.trusting_client(), server_name="127.0.0.1")
    assert handshake.domains == ("127.0.0.1",)


@pytest.mark.parametrize(
    ("declared", "asked", "is_served"),
    [
        ("a.test", "a.test", True),
        ("a.test", "A.TEST", True),
        ("A.Test", "a.test", True),
        ("a.test", "a.test.", True),
        ("a.test.", "a.test", True),
        ("a.test", "b.a.test", False),
        ("a.test", "", False),
        ("a.test", "a.test..", False),
        ("*.a.test", "b.a.test", True),
        ("*.a.test", "B.A.test.", True),
        ("*.a.test", "a.test", False),
        ("*.a.test", ".a.test", False),
        ("*.a.test", "c.b.a.test", False),
        ("münchen.test", "xn--mnchen-3ya.test", True),
        ("*.MÜNCHEN.test", "www.xn--mnchen-3ya.test", True),
        ("xn--mnchen-3ya.test", "XN--MNCHEN-3YA.test", True),
        ("a_b-c.test", "a_b-c.test", True),
    ],
)
def test_names_are_compared_as_on_the_wire(
    issued: Issued, declared: str, asked: str, *, is_served: bool
) -> None:
    """Without case, in A-labels; a wildcard is exactly one label."""
    pair = {"local_cert": issued.certificate, "local_pk": issued.key}
    contexts = TlsContexts.load(options_of(issued, SNI_server_certs={declared: pair}), now=NOW)

    assert (contexts.select(asked) is not contexts.select(None)) is is_served


@pytest.mark.parametrize(
    "name",
    [
        "",
        "*",
        "a.*.test",
        "*a.test",
        "**.test",
        "a..test",
        "a b",
        "straße.test",
        "a." * 127 + "a",
        5,
    ],
)
def test_a_name_that_no_client_could_send_is_refused(issued: Issued, name: object) -> None:
    """Among them ß, which browsers keep and Python would turn into another name."""
    assert refusal_of(options_of(issued, SNI_server_certs={name: "x.pem"})) == (
        f"ssl.SNI_server_certs[{name!r}] is for no name that a client could ask for:"
        " write a domain as example.com, *.example.com or xn--mnchen-3ya.example."
    )


def test_a_name_that_is_there_twice_is_refused(issued: Issued) -> None:
    """Two spellings of one name would be a toss-up."""
    pair = {"local_cert": issued.certificate, "local_pk": issued.key}

    assert refusal_of(options_of(issued, SNI_server_certs={"a.test": pair, "A.test": pair})) == (
        "ssl.SNI_server_certs['A.test'] is there twice: keep one of them."
    )


def test_names_must_be_a_mapping(issued: Issued) -> None:
    """A list of files does not say for whom."""
    assert refusal_of(options_of(issued, SNI_server_certs=["a.pem"])) == (
        "ssl.SNI_server_certs is not a mapping of names to certificates: write {'NAME': 'FILE'}."
    )


def test_a_broken_certificate_of_a_name_is_refused(issued: Issued, tmp_path: Path) -> None:
    """The sentence says which name."""
    assert refusal_of(options_of(issued, SNI_server_certs={"a.test": tmp_path / "a.pem"})) == (
        f"ssl.SNI_server_certs['a.test'].local_cert names {tmp_path}/a.pem, which does not exist:"
        " give the path of a file."
    )


def test_names_can_be_switched_off(issued: Issued) -> None:
    """Then their files are not even read."""
    contexts = TlsContexts.load(
        options_of(issued, SNI_enabled=False, SNI_server_certs={"a.test": "/none.pem"}), now=NOW
    )

    assert contexts.select("a.test") is contexts.select(None)


# Sessions.


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("more", [{}, {"no_ticket": True}])
@pytest.mark.parametrize("is_verified", [False, True])
def test_sessions_resume(
    authority: Authority,
    issued: Issued,
    version: ssl.TLSVersion,
    more: dict[str, object],
    *,
    is_verified: bool,
) -> None:
    """By ticket or from memory, again and again; a client's certificate is still known."""
    if is_verified:
        more = {**more, "verify_peer": True, "cafile": issued.authority}
    context = TlsContexts.load(options_of(issued, **more), now=NOW).select("localhost")
    client = authority.trusting_client()
    client.maximum_version = version
    client.load_cert_chain(issued.certificate, issued.key)

    first = shake_hands(context, client)
    second = shake_hands(context, client, session=first.session)
    third = shake_hands(context, client, session=second.session)

    assert (first.is_resumed, second.is_resumed, third.is_resumed) == (False, True, True)
    assert third.client_der == (issued.der if is_verified else None)
    assert third.version == {771: "TLSv1.2", 772: "TLSv1.3"}[version]


def test_no_ticket_keeps_sessions_in_memory(authority: Authority, issued: Issued) -> None:
    """Nothing of them is given away, and the server holds them."""
    client = authority.trusting_client()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    with_tickets = TlsContexts.load(options_of(issued), now=NOW).select(None)
    without = TlsContexts.load(options_of(issued, no_ticket=True), now=NOW).select(None)

    given = shake_hands(with_tickets, client).session
    kept = shake_hands(without, client).session

    assert given is not None
    assert kept is not None
    assert with_tickets is not None
    assert without is not None
    assert (given.has_ticket, kept.has_ticket) == (True, False)
    assert (with_tickets.session_stats()["number"], without.session_stats()["number"]) == (0, 1)


def test_a_session_is_good_for_its_name_only(authority: Authority, issued: Issued) -> None:
    """A ticket of one name is no entry to another; the client just begins anew."""
    pair = {"local_cert": issued.certificate, "local_pk": issued.key}
    contexts = TlsContexts.load(options_of(issued, SNI_server_certs={"a.test": pair}), now=NOW)
    client = authority.trusting_client()
    session = shake_hands(contexts.select(None), client).session

    assert not shake_hands(contexts.select("a.test"), client, session=session).is_resumed


# Clients' certificates.


def test_only_the_pinned_certificate_may_stay(
    authority: Authority, issued: Issued, tmp_path: Path
) -> None:
    """The authority lets both through the handshake, the fingerprint one of them."""
    mine = authority.issue(tmp_path, "me@example.test", stem="me")
    contexts = TlsContexts.load(
        options_of(
            issued,
            verify_peer=True,
            cafile=issued.authority,
            peer_fingerprint=hashlib.sha256(mine.der).hexdigest(),
        ),
        now=NOW,
    )
    shown = []
    for certificate in (mine, issued):
        client = authority.trusting_client()
        client.load_cert_chain(certificate.certificate, certificate.key)
        shown.append(shake_hands(contexts.select(None), client).client_der)

    assert shown == [mine.der, issued.der]
    assert [contexts.check_peer(der) for der in [*shown, None]] == [True, False, False]


def test_without_fingerprint_everybody_may_stay(issued: Issued) -> None:
    """The usual server has no such condition."""
    assert TlsContexts.load(options_of(issued), now=NOW).check_peer(None)


# What the operator should know.


def test_warnings_are_of_options_and_certificates(authority: Authority, tmp_path: Path) -> None:
    """Those of all names are there, and the server would start."""
    default = authority.issue(tmp_path)
    old = authority.issue(
        tmp_path, "a.test", stem="old", expires_at=datetime(2026, 1, 1, tzinfo=UTC)
    )
    contexts = TlsContexts.load(
        options_of(
            default,
            min_proto_version="TLSv1.1",
            security_level=0,
            SNI_server_certs={"a.test": {"local_cert": old.certificate, "local_pk": old.key}},
        ),
        now=NOW,
    )

    assert contexts.warnings == (
        "ssl.security_level 0 lets OpenSSL accept keys and signatures that can be forged, such as"
        " RSA with 512 bits and MD5",
        "ssl.min_proto_version allows TLSv1.1, which RFC 8996 forbids and no browser speaks",
        f"ssl.SNI_server_certs['a.test'].local_cert names {old.certificate}, whose certificate has"
        " expired on 2026-01-01 00:00 UTC, and clients refuse it: renew it",
    )


def test_a_certificate_under_a_name_that_it_is_not_for(issued: Issued) -> None:
    """All who ask for that name would refuse it."""
    pair = {"local_cert": issued.certificate, "local_pk": issued.key}
    contexts = TlsContexts.load(options_of(issued, SNI_server_certs={"*.a.test": pair}), now=NOW)

    assert contexts.warnings == (
        f"ssl.SNI_server_certs['*.a.test'].local_cert names {issued.certificate}, whose certificate"
        " is for localhost, and not for '*.a.test', for which it is configured: connect by a name"
        " that it is for, or give a certificate for this one in SNI_server_certs",
    )


@pytest.mark.parametrize("name", ODD)
def test_an_odd_certificate_is_served(name: str, tmp_path: Path) -> None:
    """OpenSSL takes it, so a client gets it; where it says nothing of dates, none are told."""
    path = tmp_path / "odd.pem"
    path.write_bytes(b"".join(odd(name)))
    contexts = TlsContexts.load({"local_cert": path}, now=datetime.now(UTC).timestamp())
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE

    assert shake_hands(contexts.select(None), client).version == "TLSv1.3"
    (certificate,) = contexts.certificates
    assert (certificate.days_left(0.0) is None) is name.startswith("version")


def test_dates_are_judged_as_time_goes_by(authority: Authority, tmp_path: Path) -> None:
    """What was good when the files were read may be about to expire."""
    issued = authority.issue(
        tmp_path,
        starts_at=datetime.fromtimestamp(NOW - 1, UTC),
        expires_at=datetime.fromtimestamp(NOW + 90 * 86_400, UTC),
    )
    contexts = TlsContexts.load(options_of(issued), now=NOW)
    sentences = [contexts.warnings_of_dates(now=NOW + days * 86_400) for days in (0, 75, 80, 91)]

    assert contexts.warnings == ()
    assert [[text.rpartition(": ")[2] for text in found] for found in sentences] == [
        [],
        [],
        ["renew it, and see why its renewal did not"],
        ["renew it"],
    ]


def test_one_that_is_not_valid_yet_is_served_unless_another_is(
    authority: Authority, issued: Issued, tmp_path: Path
) -> None:
    """A clock may be wrong; but a renewal has time."""
    later = datetime.fromtimestamp(NOW + 86_400, UTC)
    contexts = TlsContexts.load(options_of(issued), now=NOW)
    replace(issued, authority.issue(tmp_path, stem="new", starts_at=later))
    with pytest.raises(ConfigError, match="whose certificate is valid only from"):
        contexts.reload(now=NOW)

    assert not contexts.is_refused
    assert TlsContexts.load(options_of(issued), now=NOW).is_refused


def test_a_good_server_has_no_warnings(issued: Issued) -> None:
    """Silence means that all is well."""
    assert TlsContexts.load(options_of(issued), now=NOW).warnings == ()


def test_certificates_tell_when_they_expire(authority: Authority, tmp_path: Path) -> None:
    """For each in service: where it is from, for whom, and how many days are left."""
    default = authority.issue(tmp_path, expires_at=datetime(2026, 6, 11, tzinfo=UTC))
    other = authority.issue(tmp_path, "a.test", stem="other")
    pair = {"local_cert": other.certificate, "local_pk": other.key}
    contexts = TlsContexts.load(options_of(default, SNI_server_certs={"a.test": pair}), now=NOW)

    assert [(found.option, found.domains, found.path) for found in contexts.certificates] == [
        ("ssl.local_cert", ("localhost",), default.certificate),
        ("ssl.SNI_server_certs['a.test'].local_cert", ("a.test",), other.certificate),
    ]
    assert contexts.certificates[0].days_left(NOW) == 10
    assert contexts.certificates[1].expires_at == other.expires_at


def test_files_are_those_to_watch(
    issued: Issued, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file once, absolute, and links as such: a renewal moves the link."""
    both = tmp_path / "both.pem"
    both.write_bytes(issued.certificate.read_bytes() + issued.key.read_bytes())
    (tmp_path / "live.pem").symlink_to("both.pem")
    monkeypatch.chdir(tmp_path)
    contexts = TlsContexts.load(
        {
            "local_cert": "live.pem",
            "SNI_server_certs": {"a.test": "both.pem", "b.test": "both.pem"},
            "verify_peer": True,
            "cafile": "authority.pem",
        },
        now=NOW,
    )

    assert contexts.files == (
        tmp_path / "live.pem",
        both,
        tmp_path / "authority.pem",
    )


# Reloading.


def replace(target: Issued, source: Issued) -> None:
    """Put the files of one certificate in the place of another's."""
    source.certificate.replace(target.certificate)
    source.key.replace(target.key)


def test_a_reload_serves_the_new_files(authority: Authority, issued: Issued) -> None:
    """From the next connection on, also if the type of the key is another."""
    contexts = TlsContexts.load(options_of(issued), now=NOW)
    client = authority.trusting_client()
    before = shake_hands(contexts.select(None), client)
    old = contexts.select(None)
    folder = issued.key.parent
    new = authority.issue(folder, "localhost", "new.test", stem="new", has_rsa_key=True)
    replace(issued, new)

    contexts.reload(now=NOW)
    after = shake_hands(contexts.select(None), client, session=before.session)
    client.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    client.maximum_version = ssl.TLSVersion.TLSv1_2

    assert after.domains == ("localhost", "new.test")
    assert not after.is_resumed
    assert contexts.certificates[0].domains == ("localhost", "new.test")
    # The old key is gone: a client that knows no other type is refused, not served the old.
    with pytest.raises(ssl.SSLError, match="NO_SHARED_CIPHER"):
        shake_hands(contexts.select(None), client)
    # Who was accepted just before still shakes hands with the old.
    assert shake_hands(old, client).domains == ("localhost",)


@pytest.mark.parametrize("is_key_broken", [False, True])
def test_a_broken_file_leaves_the_old_in_service(
    authority: Authority, issued: Issued, *, is_key_broken: bool
) -> None:
    """Half of a renewal, or half a file: it is said, and clients notice nothing."""
    contexts = TlsContexts.load(options_of(issued), now=NOW)
    before = (contexts.certificates, contexts.files, contexts.warnings, contexts.select(None))
    client = authority.trusting_client()
    session = shake_hands(contexts.select(None), client).session
    new = authority.issue(issued.key.parent, "new.test", stem="new")
    if is_key_broken:
        new.key.write_bytes(new.key.read_bytes()[:100])
        replace(issued, new)
    else:
        new.certificate.replace(issued.certificate)

    with pytest.raises(ConfigError):
        contexts.reload(now=NOW)
    after = (contexts.certificates, contexts.files, contexts.warnings, contexts.select(None))

    assert after == before
    assert shake_hands(contexts.select(None), client, session=session).is_resumed


def test_a_broken_file_of_one_name_leaves_all_in_service(
    authority: Authority, issued: Issued, tmp_path: Path
) -> None:
    """Nothing is replaced unless everything can be."""
    other = authority.issue(tmp_path, "a.test", stem="other")
    pair = {"local_cert": other.certificate, "local_pk": other.key}
    contexts = TlsContexts.load(options_of(issued, SNI_server_certs={"a.test": pair}), now=NOW)
    before = (contexts.select(None), contexts.select("a.test"))
    replace(issued, authority.issue(tmp_path, "new.test", stem="new"))
    other.certificate.unlink()

    with pytest.raises(ConfigError):
        contexts.reload(now=NOW)

    assert (contexts.select(None), contexts.select("a.test")) == before


def test_a_reload_forgets_an_authority(authority: Authority, issued: Issued) -> None:
    """Who is no longer trusted does not come in, not even with an old ticket."""
    contexts = TlsContexts.load(
        options_of(issued, verify_peer=True, cafile=issued.authority), now=NOW
    )
    client = authority.trusting_client()
    client.load_cert_chain(issued.certificate, issued.key)
    session = shake_hands(contexts.select(None), client).session
    issued.authority.write_text(Authority().pem)
    contexts.reload(now=NOW)

    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        shake_hands(contexts.select(None), client, session=session)


def test_a_reload_finds_relative_files_after_a_change_of_folder(
    authority: Authority, issued: Issued, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths start where the working directory was when the server started."""
    monkeypatch.chdir(tmp_path)
    contexts = TlsContexts.load({"local_cert": "server.pem", "local_pk": "server.key"}, now=NOW)
    replace(issued, authority.issue(tmp_path, "new.test", stem="new"))
    monkeypatch.chdir("/")
    contexts.reload(now=NOW)

    assert contexts.certificates[0].domains == ("new.test",)
