"""What is wrong with the certificates that each address shows. PURE."""

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from ...findings import Finding, Severity, Software
from ...findings import certificates as about_certificates
from ...tls.certificate_chain import CertificateFacts
from ...tls.certificate_findings import is_about_dates, minute, wrong_name
from ...tls.certificate_findings import judge as judge_chain
from ...tls.domain_names import is_named
from ..explanation import listed
from ..target import Target
from . import answers, url
from .observations import AddressSeen, ChainSeen, NetworkSeen

_MAX_CLOCK_DIFFERENCE = 300.0  # seconds


def judge(target: Target, seen: NetworkSeen, now: float) -> Iterator[Finding]:
    if not target.is_tls:
        return
    shown: dict[str, list[AddressSeen]] = {}
    for one in seen.addresses:
        if one.chain is not None:
            shown.setdefault(one.chain.fingerprint, []).append(one)
    findings = [_of_chain(target, one, now, is_only=len(shown) == 1) for one in shown.values()]
    are_faulty = [any(one.severity is Severity.CAUSE for one in found) for found in findings]
    for (_, addresses), found in zip(shown.items(), findings, strict=True):
        evidence = _facts(addresses)
        if any(are_faulty) and not all(are_faulty):
            evidence += "; the other addresses show another one, which is well"
        yield from (
            replace(one, evidence=f"{one.evidence}; {evidence}" if one.evidence else evidence)
            for one in found
        )


def _of_chain(
    target: Target, addresses: list[AddressSeen], now: float, *, is_only: bool
) -> list[Finding]:
    """Judge the certificates that some addresses show."""
    first = addresses[0]
    chain = first.chain
    assert chain is not None
    name = "the certificate"
    if not is_only:
        name += f" that {joined(one.address for one in addresses)} shows"
    software = next((one for one in map(software_of, addresses) if one is not None), None)
    found = judge_chain(chain.chain, now=now, name=name, trust=chain.trust, software=software)
    clock = _clock(addresses, chain, now, name)
    if clock is not None:
        if clock.severity is Severity.CAUSE:
            found = [one for one in found if not is_about_dates(one)]
        found.insert(0, clock)
    found += _wrong_name(target, first, chain, name, software)
    causes = [one for one in found if one.severity is Severity.CAUSE]
    if chain.refusal and not causes:
        found.append(
            about_certificates.CERTIFICATE_REFUSED.found(
                which=name, reason=chain.refusal.removesuffix(".")
            )
        )
    return found


def _facts(addresses: list[AddressSeen]) -> str:
    first = addresses[0].chain
    leaf = first.chain[0] if first is not None else None
    shown_by = joined(one.address for one in addresses)
    if first is None or leaf is None:
        return f"shown by {shown_by}"
    return (
        f"{leaf.subject!r} from {leaf.issuer!r}, {minute(leaf.starts_at)} to"
        f" {minute(leaf.expires_at)}, with {len(first.chain) - 1} more, shown by {shown_by}"
    )


def _wrong_name(
    target: Target, seen: AddressSeen, chain: ChainSeen, name: str, software: Software | None
) -> Iterator[Finding]:
    leaf = chain.chain[0]
    if leaf is None or not leaf.names or _is_for(target.host, leaf):
        return
    asked = repr(target.host)
    parents = [one.removeprefix("*.").lower() for one in leaf.names if one.startswith("*.")]
    if target.host in leaf.names:
        asked += ", as an address that is named as a domain (DNS) counts for none"
    elif is_named(target.host, leaf.names):
        asked += ", as a wildcard right below a top-level domain counts for nothing"
    elif any(target.host.endswith(f".{one}") for one in parents):
        asked += ", as a wildcard stands for one label only"
    elif target.host in parents:
        asked += ", as a wildcard does not stand for the domain itself"
    default = seen.default_chain
    evidence = ""
    if default is not None and default.fingerprint == chain.fingerprint:
        evidence = "the same is shown when no name is asked for, so it is the default one"
    elif default is not None and default.chain[0] and _is_for(target.host, default.chain[0]):
        evidence = "the right one is shown when no name is asked for"
    yield wrong_name(leaf, name, asked, software, evidence)


def _is_for(host: str, leaf: CertificateFacts) -> bool:
    if url.address_of(host) is not None:
        return host in leaf.addresses
    # As OpenSSL and Chrome do: "*.example" is for no name.
    return is_named(host, [one for one in leaf.names if one.count(".") != 1 or one[0] != "*"])


def _clock(addresses: list[AddressSeen], chain: ChainSeen, now: float, name: str) -> Finding | None:
    dates = [answers.date(one.inside.data) for one in addresses if one.inside is not None]
    server = next((one for one in dates if one is not None), None)
    if server is None or abs(server - now) <= _MAX_CLOCK_DIFFERENCE:
        return None
    is_decisive = not _is_valid(chain, now) and _is_valid(chain, server)
    return about_certificates.CLOCK_DIFFERS.found(
        now=minute(now),
        server=minute(server),
        effect=f": by one of both, {name} is not valid" if is_decisive else "",
        severity=Severity.CAUSE if is_decisive else Severity.WARNING,
        evidence=f"the server's Date field differs by {abs(server - now):.0f} s",
    )


def _is_valid(chain: ChainSeen, moment: float) -> bool:
    return all(one is None or one.starts_at <= moment < one.expires_at for one in chain.chain)


def software_of(seen: AddressSeen) -> Software | None:
    for one in (seen.inside, seen.plain):
        if one is not None and (found := answers.software(one.data)) is not None:
            return found
    return None


def joined(names: Iterable[str]) -> str:
    return listed(dict.fromkeys(names))
