"""What went wrong when a TLS handshake failed, and what an operator does about it."""

import ssl

_UNKNOWN_CERTIFICATE = (
    "the client does not trust the certificate: serve the complete chain, and connect by a name"
    " that the certificate is for"
)
_OLD_VERSION = "the client speaks only versions of TLS below 1.2"

# By what OpenSSL calls it.
_ADVICE = {
    "TLSV1_ALERT_UNKNOWN_CA": _UNKNOWN_CERTIFICATE,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": _UNKNOWN_CERTIFICATE,
    "SSLV3_ALERT_BAD_CERTIFICATE": "the client does not accept the certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the client says that the certificate has expired",
    "UNSUPPORTED_PROTOCOL": _OLD_VERSION,
    "UNKNOWN_PROTOCOL": _OLD_VERSION,
    "NO_SHARED_CIPHER": "the client has no cipher in common with ssl.ciphers",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the client showed no certificate, and"
    " ssl.verify_peer asks for one",
    "CERTIFICATE_VERIFY_FAILED": "the client's certificate is not from ssl.cafile",
}


def explain(error: OSError) -> tuple[str, str]:
    """
    Say why a TLS handshake failed.

    Args:
        error: What the engine raised.

    Returns:
        The cause, for counters, and a line for the log; empty for what nobody can change.
        What has no advice shares one cause: OpenSSL knows hundreds of reasons, and a peer
        may bring about one after the other.
    """
    if isinstance(error, ConnectionAbortedError):
        return "handshake_timeout", ""
    if not isinstance(error, ssl.SSLError):
        # Gone: port scanners, impatient browsers.
        return "left_early", ""
    reason = error.reason or "unknown"
    advice = _ADVICE.get(reason)
    if advice is None:
        return "tls_failed", f"a TLS handshake failed: {reason.lower().replace('_', ' ')}"
    return f"tls_{reason.lower()}", f"a TLS handshake failed: {advice}"
