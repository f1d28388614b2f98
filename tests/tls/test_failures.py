"""Why a TLS handshake failed: causes and lines by equality."""

import ssl

import pytest

from gateman.findings import Finding, Severity, Stage
from gateman.tls.failures import Offer, explain, is_about_trust, left_after_certificate

DOUBT = Finding(
    code="CERTIFICATE_EXPIRED",
    stage=Stage.CERTIFICATE,
    severity=Severity.CAUSE,
    problem="it has expired",
    fix="renew it",
)
OTHER_DOUBT = Finding(
    code="CERTIFICATE_NAME",
    stage=Stage.CERTIFICATE,
    severity=Severity.WARNING,
    problem="it is for a",
    fix="ask for a",
)


def failure(reason: str | None) -> ssl.SSLError:
    """An error as the engine raises it."""
    error = ssl.SSLError()
    error.reason = reason  # type: ignore[assignment] # what OpenSSL has no word for is None
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionAbortedError("SSL handshake is taking longer"), ("handshake_timeout", "")),
        (ConnectionResetError(), ("left_early", "")),
        (failure("BAD_RECORD_MAC"), ("tls_failed", "a TLS handshake failed: bad record mac")),
        (failure(None), ("tls_failed", "a TLS handshake failed: unknown")),
        (failure(""), ("tls_failed", "a TLS handshake failed: unknown")),
    ],
)
def test_failure_has_a_cause_and_a_line(error: OSError, expected: tuple[str, str]) -> None:
    """What an operator can change has a cause of its own; everything else shares one."""
    assert explain(error, Offer(), None) == expected


def advice(reason: str, offer: Offer | None = None, doubt: Finding | None = None) -> str:
    """Explain a failure that has a cause of its own."""
    cause, line = explain(failure(reason), offer or Offer(), doubt)
    assert cause == f"tls_{reason.lower()}"
    return line.removeprefix("a TLS handshake failed: ")


@pytest.mark.parametrize(
    ("offer", "expected"),
    [
        (Offer(), "the client speaks only versions of TLS below 1.2"),
        (
            Offer(oldest="TLSv1.3", options={"min_proto_version"}),
            "the client and this server have no version of TLS in common:"
            " ssl.min_proto_version leaves TLSv1.3",
        ),
        (
            Offer(newest="TLSv1.2", options={"max_proto_version"}),
            "the client and this server have no version of TLS in common:"
            " ssl.max_proto_version leaves TLSv1.2",
        ),
        (
            Offer(
                oldest="TLSv1.0",
                newest="TLSv1.1",
                options={"min_proto_version", "max_proto_version"},
            ),
            "the client and this server have no version of TLS in common:"
            " ssl.min_proto_version and ssl.max_proto_version leave TLSv1.0 to TLSv1.1",
        ),
    ],
)
def test_the_versions_that_are_spoken_are_named(offer: Offer, expected: str) -> None:
    """The options that leave them are named only if somebody has set them."""
    for reason in ("UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION"):
        assert advice(reason, offer) == expected


@pytest.mark.parametrize(
    ("offer", "expected"),
    [
        (
            Offer(key="ECDSA secp256k1", options={"ciphers"}),
            "the client cannot use the certificate, whose key is of type ECDSA secp256k1",
        ),
        (
            Offer(options={"ciphers"}),
            "the client has no cipher in common with ssl.ciphers",
        ),
        (
            Offer(options={"ciphers", "ecdh_curve", "local_cert"}),
            "the client has no cipher in common with ssl.ciphers and ssl.ecdh_curve",
        ),
        (
            Offer(),
            "the client has no cipher, or no type of signature, in common with this server",
        ),
    ],
)
def test_ciphers_are_blamed_only_if_they_were_set(offer: Offer, expected: str) -> None:
    for reason in ("NO_SHARED_CIPHER", "NO_SUITABLE_SIGNATURE_ALGORITHM"):
        assert advice(reason, offer) == expected


def test_a_curve_is_blamed_only_if_it_was_set() -> None:
    start = "the client has no key exchange in common with this server"
    assert advice("NO_SUITABLE_KEY_SHARE") == start
    assert advice("NO_SUITABLE_KEY_SHARE", Offer(options={"ecdh_curve"})) == (
        f"{start}, which has only the curve of ssl.ecdh_curve"
    )


@pytest.mark.parametrize(
    ("reason", "doubt", "expected"),
    [
        (
            "TLSV1_ALERT_UNKNOWN_CA",
            DOUBT,
            "the client does not trust the authority of the certificate: it has expired: renew it"
            " (CERTIFICATE_EXPIRED)",
        ),
        (
            "TLSV1_ALERT_UNKNOWN_CA",
            None,
            "the client does not trust the authority of the certificate: its list of authorities is"
            " too old, or something between it and this server shows another certificate",
        ),
        (
            "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
            OTHER_DOUBT,
            "the client does not accept the certificate: it is for a: ask for a (CERTIFICATE_NAME)",
        ),
        (
            "SSLV3_ALERT_BAD_CERTIFICATE",
            None,
            "the client does not accept the certificate: connect by a name that it is for, and"
            " look at the client's clock",
        ),
        (
            "SSLV3_ALERT_CERTIFICATE_EXPIRED",
            DOUBT,
            "the client says that the certificate has expired: it has expired: renew it"
            " (CERTIFICATE_EXPIRED)",
        ),
        (
            "SSLV3_ALERT_CERTIFICATE_EXPIRED",
            OTHER_DOUBT,
            "the client says that the certificate has expired: its clock is wrong, or it does not"
            " know the root",
        ),
    ],
)
def test_what_is_known_to_be_wrong_is_the_advice(
    reason: str, doubt: Finding | None, expected: str
) -> None:
    """A finding, if one explains what the client says; else what is left."""
    assert advice(reason, doubt=doubt) == expected


def test_a_client_says_why_its_certificate_is_refused() -> None:
    """OpenSSL's own words, if it has any: expired is another mistake than unknown."""
    error = failure("CERTIFICATE_VERIFY_FAILED")
    rest = "it has to be valid, and from an authority in ssl.cafile or ssl.capath"
    assert explain(error, Offer(), None)[1] == (
        f"a TLS handshake failed: the client's certificate is not accepted: {rest}"
    )
    error.verify_message = "certificate has expired"  # type: ignore[attr-defined]
    assert explain(error, Offer(), None)[1] == (
        "a TLS handshake failed: the client's certificate is not accepted (certificate has"
        f" expired): {rest}"
    )


def test_a_silent_departure_is_a_line_only_with_a_reason() -> None:
    """Scanners and impatient browsers leave as well."""
    assert left_after_certificate(None) == ("left_early", "")
    assert left_after_certificate(DOUBT) == explain(ConnectionResetError(), Offer(), DOUBT)
    assert left_after_certificate(DOUBT) == (
        "left_after_certificate",
        "a client left when it was shown the certificate: it has expired: renew it"
        " (CERTIFICATE_EXPIRED)",
    )


def test_only_one_alert_is_about_trust_alone() -> None:
    assert is_about_trust(failure("TLSV1_ALERT_UNKNOWN_CA"))
    assert not is_about_trust(failure("SSLV3_ALERT_CERTIFICATE_UNKNOWN"))
    assert not is_about_trust(ConnectionResetError())
