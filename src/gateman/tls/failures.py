"""Explains to the operator why a TLS handshake failed."""

import ssl
from collections.abc import Set as AbstractSet

from msgspec import Struct

from ..findings import Finding

# Alerts about the certificate, by OpenSSL's names.
_ALERTS = {
    "TLSV1_ALERT_UNKNOWN_CA": "does not trust the authority of the certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "does not accept the certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "does not accept the certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "does not accept this type of certificate",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "says that the certificate was revoked",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "says that the certificate has expired",
}
# The likely cause when nothing is known to be wrong with the certificate.
_CAUSES = {
    "TLSV1_ALERT_UNKNOWN_CA": "its list of authorities is too old, or something between it and this"
    " server shows another certificate",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "get a new one",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "its clock is wrong, or it does not know the root",
}
_ABOUT_DATES = frozenset({"CERTIFICATE_EXPIRED", "CERTIFICATE_NOT_VALID_YET"})

_VERSIONS = frozenset({"UNSUPPORTED_PROTOCOL", "UNKNOWN_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION"})
_SIGNATURES = frozenset(
    {"NO_SHARED_CIPHER", "NO_SUITABLE_SIGNATURE_ALGORITHM", "NO_SHARED_SIGNATURE_ALGORITHMS"}
)
_OTHERS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the client showed no certificate, and"
    " ssl.verify_peer asks for one",
}
_GROUPS = frozenset({"NO_SUITABLE_KEY_SHARE", "NO_SUITABLE_GROUPS", "NO_SHARED_GROUP"})


class Offer(Struct, frozen=True, kw_only=True):
    """What a server offers to its clients."""

    oldest: str = "TLSv1.2"
    newest: str = "TLSv1.3"
    # The names of the ``ssl`` options that the user has set.
    options: AbstractSet[str] = frozenset()
    # The type of the certificate's key, if it is one that browsers refuse; else empty.
    key: str = ""


def is_about_trust(error: OSError) -> bool:
    """Return whether the client's alert says that it does not trust the authority."""
    return isinstance(error, ssl.SSLError) and error.reason == "TLSV1_ALERT_UNKNOWN_CA"


def explain(error: OSError, offer: Offer, doubt: Finding | None) -> tuple[str, str]:
    if isinstance(error, ConnectionAbortedError):
        return "handshake_timeout", ""
    if not isinstance(error, ssl.SSLError):
        return left_after_certificate(doubt)
    reason = error.reason or "unknown"
    advice = _advice(error, reason, offer, doubt)
    if not advice:
        return "tls_failed", f"a TLS handshake failed: {reason.lower().replace('_', ' ')}"
    return f"tls_{reason.lower()}", f"a TLS handshake failed: {advice}"


def left_after_certificate(doubt: Finding | None) -> tuple[str, str]:
    """Explain a client that disconnects when it is shown the certificate; most send no alert."""
    if doubt is None:
        return "left_early", ""
    return (
        "left_after_certificate",
        f"a client left when it was shown the certificate: {doubt.line}",
    )


def _advice(error: ssl.SSLError, reason: str, offer: Offer, doubt: Finding | None) -> str:
    if reason in _ALERTS:
        return f"the client {_ALERTS[reason]}: {_why(reason, doubt)}"
    if reason in _VERSIONS | _SIGNATURES:
        if offer.key:
            # OpenSSL has no TLS 1.3 for some of them.
            return f"the client cannot use the certificate, whose key is of type {offer.key}"
        return _versions(offer) if reason in _VERSIONS else _signatures(offer)
    if reason in _GROUPS:
        is_ours = "ecdh_curve" in offer.options
        return "the client has no key exchange in common with " + (
            "this server, which has only the curve of ssl.ecdh_curve" if is_ours else "this server"
        )
    if reason == "CERTIFICATE_VERIFY_FAILED":
        told = getattr(error, "verify_message", "")
        return (
            f"the client's certificate is not accepted{told and f' ({told})'}: it has to be valid,"
            " and from an authority in ssl.cafile or ssl.capath"
        )
    return _OTHERS.get(reason, "")


def _signatures(offer: Offer) -> str:
    set_by_user = [f"ssl.{name}" for name in ("ciphers", "ecdh_curve") if name in offer.options]
    if set_by_user:
        return f"the client has no cipher in common with {' and '.join(set_by_user)}"
    return "the client has no cipher, or no type of signature, in common with this server"


def _why(reason: str, doubt: Finding | None) -> str:
    if reason == "SSLV3_ALERT_CERTIFICATE_EXPIRED":
        doubt = doubt if doubt is not None and doubt.code in _ABOUT_DATES else None
    if doubt is not None:
        return doubt.line
    return _CAUSES.get(reason, "connect by a name that it is for, and look at the client's clock")


def _versions(offer: Offer) -> str:
    limits = sorted({"min_proto_version", "max_proto_version"} & offer.options)
    if not limits:
        return "the client speaks only versions of TLS below 1.2"
    versions = offer.oldest
    if offer.newest != offer.oldest:
        versions += f" to {offer.newest}"
    named = " and ".join(f"ssl.{name}" for name in reversed(limits))
    return (
        f"the client and this server have no version of TLS in common: {named}"
        f" {'leaves' if len(limits) == 1 else 'leave'} {versions}"
    )
