"""
What is wrong with the way up to TLS, by what the probes saw. PURE.

Each address is judged by itself; what is wrong in the same way with several becomes one finding.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network
from typing import Any

from ...findings import ALL_CLIENTS, Client, Declaration, Finding, Severity, Software
from ...findings import network as declared
from ...findings.handshakes import HTTP2_ONLY
from .. import protocols
from ..target import Settings, Target, bracketed, default_port
from . import answers, chain_judgement, url
from .chain_judgement import joined, software_of
from .observations import (
    AddressSeen,
    AnswerSeen,
    End,
    HandshakeSeen,
    LookupSeen,
    NetworkSeen,
    Reach,
    Resolution,
    Tls,
)

# https://www.cloudflare.com/ips/
_CLOUDFLARE = tuple(
    ip_network(one)
    for one in (
        *("173.245.48.0/20", "103.21.244.0/22", "103.22.200.0/22", "103.31.4.0/22"),
        *("141.101.64.0/18", "108.162.192.0/18", "190.93.240.0/20", "188.114.96.0/20"),
        *("197.234.240.0/22", "198.41.128.0/17", "162.158.0.0/15", "104.16.0.0/13"),
        *("104.24.0.0/14", "172.64.0.0/13", "131.0.72.0/22", "2400:cb00::/32", "2606:4700::/32"),
        *("2803:f800::/32", "2405:b500::/32", "2405:8100::/32", "2a06:98c0::/29", "2c0f:f248::/32"),
    )
)
_CLOUDFLARE_PORTS = {
    True: frozenset({443, 2053, 2083, 2087, 2096, 8443}),
    False: frozenset({80, 8080, 8880, 2052, 2082, 2086, 2095}),
}

# Addresses for documentation (RFC 5737, RFC 3849), which stand for public ones.
_DOCUMENTATION = tuple(
    ip_network(one)
    for one in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
)
_SHARED = ip_network("100.64.0.0/10")  # RFC 6598: behind a provider's NAT

_REACH = {
    Reach.REFUSED: declared.TCP_REFUSED,
    Reach.DROPPED: declared.TCP_DROPPED,
    Reach.REJECTED: declared.TCP_REJECTED,
    Reach.FAILED: declared.TCP_FAILED,
}
_REFUSED_BY = frozenset({Client.NODE})
"""Who takes the first address only, even if it refuses at once: Node before 20."""

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


@dataclass(frozen=True, slots=True)
class _Fault:
    """What is wrong with one address; those that differ in nothing else become one finding."""

    declaration: Declaration
    evidence: str
    fields: dict[str, Any] = field(default_factory=dict)
    software: Software | None = None
    fails_for: frozenset[Client] | None = None
    candidates: tuple[Declaration, ...] = ()


def judge(target: Target, settings: Settings, seen: NetworkSeen, *, now: float) -> list[Finding]:
    """Tell what keeps clients out, or will, up to TLS."""
    return [
        *url.findings(target),
        *_name(target, settings, seen),
        *_tcp(target, seen),
        *_merged(target, ((one, _tls(target, one)) for one in seen.addresses)),
        *chain_judgement.judge(target, seen, now),
    ]


# The name.


def _name(target: Target, settings: Settings, seen: NetworkSeen) -> Iterator[Finding]:
    if not seen.lookups or settings.address is not None:
        return
    found = {one.resolution for one in seen.lookups}
    evidence = "; ".join(
        f"{one.family}: {one.evidence or one.resolution.value}" for one in seen.lookups
    )
    if Resolution.FOUND not in found:
        yield _no_address(target, found, evidence)
        return
    if url.is_private_name(target.host) or any(one.is_local for one in seen.lookups):
        # What others see of the name is not known here.
        return
    for lookup in seen.lookups:
        if lookup.resolution in {Resolution.TIMED_OUT, Resolution.FAILED}:
            yield declared.NAME_QUERY_UNANSWERED.found(
                host=target.host, family=lookup.family, evidence=evidence
            )
    yield from _private_addresses(target, seen)
    by_family = {one.family: one for one in seen.lookups}
    if _has_none(by_family.get("A")) and by_family["AAAA"].resolution is Resolution.FOUND:
        is_unreachable = all(one.reach is Reach.NO_ROUTE for one in seen.addresses)
        yield declared.IPV6_ONLY.found(
            host=target.host,
            evidence=evidence,
            severity=Severity.CAUSE if is_unreachable else None,
        )


def _no_address(target: Target, found: set[Resolution], evidence: str) -> Finding:
    if found & {Resolution.TIMED_OUT, Resolution.FAILED}:
        return declared.NAME_TIMEOUT.found(
            host=target.host,
            evidence=evidence,
            candidates=(declared.NAME_UNKNOWN, declared.NAME_WITHOUT_ADDRESS),
        )
    if Resolution.NO_ADDRESS in found:
        return declared.NAME_WITHOUT_ADDRESS.found(host=target.host, evidence=evidence)
    return declared.NAME_UNKNOWN.found(host=target.host, evidence=evidence)


def _has_none(lookup: LookupSeen | None) -> bool:
    return lookup is not None and lookup.resolution in {
        Resolution.NO_ADDRESS,
        Resolution.NO_SUCH_NAME,
    }


def _private_addresses(target: Target, seen: NetworkSeen) -> Iterator[Finding]:
    private = [one for one in seen.addresses if _kind(one.address)]
    if not private:
        return
    kind = _kind(private[0].address)
    is_open = any(one.reach is Reach.OPEN for one in private)
    if len(private) == len(seen.addresses) and not is_open:
        severity = Severity.CAUSE
    elif is_open and not kind.startswith("which is each"):
        severity = Severity.NOTE
    else:
        severity = Severity.WARNING
    addresses = joined(one.address for one in private)
    yield declared.ADDRESS_PRIVATE.found(
        host=target.host, addresses=addresses, kind=kind, severity=severity
    )


def _kind(text: str) -> str:
    """Say what an address is that the public DNS should not have; empty for another."""
    address = ip_address(text)
    if address.is_loopback or address.is_unspecified:
        return "which is each client's own machine"
    if any(address in one for one in _DOCUMENTATION):
        return ""
    if address.is_private or address.is_link_local or address in _SHARED:
        return "a private address that only its own network reaches"
    return ""


# TCP.


def _tcp(target: Target, seen: NetworkSeen) -> Iterator[Finding]:
    alive = [one for one in seen.addresses if one.reach is Reach.OPEN]
    dead = [one for one in seen.addresses if one.reach in _REACH]
    if not alive:
        yield from _merged(target, ((one, [_unreachable(target, one)]) for one in dead))
        is_ipv6_only = any(_has_none(one) for one in seen.lookups if one.family == "A")
        if seen.addresses and not dead and not is_ipv6_only:
            addresses = joined(one.address for one in seen.addresses)
            yield declared.NO_ROUTE.found(addresses=addresses, evidence=seen.addresses[0].evidence)
        return
    if target.host == "localhost" or target.host.endswith(".localhost"):
        # Both loopback addresses have the name; that a service listens on one is usual.
        return
    software = next((one for one in map(software_of, alive) if one is not None), None)
    has_ipv4 = any(not one.is_ipv6 for one in alive)
    for one in dead:
        is_ipv6_dead = one.is_ipv6 and has_ipv4
        fields: dict[str, Any] = {"host": target.host, "port": target.port, "reason": _reason(one)}
        if is_ipv6_dead:
            is_quick = one.reach is Reach.REFUSED
            yield declared.IPV6_DEAD.found(
                addresses=one.address,
                software=software,
                evidence=one.evidence,
                fails_for=_REFUSED_BY if is_quick else None,
                **fields,
            )
        else:
            others = joined(other.address for other in alive)
            yield declared.ADDRESS_DEAD.found(
                addresses=one.address, alive=others, evidence=one.evidence, **fields
            )


def _reason(seen: AddressSeen) -> str:
    return seen.evidence if seen.reach is Reach.FAILED else seen.reach.value


def _unreachable(target: Target, seen: AddressSeen) -> _Fault:
    if seen.reach is not Reach.REFUSED and _is_not_passed(target, seen.address):
        return _Fault(declared.CDN_PORT, evidence=seen.evidence)
    if seen.loopback:
        return _Fault(
            declared.LISTENS_ON_LOOPBACK,
            fields={"loopback": seen.loopback},
            evidence=f"{seen.address}: {seen.evidence}; {seen.loopback}: open",
        )
    declaration = _REACH[seen.reach]
    fields = {"reason": seen.evidence} if "reason" in declaration.fields else {}
    return _Fault(declaration, fields=fields, evidence=seen.evidence)


def _is_not_passed(target: Target, address: str) -> bool:
    return target.port not in _CLOUDFLARE_PORTS[target.is_tls] and any(
        ip_address(address) in one for one in _CLOUDFLARE
    )


# TLS.


def _tls(target: Target, seen: AddressSeen) -> Iterator[_Fault]:
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


def _plain(seen: AddressSeen) -> Iterator[_Fault]:
    plain = seen.plain or AnswerSeen()
    if answers.expects_tls(plain.data) or (seen.tls is not None and seen.tls.is_agreed):
        yield _Fault(
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


def _not_tls(data: bytes) -> _Fault:
    evidence = f"the server says {answers.shown(data)!r}"
    if answers.is_http(data):
        return _Fault(
            declared.TLS_ON_PLAIN_PORT, software=answers.software(data), evidence=evidence
        )
    if protocols.is_http2(data):
        return _Fault(HTTP2_ONLY, evidence=evidence)
    return _Fault(
        declared.OTHER_PROTOCOL,
        fields={"protocol": protocols.protocol(data) or "an unknown protocol"},
        evidence=evidence,
    )


def _proxy_header(software: Software | None = None) -> _Fault:
    return _Fault(
        declared.PROXY_HEADER_EXPECTED,
        software=software,
        evidence="closed without a header, answered after PROXY UNKNOWN",
    )


def _agreed(seen: AddressSeen, tls: HandshakeSeen) -> Iterator[_Fault]:
    software = software_of(seen)
    if tls.asks_client:
        is_refused = seen.inside is not None and answers.needs_certificate(seen.inside.data)
        # Where TLS 1.3 ends with a reset that overtakes its alert, TLS 1.2 shows it.
        older = seen.tls_12
        is_refused_12 = older is not None and older.asks_client and not older.is_agreed
        is_required = tls.alert is not None or is_refused or is_refused_12
        yield _Fault(
            declared.CLIENT_CERTIFICATE_REQUIRED
            if is_required
            else declared.CLIENT_CERTIFICATE_ASKED,
            software=software,
            evidence=_alert(tls) or _said(seen.inside, "HTTP without a certificate"),
        )
    old, new = seen.tls_12, seen.tls_13
    if old is not None and new is not None and new.is_agreed and _is_refusal(old):
        yield _Fault(
            declared.TLS_13_ONLY,
            software=software,
            evidence=f"TLS 1.2 alone: {_outcome(old)}; TLS 1.3 alone: agreed",
        )
    if (seen.inner is not None and seen.inner.is_agreed) or (
        seen.inside is not None and protocols.is_tls(seen.inside.data)
    ):
        yield _Fault(
            declared.TLS_TWICE, software=software, evidence=_said(seen.inside, "HTTP inside TLS")
        )


def _is_refusal(tls: HandshakeSeen) -> bool:
    """Return whether a version is refused, and not the client for want of a certificate."""
    refusals = {Tls.ALERT, Tls.FAILED, Tls.CLOSED, Tls.RESET}
    return tls.outcome in refusals and not tls.asks_client


def _refused(seen: AddressSeen, tls: HandshakeSeen) -> _Fault:
    """Tell why a handshake is refused by one side."""
    evidence = _outcome(tls)
    if tls.alert == _UNEXPECTED_MESSAGE and seen.plain and answers.is_http(seen.plain.data):
        # As gateman answers a hello on a plain port.
        return replace(_not_tls(seen.plain.data), evidence=evidence)
    if tls.asks_client or tls.alert == _CERTIFICATE_REQUIRED:
        return _Fault(declared.CLIENT_CERTIFICATE_REQUIRED, evidence=evidence)
    old = _agreed_on(seen.old)
    if old is not None or tls.alert == _PROTOCOL_VERSION:
        return _old(old, evidence)
    h2 = _agreed_on(seen.with_h2)
    if tls.alert == _NO_APPLICATION_PROTOCOL and (h2 or _agreed_on(seen.without_alpn)):
        protocol = "h2" if h2 is not None and h2.alpn == "h2" else "something else"
        return _Fault(declared.ALPN_REFUSED, fields={"protocol": protocol}, evidence=evidence)
    is_unknown = tls.alert in {_UNRECOGNIZED_NAME, _INTERNAL_ERROR}
    if is_unknown or _agreed_on(seen.without_name):
        return _Fault(
            declared.SNI_UNKNOWN,
            fields={"alert": _alert(tls) or "none"},
            # Go's servers say so; Caddy is the one among them that is configured by names.
            software=Software.CADDY if tls.alert == _INTERNAL_ERROR else None,
            evidence=evidence,
        )
    return _refused_whatever(seen, tls, evidence)


def _refused_whatever(seen: AddressSeen, tls: HandshakeSeen, evidence: str) -> _Fault:
    lenient = _agreed_on(seen.lenient)
    if lenient is not None:
        return _weak(lenient, evidence)
    if tls.outcome is Tls.FAILED:
        return _Fault(declared.TLS_FAILED, fields={"reason": _words(tls.reason)}, evidence=evidence)
    return _Fault(
        declared.TLS_ALERT,
        fields={"alert": evidence},
        evidence=evidence,
        candidates=(
            declared.TLS_CIPHERS,
            declared.SNI_UNKNOWN,
            declared.CLIENT_CERTIFICATE_REQUIRED,
        ),
    )


def _old(old: HandshakeSeen | None, evidence: str) -> _Fault:
    version = "1.1" if old is None else old.version.removeprefix("TLSv")
    # OpenSSL calls TLS 1.0 "TLSv1".
    version = "1.0" if version == "1" else version
    return _Fault(declared.TLS_OLD, fields={"version": version}, evidence=evidence)


def _weak(lenient: HandshakeSeen, evidence: str) -> _Fault:
    cipher = lenient.cipher
    # Browsers have no finite-field Diffie-Hellman; programs do.
    is_dhe = cipher.startswith("DHE-")
    phones = {Client.BROWSERS, Client.ANDROID, Client.IOS, Client.WECHAT}
    return _Fault(
        declared.TLS_CIPHERS,
        fields={"detail": cipher},
        fails_for=frozenset(phones) if is_dhe else ALL_CLIENTS,
        evidence=f"{evidence}; with all ciphers: {cipher}",
    )


def _silent(seen: AddressSeen, tls: HandshakeSeen) -> _Fault:
    """Tell why a server answers a hello with nothing."""
    plain = seen.plain or AnswerSeen()
    evidence = f"TLS: {_outcome(tls)}; {_said(plain, 'plain HTTP')}"
    if plain.data and not tls.received and not answers.expects_tls(plain.data):
        return replace(_not_tls(plain.data), evidence=evidence)
    after = seen.after_proxy_header
    if isinstance(after, HandshakeSeen) and after.is_agreed:
        return _proxy_header()
    if _agreed_on(seen.without_name):
        return _Fault(declared.SNI_CUT, evidence=evidence)
    old = _agreed_on(seen.old)
    if old is not None:
        return _old(old, evidence)
    return _stopped(tls, evidence)


def _stopped(tls: HandshakeSeen, evidence: str) -> _Fault:
    """Tell how a handshake ends that nothing explains."""
    if tls.outcome is not Tls.TIMED_OUT:
        how = "resets" if tls.outcome is Tls.RESET else "closes"
        return _Fault(declared.TLS_CLOSED, fields={"how": how}, evidence=evidence)
    if not tls.received:
        return _Fault(declared.SERVER_SILENT, evidence=evidence)
    return _Fault(declared.TLS_STALLED, evidence=f"{tls.received} bytes of TLS came, and no more")


def _agreed_on(tls: HandshakeSeen | None) -> HandshakeSeen | None:
    return tls if tls is not None and tls.is_agreed else None


# Words.


def _merged(
    target: Target, faults: Iterable[tuple[AddressSeen, Iterable[_Fault]]]
) -> Iterator[Finding]:
    """Make one finding of those that differ in nothing but the address."""
    groups: dict[tuple[object, ...], tuple[_Fault, list[str]]] = {}
    for seen, of_address in faults:
        for fault in of_address:
            fields = tuple(fault.fields.items())
            key = (fault.declaration.code, fields, fault.software, fault.fails_for)
            groups.setdefault(key, (fault, []))[1].append(seen.address)
    for fault, addresses in groups.values():
        yield fault.declaration.found(
            software=fault.software,
            fails_for=fault.fails_for,
            evidence=fault.evidence,
            candidates=fault.candidates,
            addresses=joined(addresses),
            address=f"{bracketed(addresses[0])}:{target.port}",
            authority=_authority(target),
            host=target.host,
            port=target.port,
            **fault.fields,
        )


def _authority(target: Target) -> str:
    """Write host, port and path for a URL of the other scheme, where the default port differs."""
    port = "" if target.port == default_port(not target.is_tls) else f":{target.port}"
    return f"{bracketed(target.host)}{port}{target.bare_path}"


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
