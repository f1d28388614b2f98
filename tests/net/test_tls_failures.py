"""Why a TLS handshake failed: causes and lines by equality."""

import ssl

import pytest

from gateman.net.tls_failures import explain


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
        (
            failure("UNSUPPORTED_PROTOCOL"),
            (
                "tls_unsupported_protocol",
                "a TLS handshake failed: the client speaks only versions of TLS below 1.2",
            ),
        ),
        (
            failure("TLSV1_ALERT_UNKNOWN_CA"),
            (
                "tls_tlsv1_alert_unknown_ca",
                "a TLS handshake failed: the client does not trust the certificate: serve the"
                " complete chain, and connect by a name that the certificate is for",
            ),
        ),
        (failure("BAD_RECORD_MAC"), ("tls_failed", "a TLS handshake failed: bad record mac")),
        (failure(None), ("tls_failed", "a TLS handshake failed: unknown")),
        (failure(""), ("tls_failed", "a TLS handshake failed: unknown")),
    ],
)
def test_failure_has_a_cause_and_a_line(error: OSError, expected: tuple[str, str]) -> None:
    """What an operator can change has a cause of its own; everything else shares one."""
    assert explain(error) == expected
