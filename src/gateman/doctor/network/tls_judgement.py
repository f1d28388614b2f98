"""What is wrong with TLS at one address, by what the probes saw. PURE."""

from collections.abc import Iterator
from dataclasses import replace

from ...findings import ALL_CLIENTS, Client, Software
from ...findings import network as declared
from ...findings.handshakes import HTTP2_ONLY
from .. import protocols
from ..target import Target
from . import answers
from .chain_judgement import software_of
from .faults import Fault
from .observations import AddressSeen, AnswerSeen, End, HandshakeSeen, Reach, Tls

# RFC 8446, section 6.
_ALERTS = {
    10: "unexpected_message",
    40: "handshake_failure",
    42: "bad_certificate",
    43: "unsupported_certificate",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    112: "unrecognized_name",
    116: "certificate_required",
    120: "no_application_protocol",
}
_UNEXPECTED_MESSAGE, _PROTOCOL_VERSION, _INTERNAL_ERROR, _UNRECOGNIZED_NAME = 10, 70, 80, 112
_CERTIFICATE_REQUIRED, _NO_APPLICATION_PROTOCOL = 116, 120


def judge(target: Target, seen: AddressSeen) -> Iterator[Fault]:
    if seen.reach is not Reach.OPEN:
        return
    if not target.is_tls:
        yield from _plain(seen)
    elif seen.tls is None:
        return
    elif seen.tls.is_agreed:
        yield from _agreed(seen, seen.tls)
    elif seen.tls.outcome is Tls.NOT_TLS:
        # Old servers answer what they do not understand without a status line.
        is_http = seen.plain is not None and answers.is_http(seen.plain.data)
        yield _not_tls(seen.plain.data if seen.plain and is_http else seen.tls.answer)
    elif seen.tls.outcome in {Tls.ALERT, Tls.FAILED}:
        yield _refused(seen, seen.tls)
    else:
        yield _silent(seen, seen.tls)


def _plain(seen: AddressSeen) -> Iterator[Fault]:
    plain = seen.plain or AnswerSeen()
    if answers.expects_tls(plain.data) or (seen.tls is not None and seen.tls.is_agreed):
        yield Fault(
            declared.PLAIN_ON_TLS_PORT,
            evidence=_said(plain, "plain HTTP"),
            software=answers.software(plain.data),
        )
    elif plain.data and not answers.is_http(plain.data):
        yield _not_tls(plain.data)
    elif isinstance(seen.after_proxy_header, AnswerSeen) and answers.is_http(
        seen.after_proxy_header.data
    ):
        yield _proxy_header(answers.software(seen.after_proxy_header.data))


def _not_tls(data: bytes) -> Fault:
    evidence = f"the server says {answers.shown(data)!r}"
    if answers.is_http(data):
        return Fault(declared.TLS_ON_PLAIN_PORT, software=answers.software(data), evidence=evidence)
    if protocols.is_http2(data):
        return Fault(HTTP2_ONLY, evidence=evidence)
    return Fault(
        declared.OTHER_PROTOCOL,
        fields={"protocol": protocols.protocol(data) or "an unknown protocol"},
        evidence=evidence,
    )


def _proxy_header(software: Software | None = None) -> Fault:
    return Fault(
        declared.PROXY_HEADER_EXPECTED,
        software=software,
        evidence="closed without a header, answered after PROXY UNKNOWN",
    )


def _agreed(seen: AddressSeen, tls: HandshakeSeen) -> Iterator[Fault]:
    software = software_of(seen)
    if tls.asks_client:
        is_refused = seen.inside is not None and answers.needs_certificate(seen.inside.data)
        # Where TLS 1.3 ends with a reset that overtakes its alert, TLS 1.2 shows it.
        older = seen.tls_12
        is_refused_12 = older is not None and older.asks_client and not older.is_agreed
        is_required = tls.alert is not None or is_refused or is_refused_12
        yield Fault(
            declared.CLIENT_CERTIFICATE_REQUIRED
            if is_required
            else declared.CLIENT_CERTIFICATE_ASKED,
            software=software,
            evidence=_alert(tls) or _said(seen.inside, "HTTP without a certificate"),
        )
    old, new = seen.tls_12, seen.tls_13
    if old is not None and new is not None and new.is_agreed and _is_refusal(old):
        yield Fault(
            declared.TLS_13_ONLY,
            software=software,
            evidence=f"TLS 1.2 alone: {_outcome(old)}; TLS 1.3 alone: agreed",
        )
    if (seen.inner is not None and seen.inner.is_agreed) or (
        seen.inside is not None and protocols.is_tls(seen.inside.data)
    ):
        yield Fault(
            declared.TLS_TWICE, software=software, evidence=_said(seen.inside, "HTTP inside TLS")
        )


def _is_refusal(tls: HandshakeSeen) -> bool:
    """Return whether a version is refused, and not the client for want of a certificate."""
    refusals = {Tls.ALERT, Tls.FAILED, Tls.CLOSED, Tls.RESET}
    return tls.outcome in refusals and not tls.asks_client


def _refused(seen: AddressSeen, tls: HandshakeSeen) -> Fault:
    """Tell why a handshake is refused by one side."""
    evidence = _outcome(tls)
    if tls.alert == _UNEXPECTED_MESSAGE and seen.plain and answers.is_http(seen.plain.data):
        # As gateman answers a hello on a plain port.
        return replace(_not_tls(seen.plain.data), evidence=evidence)
    if tls.asks_client or tls.alert == _CERTIFICATE_REQUIRED:
        return Fault(declared.CLIENT_CERTIFICATE_REQUIRED, evidence=evidence)
    old = _agreed_on(seen.old)
    if old is not None or tls.alert == _PROTOCOL_VERSION:
        return _old(old, evidence)
    h2 = _agreed_on(seen.with_h2)
    if tls.alert == _NO_APPLICATION_PROTOCOL and (h2 or _agreed_on(seen.without_alpn)):
        protocol = "h2" if h2 is not None and h2.alpn == "h2" else "something else"
        return Fault(declared.ALPN_REFUSED, fields={"protocol": protocol}, evidence=evidence)
    is_unknown = tls.alert in {_UNRECOGNIZED_NAME, _INTERNAL_ERROR}
    if is_unknown or _agreed_on(seen.without_name):
        return Fault(
            declared.SNI_UNKNOWN,
            fields={"alert": _alert(tls) or "none"},
            # Go's servers say so; Caddy is the one among them that is configured by names.
            software=Software.CADDY if tls.alert == _INTERNAL_ERROR else None,
            evidence=evidence,
        )
    return _refused_whatever(seen, tls, evidence)


def _refused_whatever(seen: AddressSeen, tls: HandshakeSeen, evidence: str) -> Fault:
    lenient = _agreed_on(seen.lenient)
    if lenient is not None:
        return _weak(lenient, evidence)
    if tls.outcome is Tls.FAILED:
        return Fault(declared.TLS_FAILED, fields={"reason": _words(tls.reason)}, evidence=evidence)
    return Fault(
        declared.TLS_ALERT,
        fields={"alert": evidence},
        evidence=evidence,
        candidates=(
            declared.TLS_CIPHERS,
            declared.SNI_UNKNOWN,
            declared.CLIENT_CERTIFICATE_REQUIRED,
        ),
    )


def _old(old: HandshakeSeen | None, evidence: str) -> Fault:
    version = "1.1" if old is None else old.version.removeprefix("TLSv")
    # OpenSSL calls TLS 1.0 "TLSv1".
    version = "1.0" if version == "1" else version
    return Fault(declared.TLS_OLD, fields={"version": version}, evidence=evidence)


def _weak(lenient: HandshakeSeen, evidence: str) -> Fault:
    cipher = lenient.cipher
    # Browsers have no finite-field Diffie-Hellman; programs do.
    is_dhe = cipher.startswith("DHE-")
    phones = {Client.BROWSERS, Client.ANDROID, Client.IOS, Client.WECHAT}
    return Fault(
        declared.TLS_CIPHERS,
        fields={"detail": cipher},
        fails_for=frozenset(phones) if is_dhe else ALL_CLIENTS,
        evidence=f"{evidence}; with all ciphers: {cipher}",
    )


def _silent(seen: AddressSeen, tls: HandshakeSeen) -> Fault:
    """Tell why a server answers a hello with nothing."""
    plain = seen.plain or AnswerSeen()
    evidence = f"TLS: {_outcome(tls)}; {_said(plain, 'plain HTTP')}"
    if plain.data and not tls.received and not answers.expects_tls(plain.data):
        return replace(_not_tls(plain.data), evidence=evidence)
    after = seen.after_proxy_header
    if isinstance(after, HandshakeSeen) and after.is_agreed:
        return _proxy_header()
    if _agreed_on(seen.without_name):
        return Fault(declared.SNI_CUT, evidence=evidence)
    old = _agreed_on(seen.old)
    if old is not None:
        return _old(old, evidence)
    return _stopped(tls, evidence)


def _stopped(tls: HandshakeSeen, evidence: str) -> Fault:
    """Tell how a handshake ends that nothing explains."""
    if tls.outcome is not Tls.TIMED_OUT:
        how = "resets" if tls.outcome is Tls.RESET else "closes"
        return Fault(declared.TLS_CLOSED, fields={"how": how}, evidence=evidence)
    if not tls.received:
        return Fault(declared.SERVER_SILENT, evidence=evidence)
    return Fault(declared.TLS_STALLED, evidence=f"{tls.received} bytes of TLS came, and no more")


def _agreed_on(tls: HandshakeSeen | None) -> HandshakeSeen | None:
    return tls if tls is not None and tls.is_agreed else None


def _words(reason: str) -> str:
    return reason.lower().replace("_", " ")


def _alert(tls: HandshakeSeen) -> str:
    return "" if tls.alert is None else _ALERTS.get(tls.alert, f"number {tls.alert}")


def _outcome(tls: HandshakeSeen) -> str:
    match tls.outcome:
        case Tls.ALERT:
            return f"alert {_alert(tls)}"
        case Tls.FAILED:
            return _words(tls.reason)
        case _:
            return str(tls.outcome.value)


def _said(answer: AnswerSeen | None, request: str) -> str:
    if answer is None:
        return f"{request}: not sent"
    if answer.data:
        return f"{request}: {answers.shown(answer.data)!r}"
    return f"{request}: {'no answer' if answer.end is End.OPEN else answer.end.value}"
