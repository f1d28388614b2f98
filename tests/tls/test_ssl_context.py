"""One context for one certificate: each option seen in real handshakes, or refused."""

import ctypes.util
import ssl
import subprocess
import warnings
from pathlib import Path

import pytest

from gateman.errors import ConfigError
from gateman.tls.ssl_context import make_context, name_sessions, notes
from gateman.tls.ssl_options import Options
from tests.support.certificates import Authority, Issued
from tests.support.handshakes import shake_hands

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture(scope="module")
def authority() -> Authority:
    """Issue all certificates of a module."""
    return Authority()


@pytest.fixture
def issued(authority: Authority, tmp_path: Path) -> Issued:
    """Put a good certificate for localhost into the test's folder."""
    return authority.issue(tmp_path)


def context_of(issued: Issued, **options: object) -> ssl.SSLContext:
    """Make the context of a server with this certificate and these options."""
    declared = Options.of_server(
        {"local_cert": issued.certificate, "local_pk": issued.key, **options}, folder=Path("/")
    )
    return make_context(declared, declared.pair())


def refusal_of(issued: Issued, **options: object) -> str:
    """Make a context that cannot be made."""
    with pytest.raises(ConfigError) as caught:
        context_of(issued, **options)
    return str(caught.value)


def notes_on(**options: object) -> list[str]:
    """Tell what is noted on options."""
    return notes(Options.of_server(options, folder=Path("/")))


def library_without_openssl() -> str | None:
    """Name a library that is there, and that knows nothing of OpenSSL."""
    return ctypes.util.find_library("m")


def client_of(
    authority: Authority,
    *,
    oldest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
    newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    ciphers: str = "DEFAULT",
) -> ssl.SSLContext:
    """Make a client of certain versions."""
    client = authority.trusting_client()
    client.set_ciphers(ciphers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        client.minimum_version = oldest
        client.maximum_version = newest
    return client


# Versions.


def test_tls_1_2_and_1_3_are_spoken(authority: Authority, issued: Issued) -> None:
    """The default is both versions that are not forbidden."""
    context = context_of(issued)

    assert shake_hands(context, client_of(authority)).version == "TLSv1.3"
    old = client_of(authority, newest=ssl.TLSVersion.TLSv1_2)
    assert shake_hands(context, old).version == "TLSv1.2"


def test_tls_1_1_is_refused(authority: Authority, issued: Issued) -> None:
    """A client of the forbidden versions is refused."""
    client = client_of(
        authority,
        oldest=ssl.TLSVersion.TLSv1,
        newest=ssl.TLSVersion.TLSv1_1,
        ciphers="DEFAULT:@SECLEVEL=0",
    )

    with pytest.raises(ssl.SSLError, match="UNSUPPORTED_PROTOCOL"):
        shake_hands(context_of(issued), client)


@pytest.mark.parametrize(
    ("version", "spoken"), [(ssl.TLSVersion.TLSv1, "TLSv1"), (ssl.TLSVersion.TLSv1_1, "TLSv1.1")]
)
def test_old_versions_are_spoken_where_they_are_asked_for(
    authority: Authority, issued: Issued, version: ssl.TLSVersion, spoken: str
) -> None:
    """A lower version and level 0 let such clients in, with ciphers that they know."""
    context = context_of(issued, min_proto_version=version, security_level=0)
    client = client_of(authority, oldest=version, newest=version, ciphers="DEFAULT:@SECLEVEL=0")

    assert shake_hands(context, client).version == spoken


def test_old_versions_are_noted() -> None:
    """Whoever allows them is told what that means."""
    assert notes_on(min_proto_version=8) == [
        "ssl.min_proto_version allows TLSv1.0, which RFC 8996 forbids and no browser speaks"
    ]
    assert notes_on(min_proto_version=32) == []


@pytest.mark.parametrize(
    ("options", "is_noted"),
    [
        ({"security_level": 0}, True),
        ({"security_level": 1}, False),
        ({"ciphers": "DEFAULT:@SECLEVEL=0"}, True),
        ({"ciphers": "DEFAULT:@SECLEVEL=1"}, False),
        ({}, False),
    ],
)
def test_the_lowest_security_level_is_noted(options: dict[str, object], *, is_noted: bool) -> None:
    """In either way to set it."""
    sentence = (
        "ssl.security_level 0 lets OpenSSL accept keys and signatures that can be forged, such as"
        " RSA with 512 bits and MD5"
    )

    assert notes_on(**options) == [sentence] * is_noted


@pytest.mark.parametrize(
    ("ciphers", "problem"),
    [
        ("aNULL", "allows ADH-AES256-GCM-SHA384, which authenticates no server"),
        ("ALL", "allows ADH-AES256-GCM-SHA384, which authenticates no server"),
        ("HIGH:aNULL:@SECLEVEL=0", "allows ADH-AES256-GCM-SHA384, which authenticates no server"),
        ("HIGH:eNULL:!aNULL", "allows ECDHE-ECDSA-NULL-SHA, which encrypts nothing"),
    ],
)
@pytest.mark.parametrize("more", [{}, {"security_level": 0}])
def test_ciphers_that_protect_nothing_are_refused(
    issued: Issued, ciphers: str, problem: str, more: dict[str, object]
) -> None:
    """Anybody could pose as the server, or read along."""
    assert refusal_of(issued, ciphers=ciphers, **more) == (
        f"ssl.ciphers {problem}: add :!aNULL:!eNULL to it."
    )


def test_an_old_version_at_a_level_that_forbids_it_is_refused(issued: Issued) -> None:
    """OpenSSL would accept the setting and then refuse every such client."""
    assert refusal_of(issued, min_proto_version=16) == (
        "ssl.min_proto_version allows a version that OpenSSL speaks at security level 0 only:"
        " set security_level to 0 too, or leave both out."
    )


def test_the_oldest_version_can_be_raised(authority: Authority, issued: Issued) -> None:
    """With TLS 1.3 alone, a client of 1.2 is refused."""
    context = context_of(issued, min_proto_version="TLSv1.3")

    with pytest.raises(ssl.SSLError, match="UNSUPPORTED_PROTOCOL"):
        shake_hands(context, client_of(authority, newest=ssl.TLSVersion.TLSv1_2))
    assert shake_hands(context, client_of(authority)).version == "TLSv1.3"


def test_the_newest_version_can_be_lowered(authority: Authority, issued: Issued) -> None:
    """A client of 1.3 speaks 1.2 then."""
    context = context_of(issued, max_proto_version=32)

    assert shake_hands(context, client_of(authority)).version == "TLSv1.2"


def test_versions_the_wrong_way_round_are_refused(issued: Issued) -> None:
    """The default of the oldest counts too."""
    assert refusal_of(issued, max_proto_version="TLSv1.1") == (
        "ssl.max_proto_version is TLSv1.1, older than min_proto_version, TLSv1.2:"
        " swap them, or lower min_proto_version too."
    )


# Ciphers and keys.


def test_ciphers_restrict_tls_1_2(authority: Authority, issued: Issued) -> None:
    """The list is OpenSSL's, and TLS 1.3 keeps its own suites."""
    context = context_of(issued, ciphers="ECDHE-ECDSA-CHACHA20-POLY1305")
    client = client_of(authority, newest=ssl.TLSVersion.TLSv1_2)

    assert shake_hands(context, client).cipher == "ECDHE-ECDSA-CHACHA20-POLY1305"
    assert shake_hands(context, client_of(authority)).cipher == "TLS_AES_256_GCM_SHA384"


@pytest.mark.parametrize("ciphers", ["NONSENSE", "", "TLS_AES_128_GCM_SHA256", "A\0B"])
def test_a_list_without_cipher_is_refused(issued: Issued, ciphers: str) -> None:
    """Among them the names of TLS 1.3, which are not chosen by this option."""
    assert refusal_of(issued, ciphers=ciphers) == (
        "ssl.ciphers selects no cipher: see what there is with: openssl ciphers -s -v."
    )


@pytest.mark.parametrize("ciphers", [None, "ECDHE+AESGCM", "ECDHE+AESGCM:@SECLEVEL=1"])
def test_the_security_level_is_set(issued: Issued, ciphers: str | None) -> None:
    """With and without a list of ciphers, and over a level in that list."""
    context = context_of(issued, security_level=3, ciphers=ciphers)

    assert context.security_level == 3


def test_the_security_level_keeps_python_s_ciphers(issued: Issued) -> None:
    """Who asks for a level does not ask for other ciphers."""
    expected = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).get_ciphers()

    assert context_of(issued, security_level=2).get_ciphers() == expected


@pytest.mark.parametrize("level", [-1, 6, "2", 2.5])
def test_what_is_no_security_level_is_refused(issued: Issued, level: object) -> None:
    """OpenSSL has six."""
    assert refusal_of(issued, security_level=level) == (
        "ssl.security_level is not a level of OpenSSL: write 0 to 5."
    )


@pytest.mark.parametrize(
    ("is_honoured", "expected"),
    [
        (None, "ECDHE-ECDSA-AES256-GCM-SHA384"),
        (True, "ECDHE-ECDSA-AES256-GCM-SHA384"),
        (False, "ECDHE-ECDSA-AES128-GCM-SHA256"),
    ],
)
def test_the_order_of_ciphers_is_the_server_s_or_the_client_s(
    authority: Authority, issued: Issued, *, is_honoured: bool | None, expected: str
) -> None:
    """The server's order counts, unless it is told not to insist."""
    both = ["ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256"]
    context = context_of(issued, ciphers=":".join(both), honor_cipher_order=is_honoured)
    client = client_of(authority, newest=ssl.TLSVersion.TLSv1_2, ciphers=":".join(reversed(both)))

    assert shake_hands(context, client).cipher == expected


def test_one_curve_can_be_chosen(authority: Authority, issued: Issued) -> None:
    """A client with another curve only is refused, one with that curve is served."""
    context = context_of(issued, ecdh_curve="secp384r1")
    other, same = authority.trusting_client(), authority.trusting_client()
    other.set_ecdh_curve("prime256v1")
    same.set_ecdh_curve("secp384r1")

    assert shake_hands(context, same).version == "TLSv1.3"
    with pytest.raises(ssl.SSLError, match="NO_SUITABLE_KEY_SHARE"):
        shake_hands(context, other)


def test_an_unknown_curve_is_refused(issued: Issued) -> None:
    """Python takes one name of OpenSSL's."""
    assert refusal_of(issued, ecdh_curve="P-256:X25519") == (
        "ssl.ecdh_curve names no curve that OpenSSL has: write one, such as X25519 or"
        " prime256v1, or leave it out for all good ones."
    )


def test_diffie_hellman_parameters_are_loaded(authority: Authority, tmp_path: Path) -> None:
    """A client that can do nothing else gets a key exchange with them."""
    issued = authority.issue(tmp_path, has_rsa_key=True)
    parameters = tmp_path / "dh.pem"
    command = "openssl genpkey -genparam -algorithm DH -pkeyopt group:ffdhe2048 -out"
    subprocess.run([*command.split(), str(parameters)], check=True, capture_output=True)
    context = context_of(issued, dh_param=parameters, ciphers="DHE-RSA-AES128-GCM-SHA256")
    client = client_of(authority, newest=ssl.TLSVersion.TLSv1_2)

    assert shake_hands(context, client).cipher == "DHE-RSA-AES128-GCM-SHA256"


def test_what_holds_no_diffie_hellman_parameters_is_refused(issued: Issued) -> None:
    """A certificate in their place, for one."""
    assert refusal_of(issued, dh_param=issued.certificate) == (
        f"ssl.dh_param names {issued.certificate}, which holds no Diffie-Hellman parameters in"
        " PEM form: make them with: openssl dhparam -out FILE 2048; or leave it out."
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_sessions_that_cannot_be_named_are_not_given(
    authority: Authority, issued: Issued, version: ssl.TLSVersion
) -> None:
    """With a ticket the client would be refused; so it gets none, and does a full handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    context.load_verify_locations(issued.authority)
    context.verify_mode = ssl.CERT_REQUIRED
    name_sessions(context, library_without_openssl())
    client = client_of(authority, newest=version)
    client.load_cert_chain(issued.certificate, issued.key)

    session = shake_hands(context, client).session

    assert session is not None
    assert not session.has_ticket
    assert shake_hands(context, client, session=session).client_der == issued.der


def test_each_connection_gets_one_ticket(issued: Issued) -> None:
    """With which its client comes back; a second one costs time in each handshake."""
    assert context_of(issued).num_tickets == 1


@pytest.mark.parametrize("is_off", [False, True])
def test_tickets_can_be_switched_off(authority: Authority, issued: Issued, *, is_off: bool) -> None:
    """A session that a client may resume comes with a ticket, or without."""
    client = client_of(authority, newest=ssl.TLSVersion.TLSv1_2)
    session = shake_hands(context_of(issued, no_ticket=is_off), client).session

    assert session is not None
    assert session.has_ticket is not is_off


# ALPN.


@pytest.mark.parametrize(
    ("declared", "offered", "expected"),
    [
        (None, ["h2", "http/1.1"], "http/1.1"),
        (None, ["h2"], None),
        (None, [], None),
        ("chat, http/1.1", ["http/1.1", "chat"], "chat"),
    ],
)
def test_the_server_picks_a_protocol(
    authority: Authority,
    issued: Issued,
    declared: str | None,
    offered: list[str],
    expected: str | None,
) -> None:
    """http/1.1 unless others are declared; without a common one it goes on with none."""
    context = context_of(issued, alpn_protocols=declared)
    client = authority.trusting_client()
    if offered:
        client.set_alpn_protocols(offered)

    assert shake_hands(context, client).alpn == expected


@pytest.mark.parametrize(
    ("protocols", "sentence"),
    [
        (
            "h2,http/1.1",
            "ssl.alpn_protocols offers h2, which this server does not speak:"
            " write http/1.1, or let a proxy in front speak it.",
        ),
        (
            "http/1.1,,x",
            "ssl.alpn_protocols has a name that is not 1 to 255 ASCII bytes: write http/1.1.",
        ),
        (
            "x" * 256,
            "ssl.alpn_protocols has a name that is not 1 to 255 ASCII bytes: write http/1.1.",
        ),
        (
            "é",
            "ssl.alpn_protocols has a name that is not 1 to 255 ASCII bytes: write http/1.1.",
        ),
    ],
)
def test_protocols_that_cannot_be_offered_are_refused(
    issued: Issued, protocols: str, sentence: str
) -> None:
    """A browser that were offered h2 would speak it, and understand nothing."""
    assert refusal_of(issued, alpn_protocols=protocols) == sentence


# Clients' certificates.


@pytest.mark.parametrize("options", [{}, {"allow_self_signed": True}, {"verify_peer": False}])
def test_clients_are_not_asked_for_a_certificate(
    issued: Issued, options: dict[str, object]
) -> None:
    """A browser that were asked would ask its user."""
    assert context_of(issued, **options).verify_mode == ssl.CERT_NONE


def test_an_authority_that_is_not_used_is_noted() -> None:
    """Some take cafile for the place of the server's own chain."""
    expected = (
        "ssl.cafile is not used without ssl.verify_peer; the chain of the server's own"
        " certificate belongs into ssl.local_cert"
    )

    assert notes_on(cafile="ca.pem") == [expected]
    assert notes_on(cafile="ca.pem", verify_peer=True) == []
