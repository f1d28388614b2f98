"""
What is wrong with the way up to TLS, by what the probes saw. PURE.

Each address is judged by itself; what is wrong in the same way with several becomes one finding.
"""

from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any

from ...findings import Client, Finding, Severity
from ...findings import network as declared
from ..target import Settings, Target
from . import chain_judgement, tls_judgement, url
from .chain_judgement import joined, software_of
from .faults import Fault, merged
from .observations import AddressSeen, LookupSeen, NetworkSeen, Reach, Resolution

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


def judge(target: Target, settings: Settings, seen: NetworkSeen, *, now: float) -> list[Finding]:
    """Tell what keeps clients out, or will, up to TLS."""
    return [
        *url.findings(target),
        *_name(target, settings, seen),
        *_tcp(target, seen),
        *merged(target, ((one, tls_judgement.judge(target, one)) for one in seen.addresses)),
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
        yield from merged(target, ((one, [_unreachable(target, one)]) for one in dead))
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


def _unreachable(target: Target, seen: AddressSeen) -> Fault:
    if seen.reach is not Reach.REFUSED and _is_not_passed(target, seen.address):
        return Fault(declared.CDN_PORT, evidence=seen.evidence)
    if seen.loopback:
        return Fault(
            declared.LISTENS_ON_LOOPBACK,
            fields={"loopback": seen.loopback},
            evidence=f"{seen.address}: {seen.evidence}; {seen.loopback}: open",
        )
    declaration = _REACH[seen.reach]
    fields = {"reason": seen.evidence} if "reason" in declaration.fields else {}
    return Fault(declaration, fields=fields, evidence=seen.evidence)


def _is_not_passed(target: Target, address: str) -> bool:
    return target.port not in _CLOUDFLARE_PORTS[target.is_tls] and any(
        ip_address(address) in one for one in _CLOUDFLARE
    )
