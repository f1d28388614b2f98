"""
What is wrong with a server's certificates, and why a client may have refused them. PURE.

Source:
    CA/Browser Forum, Baseline Requirements, sections 6.1.1.5, 6.3.2 and 7.1; RFC 8446, section
    4.4.2; https://support.apple.com/en-us/103769.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

from ..findings import Finding, Severity, Stage
from .certificate_chain import CertificateFacts, Chain
from .domain_names import is_named

SECONDS_PER_DAY = 86_400

# How many days a certificate of a public authority may last, by when it begins: the last that
# applies (section 6.3.2).
_LONGEST_LIVES = (
    (datetime(2020, 9, 1, tzinfo=UTC), 398),
    (datetime(2026, 3, 15, tzinfo=UTC), 200),
    (datetime(2027, 3, 15, tzinfo=UTC), 100),
    (datetime(2029, 3, 15, tzinfo=UTC), 47),
)

# A renewal that works has happened long before: certbot's has a third of the life left.
_SOON = 14  # days
_SOON_SHARE = 6

_MIN_RSA_SIZE = 2048  # bits; section 6.1.5
_CURVES = frozenset({"ECDSA P-256", "ECDSA P-384"})
_WEAK_DIGESTS = frozenset({"md5", "sha1"})

_DATE_CODES = frozenset(
    {"CERTIFICATE_EXPIRED", "CERTIFICATE_EXPIRES_SOON", "CERTIFICATE_NOT_VALID_YET"}
)

_IF_INTERMEDIATE = "; if it is an intermediate one, append its certificate to the file"

_NEW = "get a new one, with a key for ECDSA P-256 or RSA with 2048 bits or more, and SHA-256"


def judge(chain: Chain, *, now: float, name: str) -> list[Finding]:
    """Find what is wrong with the certificates that a server shows."""
    found: list[Finding] = []
    for place, facts in enumerate(chain):
        which = name if place == 0 else f"{name} number {place + 1}"
        if facts is None:
            found.append(_unreadable(which, "the standard, so that it cannot be read"))
        else:
            found += _dates(facts, now, which, is_own=place == 0)
            if place == 0:
                found += _leaf(facts, which)
    found += _order(chain, name)
    ranks = {Severity.CAUSE: 0, Severity.WARNING: 1, Severity.NOTE: 2}
    return sorted(found, key=lambda finding: ranks[finding.severity])


def why_refused(
    chain: Chain,
    *,
    server_name: str | None,
    now: float,
    name: str,
    is_about_trust: bool = False,
) -> Finding | None:
    """Tell why a client that was shown certificates has most likely refused them."""
    findings = judge(chain, now=now, name=name)
    for finding in findings:
        if finding.severity is not Severity.NOTE and finding.code != "CERTIFICATE_EXPIRES_SOON":
            return finding
    leaf = chain[0] if chain else None
    if leaf is None:
        return None
    certified = ", ".join(leaf.names[:5])
    if is_about_trust:
        pass
    elif server_name is not None and not is_named(server_name, leaf.names):
        return Finding(
            code="CERTIFICATE_NAME",
            stage=Stage.CERTIFICATE,
            severity=Severity.WARNING,
            problem=f"the client asked for {server_name!r}, and {name} is for {certified}",
            fix="connect by a name that it is for, or give one for this name in SNI_server_certs",
        )
    elif server_name is None and not any(_is_address(one) for one in leaf.names):
        return Finding(
            code="CERTIFICATE_NAME",
            stage=Stage.CERTIFICATE,
            severity=Severity.WARNING,
            problem=f"the client named no domain, as one that connects by an IP address does, and"
            f" {name} is for {certified}",
            fix="connect by a name that it is for",
        )
    if not leaf.is_public:
        return Finding(
            code="CERTIFICATE_PRIVATE",
            stage=Stage.CERTIFICATE,
            severity=Severity.NOTE,
            problem=f"{name} is from {leaf.issuer!r}, which is not a public authority",
            fix="have the client trust that authority, or get a certificate from a public one"
            + _IF_INTERMEDIATE * any(one.code == "CHAIN_INCOMPLETE" for one in findings),
        )
    return None


def misplaced(chain: Chain, *, asked: str, name: str) -> Finding | None:
    """Check that a certificate covers the names for which it is selected."""
    leaf = chain[0] if chain else None
    if leaf is None or not leaf.names or is_named(asked.replace("*", "any", 1), leaf.names):
        return None
    return Finding(
        code="CERTIFICATE_NAME",
        stage=Stage.CERTIFICATE,
        severity=Severity.WARNING,
        problem=f"{name} is for {', '.join(leaf.names[:5])}, and not for {asked!r}, so that clients"
        " refuse it",
        fix="give the certificate of that name",
    )


def is_about_dates(finding: Finding) -> bool:
    """Return whether a finding depends on the date."""
    return finding.code in _DATE_CODES


def is_usable_key(facts: CertificateFacts) -> bool:
    """Return whether browsers accept a key of this type and size."""
    kind, _, size = facts.key.partition(" ")
    return facts.key in _CURVES or (kind == "RSA" and int(size) >= _MIN_RSA_SIZE)


def _is_address(name: str) -> bool:
    return ":" in name or name.replace(".", "").isdigit()


def _dates(facts: CertificateFacts, now: float, which: str, *, is_own: bool) -> Iterator[Finding]:
    # Above the server's own, clients that know another way to a root take that.
    severity = Severity.CAUSE if is_own else Severity.WARNING
    left = facts.expires_at - now
    life = facts.expires_at - facts.starts_at
    if now < facts.starts_at:
        yield Finding(
            code="CERTIFICATE_NOT_VALID_YET",
            stage=Stage.CERTIFICATE,
            severity=severity,
            problem=f"{which} is valid only from {_minute(facts.starts_at)} on, and now it is"
            f" {_minute(now)}",
            fix="set this machine's clock, or take a certificate that is valid",
        )
    elif left <= 0:
        yield Finding(
            code="CERTIFICATE_EXPIRED",
            stage=Stage.CERTIFICATE,
            severity=severity,
            problem=f"{which} has expired on {_minute(facts.expires_at)}, and"
            f" {'clients' if is_own else 'some clients'} refuse it",
            fix="renew it" if is_own else "get the chain anew from the authority",
        )
    elif left < min(_SOON * SECONDS_PER_DAY, life / _SOON_SHARE):
        days = int(left // SECONDS_PER_DAY)
        yield Finding(
            code="CERTIFICATE_EXPIRES_SOON",
            stage=Stage.CERTIFICATE,
            severity=Severity.WARNING,
            problem=f"{which} expires on {_minute(facts.expires_at)}, in {days}"
            f" day{'s' * (days != 1)}",
            fix="renew it, and see why its renewal did not",
        )


def _leaf(facts: CertificateFacts, which: str) -> Iterator[Finding]:
    for part in facts.unreadable:
        yield _unreadable(which, f"the standard in {part}")
    if not facts.names and not facts.unreadable:
        yield Finding(
            code="CERTIFICATE_WITHOUT_NAMES",
            stage=Stage.CERTIFICATE,
            severity=Severity.CAUSE,
            problem=f"{which} names no domain and no address (subjectAltName), and clients refuse"
            " it, as they no longer read its common name",
            fix="get one that names the domain",
        )
    if not is_usable_key(facts):
        yield Finding(
            code="CERTIFICATE_KEY",
            stage=Stage.CERTIFICATE,
            severity=Severity.WARNING,
            problem=f"{which} has a key of type {facts.key}, which Chrome and most browsers refuse",
            fix=_NEW,
        )
    if facts.digest in _WEAK_DIGESTS:
        yield Finding(
            code="CERTIFICATE_DIGEST",
            stage=Stage.CERTIFICATE,
            severity=Severity.WARNING,
            problem=f"{which} is signed with {facts.digest.upper()}, which clients refuse",
            fix=_NEW,
        )
    if not facts.is_for_servers:
        yield Finding(
            code="CERTIFICATE_USAGE",
            stage=Stage.CERTIFICATE,
            severity=Severity.WARNING,
            problem=f"{which} is not for servers by its extended key usage, and clients refuse it",
            fix="get one for servers (serverAuth)",
        )
    longest = _longest_life(facts.starts_at)
    days = (facts.expires_at - facts.starts_at) / SECONDS_PER_DAY
    if facts.is_public and days > longest:
        yield Finding(
            code="CERTIFICATE_LIFE",
            stage=Stage.CERTIFICATE,
            severity=Severity.WARNING,
            problem=f"{which} lasts {days:.0f} days, and browsers take {longest} of a public"
            " authority",
            fix="get one that lasts less",
        )


def _order(chain: Chain, name: str) -> Iterator[Finding]:
    """Follow the signatures up from the server's own certificate."""
    path = [0]
    while (facts := chain[path[-1]] if chain else None) is not None:
        above = [place for place in facts.issuers if place not in path]
        if not above or path[-1] in facts.issuers:
            break
        path.append(above[0])
    leaf = chain[0] if chain else None
    top = chain[path[-1]] if chain else None
    if leaf is None or top is None:
        return
    is_rooted = path[-1] in top.issuers
    if is_rooted and len(path) == 1:
        yield Finding(
            code="CERTIFICATE_SELF_SIGNED",
            stage=Stage.CERTIFICATE,
            severity=Severity.WARNING,
            problem=f"{name} is signed by itself, and clients refuse it unless they were told to"
            " trust it",
            fix="get one from a public authority; for development, `gateman cert dev` makes one"
            " and tells how to trust it",
        )
    elif not is_rooted and len(path) == 1:
        yield _without_issuer(leaf, name)
    foreign = [place + 1 for place in range(len(chain)) if place not in path]
    if foreign:
        numbers = ", ".join(map(str, foreign[:5])) + (", …" if len(foreign) > 5 else "")
        is_wrong = len(path) == 1 and not is_rooted
        yield Finding(
            code="CHAIN_FOREIGN",
            stage=Stage.CERTIFICATE,
            severity=Severity.WARNING if is_wrong else Severity.NOTE,
            problem=f"{name} is followed by others that have not signed it (number {numbers})",
            fix="keep only those that lead from it to its root",
        )
    if path != sorted(path):
        numbers = ", ".join(str(place + 1) for place in path)
        yield Finding(
            code="CHAIN_ORDER",
            stage=Stage.CERTIFICATE,
            severity=Severity.WARNING,
            problem=f"{name} is followed by its chain in the wrong order, which some refuse",
            fix=f"put them in this order: number {numbers}",
        )
    # Of a private authority, it shows that nothing is missing.
    if is_rooted and len(path) > 1 and (leaf.is_public or len(path) > 2):
        yield Finding(
            code="CHAIN_ROOT",
            stage=Stage.CERTIFICATE,
            severity=Severity.NOTE,
            problem=f"{name} is followed by its root (number {path[-1] + 1}), which clients have"
            " already, and which each handshake sends in vain",
            fix="leave the root out",
        )


def _without_issuer(leaf: CertificateFacts, name: str) -> Finding:
    if leaf.is_public:
        return Finding(
            code="CHAIN_INCOMPLETE",
            stage=Stage.CERTIFICATE,
            severity=Severity.WARNING,
            problem=f"{name} is from {leaf.issuer!r}, whose own certificate is not in the file, and"
            " phones, WeChat and programs refuse what browsers complete by themselves",
            fix="append it; of Let's Encrypt's files, take fullchain.pem and not cert.pem",
        )
    return Finding(
        code="CHAIN_INCOMPLETE",
        stage=Stage.CERTIFICATE,
        severity=Severity.NOTE,
        problem=f"{name} is from {leaf.issuer!r}, whose own certificate is not in the file",
        fix="append it, unless it is a root that your clients were told to trust",
    )


def _unreadable(which: str, what: str) -> Finding:
    return Finding(
        code="CERTIFICATE_MALFORMED",
        stage=Stage.CERTIFICATE,
        severity=Severity.WARNING,
        problem=f"{which} breaks {what}, and clients that are strict refuse it",
        fix="get a new one",
    )


def _longest_life(starts_at: float) -> int:
    longest = 825
    for since, days in _LONGEST_LIVES:
        if starts_at >= since.timestamp():
            longest = days
    return longest


def _minute(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M} UTC"
