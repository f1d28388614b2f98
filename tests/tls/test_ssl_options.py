"""PHP's ssl options: read with their types, or refused with a sentence."""

import ssl
from pathlib import Path

import pytest

from gateman.errors import ConfigError
from gateman.tls.certificate import Pair
from gateman.tls.ssl_options import Options

FOLDER = Path("/srv")


def options_of(**values: object) -> Options:
    """Take options that are fine."""
    return Options.of_server(values, folder=FOLDER)


def refusal_of(values: object) -> str:
    """Take options that are refused at once."""
    with pytest.raises(ConfigError) as caught:
        Options.of_server(values, folder=FOLDER)
    return str(caught.value)


# Values of the wrong kind.


# Reading values.


def test_options_must_be_a_mapping() -> None:
    """A path in place of the options is refused, and not shown."""
    assert refusal_of("server.pem") == (
        "ssl is not a mapping of options but of type str: write {'local_cert': …}."
    )


def test_an_unknown_option_is_refused_with_the_nearest() -> None:
    """A slip of the pen is answered with the right name."""
    assert refusal_of({"local_certt": "x"}) == (
        "'local_certt' is not an option of ssl: did you mean 'local_cert'?"
    )


def test_none_counts_as_left_out() -> None:
    """An option from an environment variable that is not set does no harm."""
    options = options_of(passphrase=None, verify_depth=None, verify_peer=None, local_cert=None)

    assert options.get("verify_peer") is None
    assert options.text("passphrase") is None
    assert options.path("local_cert") is None
    assert options.flag("verify_peer", default=True) is True


@pytest.mark.parametrize(
    ("value", "expected"), [(True, True), (1, True), (False, False), (0, False)]
)
def test_a_flag_is_true_or_false(value: object, *, expected: bool) -> None:
    """PHP programmers write 1 and 0 too."""
    assert options_of(no_ticket=value).flag("no_ticket") is expected


@pytest.mark.parametrize("value", ["no", "", 2, 1.0, []])
def test_what_is_neither_true_nor_false_is_refused(value: object) -> None:
    """PHP takes "no" for true; here it is an error."""
    with pytest.raises(ConfigError) as caught:
        options_of(no_ticket=value).flag("no_ticket")

    assert str(caught.value) == "ssl.no_ticket is neither True nor False: write one of them."


def test_text_must_be_text() -> None:
    """What was written is not repeated, as it may be a passphrase."""
    assert options_of(passphrase="secret").text("passphrase") == "secret"
    with pytest.raises(ConfigError) as caught:
        options_of(passphrase=1234).text("passphrase")

    assert str(caught.value) == "ssl.passphrase is not text: put it between quotes."


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (5, "is not a path: write a file's path between quotes."),
        (b"server.pem", "is not a path: write a file's path between quotes."),
        ("", "is empty: write a file's path, or leave it out."),
    ],
)
def test_a_path_must_be_one(value: object, problem: str) -> None:
    """Text or a path object, and not empty."""
    with pytest.raises(ConfigError) as caught:
        options_of(local_pk=value).path("local_pk")

    assert str(caught.value) == f"ssl.local_pk {problem}"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((value, ssl.TLSVersion.TLSv1) for value in (8, "TLSv1.0", "TLSv1", ssl.TLSVersion.TLSv1)),
        *((value, ssl.TLSVersion.TLSv1_1) for value in (16, "TLSv1.1", ssl.TLSVersion.TLSv1_1)),
        *((value, ssl.TLSVersion.TLSv1_2) for value in (32, "TLSv1.2", ssl.TLSVersion.TLSv1_2)),
        *((value, ssl.TLSVersion.TLSv1_3) for value in (64, "TLSv1.3", ssl.TLSVersion.TLSv1_3)),
        (None, ssl.TLSVersion.TLSv1_2),
    ],
)
def test_a_version_has_three_spellings(value: object, expected: ssl.TLSVersion) -> None:
    """PHP's number, OpenSSL's name and Python's constant; left out, the default."""
    options = options_of(min_proto_version=value)

    assert options.version("min_proto_version", ssl.TLSVersion.TLSv1_2) == expected


@pytest.mark.parametrize(
    "value", [4, "SSLv3", ssl.TLSVersion.SSLv3, "1.2", 771.0, True, b"TLSv1.2"]
)
def test_what_is_no_version_is_refused(value: object) -> None:
    """SSL 3 is gone from OpenSSL; the rest never was a version."""
    with pytest.raises(ConfigError) as caught:
        options_of(min_proto_version=value).version("min_proto_version", ssl.TLSVersion.TLSv1_2)

    assert str(caught.value) == (
        "ssl.min_proto_version is not a version of TLS that OpenSSL has: write TLSv1.2 or TLSv1.3."
    )


# Certificates.


def test_a_server_without_certificate_is_refused() -> None:
    """TLS needs at least one."""
    with pytest.raises(ConfigError) as caught:
        options_of(local_pk="a.key").pair()

    assert str(caught.value) == (
        "ssl has no local_cert: give the path of the certificate and its chain."
    )


def test_relative_paths_start_at_the_folder() -> None:
    """Absolute paths stay, relative ones start where the options say."""
    pair = options_of(local_cert="a.pem", local_pk=Path("/k/a.key"), passphrase="secret").pair()

    assert pair == Pair(
        option="ssl.local_cert",
        path=Path("/srv/a.pem"),
        key_option="ssl.local_pk",
        key_path=Path("/k/a.key"),
        passphrase="secret",
    )


def test_a_key_is_looked_for_in_the_certificate_s_file() -> None:
    """One file may hold both."""
    assert options_of(local_cert="a.pem").pair().key_path == Path("/srv/a.pem")


def test_the_certificate_of_a_name_is_a_path_or_a_mapping() -> None:
    """PHP's two forms give the same."""
    short = Options.of_name("a.pem", name="a.test", folder=FOLDER).pair()
    long = Options.of_name({"local_cert": "a.pem"}, name="a.test", folder=FOLDER).pair()

    assert short == long
    assert short.option == "ssl.SNI_server_certs['a.test'].local_cert"


def test_a_name_has_no_other_options() -> None:
    """Ciphers and the like are those of the server."""
    with pytest.raises(ConfigError) as caught:
        Options.of_name({"ciphers": "x"}, name="a.test", folder=FOLDER)

    assert str(caught.value) == (
        "'ciphers' is not an option of ssl.SNI_server_certs['a.test']:"
        " there are local_cert, local_pk, passphrase."
    )


# Options that cannot be chosen.


@pytest.mark.parametrize(
    "values",
    [
        {"disable_compression": True},
        {"single_dh_use": True},
        {"verify_peer_name": False},
        {"capture_peer_cert": False},
        {"capture_peer_cert_chain": False},
        {"reneg_limit": 2, "reneg_window": 300},
    ],
)
def test_an_option_that_says_what_is_the_case_is_accepted(values: dict[str, object]) -> None:
    """What was copied from a PHP program keeps working where it changes nothing."""
    options_of(**values)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        (
            "disable_compression",
            False,
            "ssl.disable_compression cannot be False: leave it out, as compression under TLS"
            " betrays secrets (CRIME) and is off.",
        ),
        (
            "single_dh_use",
            False,
            "ssl.single_dh_use cannot be False: leave it out, as OpenSSL makes a new key for"
            " every connection in any case.",
        ),
        (
            "verify_peer_name",
            True,
            "ssl.verify_peer_name cannot be True: leave it out, as a client's certificate has no"
            " host name to compare.",
        ),
        (
            "capture_peer_cert",
            True,
            "ssl.capture_peer_cert cannot be True: leave it out, as there is no stream context"
            " that could keep the certificate.",
        ),
        (
            "capture_peer_cert_chain",
            True,
            "ssl.capture_peer_cert_chain cannot be True: leave it out, as there is no stream"
            " context that could keep the chain.",
        ),
        (
            "verify_depth",
            3,
            "ssl.verify_depth cannot be honoured, as Python's ssl module cannot limit the length"
            " of a client's chain: leave it out, and let the authority limit it"
            " (basicConstraints, pathlen).",
        ),
        (
            "peer_name",
            "x",
            "ssl.peer_name cannot be honoured, as a server does not know the name of its client:"
            " leave it out; peer_fingerprint names one certificate.",
        ),
        (
            "crypto_method",
            57,
            "ssl.crypto_method cannot be honoured, as an accepting socket has no use for it"
            " (Workerman ignores it): use min_proto_version and max_proto_version.",
        ),
        (
            "reneg_limit_callback",
            print,
            "ssl.reneg_limit_callback cannot be honoured, as it would never be called: clients"
            " may not renegotiate: leave it out.",
        ),
    ],
)
def test_an_option_that_cannot_be_honoured_is_refused(
    name: str, value: object, sentence: str
) -> None:
    """Nothing is passed over in silence."""
    assert refusal_of({name: value}) == sentence
