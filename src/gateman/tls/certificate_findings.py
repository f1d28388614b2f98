"""
What is wrong with a server's certificates, and why a client may have refused them. PURE.

Source:
    CA/Browser Forum, Baseline Requirements, sections 6.1.1.5, 6.3.2 and 7.1; RFC 8446, section
    4.4.2; https://support.apple.com/en-us/103769; https://support.apple.com/en-us/103214.
"""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from ..findings import ALL_CLIENTS, Client, Finding, Severity, Software
from ..findings import certificates as declared
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

# Of any authority, on Apple's devices, by when it begins.
_LONGEST_PRIVATE_LIFE = 825  # days
_PRIVATE_LIVES_COUNT_FROM = datetime(2019, 7, 1, tzinfo=UTC)

# A renewal that works has happened long before: certbot's has a third of the life left.
_SOON = 14  # days
_SOON_SHARE = 6

_MIN_RSA_SIZE = 2048  # bits; section 6.1.5
_CURVES = frozenset({"ECDSA P-256", "ECDSA P-384"})
_WEAK_DIGESTS = frozenset({"md5", "sha1"})

# What makes a name that of an authority which another one has certified.
_INTERMEDIATE = re.compile(r"intermediate|issuing|\bsub", re.IGNORECASE)

_DATE_CODES = frozenset(
    {
        "CERTIFICATE_EXPIRED",
        "CERTIFICATE_EXPIRES_SOON",
        "CERTIFICATE_NOT_VALID_YET",
        "CHAIN_EXPIRED",
    }
)
_RANKS = {one: rank for rank, one in enumerate((Severity.CAUSE, Severity.WARNING, Severity.NOTE))}


@dataclass(frozen=True, kw_only=True, slots=True)
class Trust:
    """What clients trust of a chain."""

    # The places of certificates that a trusted root has signed, or that are one.
    anchors: frozenset[int] = frozenset()
    is_public: bool = False  # whether the root is one that all clients bring
    has_own_roots: bool = False  # whether the roots of a private authority count as trusted, too


def judge(
    chain: Chain,
    *,
    now: float,
    name: str,  # such as ``"the certificate"``
    trust: Trust | None = None,
    software: Software | None = None,  # whose words the fixes are in
) -> list[Finding]:
    """Find what is wrong with a server's certificates; ``trust`` is ``None`` if it is not known."""
    path = _path(chain, now)
    anchors = trust.anchors if trust is not None else frozenset()
    anchored_at = next((index for index, place in enumerate(path) if place in anchors), None)
    needed = path if anchored_at is None else path[: anchored_at + 1]
    found: list[Finding] = []
    leaf = chain[0] if chain else None
    if leaf is not None:
        found += _dates(leaf, now, name, software)
    about_chain = _order(chain, path, name, trust, software, is_anchored=anchored_at is not None)
    about_leaf = _leaf(leaf, name, trust) if leaf is not None else ()
    # Clients that are told to trust it still refuse its key.
    parts = (about_leaf, about_chain) if trust is None else (about_chain, about_leaf)
    found += itertools.chain(*parts)
    for place, facts in enumerate(chain):
        which = _numbered(name, place)
        if facts is None:
            found.append(_unreadable(which, "the standard, so that it cannot be read"))
        elif place > 0:
            found += _dates_above(
                facts, now, which, software, is_needed=trust is not None and place in needed
            )
            if place in needed and place not in facts.issuers and facts.digest in _WEAK_DIGESTS:
                found.append(
                    declared.CERTIFICATE_DIGEST.found(which=which, digest=facts.digest.upper())
                )
    return sorted(found, key=lambda finding: _RANKS[finding.severity])


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
    if not is_about_trust:
        if server_name is not None and not is_named(server_name, leaf.names):
            return wrong_name(leaf, name, f"{server_name!r}, for which the client asked")
        if server_name is None and not leaf.addresses:
            asked = "an address: the client named no domain, as one that connects by an IP address"
            return wrong_name(leaf, name, asked)
    if not leaf.is_public:
        is_alone = any(one.code == "CHAIN_WITHOUT_ISSUER" for one in findings)
        return _private(leaf.issuer, name, is_alone=is_alone)
    return None


def misplaced(chain: Chain, *, asked: str, name: str) -> Finding | None:
    """Check that a certificate covers the names for which it is selected."""
    leaf = chain[0] if chain else None
    if leaf is None or not leaf.names or is_named(asked.replace("*", "any", 1), leaf.names):
        return None
    return wrong_name(leaf, name, f"{asked!r}, for which it is configured")


def wrong_name(
    leaf: CertificateFacts,
    which: str,
    asked: str,
    software: Software | None = Software.GATEMAN,
    evidence: str = "",
) -> Finding:
    certified = ", ".join(leaf.names[:5]) + (", …" if len(leaf.names) > 5 else "")
    return declared.CERTIFICATE_NAME.found(
        which=which, names=certified, asked=asked, software=software, evidence=evidence
    )


def is_about_dates(finding: Finding) -> bool:
    """Return whether a finding depends on the date."""
    return finding.code in _DATE_CODES


def is_usable_key(facts: CertificateFacts) -> bool:
    """Return whether browsers accept a key of this type and size."""
    kind, _, size = facts.key.partition(" ")
    return facts.key in _CURVES or (kind == "RSA" and int(size) >= _MIN_RSA_SIZE)


def minute(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M} UTC"


def _numbered(name: str, place: int) -> str:
    return name if place == 0 else f"{name} number {place + 1}"


def _path(chain: Chain, now: float) -> list[int]:
    """Follow the signatures up from the server's own certificate; valid ones first."""
    path = [0]
    while (facts := chain[path[-1]] if chain else None) is not None:
        above = [place for place in facts.issuers if place not in path]
        if not above or path[-1] in facts.issuers:
            break
        path.append(max(above, key=lambda place: _is_valid(chain[place], now)))
    return path


def _is_valid(facts: CertificateFacts | None, now: float) -> bool:
    return facts is not None and facts.starts_at <= now < facts.expires_at


def _dates(
    facts: CertificateFacts, now: float, which: str, software: Software | None
) -> Iterator[Finding]:
    left = facts.expires_at - now
    if now < facts.starts_at:
        yield declared.CERTIFICATE_NOT_VALID_YET.found(
            which=which, moment=minute(facts.starts_at), now=minute(now), software=software
        )
    elif left <= 0:
        yield declared.CERTIFICATE_EXPIRED.found(
            which=which, moment=minute(facts.expires_at), software=software
        )
    else:
        yield from _soon(facts, left, which)


def _dates_above(
    facts: CertificateFacts, now: float, which: str, software: Software | None, *, is_needed: bool
) -> Iterator[Finding]:
    # Clients that know another way to a root take that.
    severity = Severity.CAUSE if is_needed else Severity.WARNING
    left = facts.expires_at - now
    if now < facts.starts_at:
        yield declared.CERTIFICATE_NOT_VALID_YET.found(
            which=which, moment=minute(facts.starts_at), now=minute(now), severity=severity
        )
    elif left <= 0:
        yield declared.CHAIN_EXPIRED.found(
            which=which,
            moment=minute(facts.expires_at),
            refused_by="clients" if is_needed else "some clients",
            severity=severity,
            software=software,
        )
    else:
        yield from _soon(facts, left, which)


def _soon(facts: CertificateFacts, left: float, which: str) -> Iterator[Finding]:
    life = facts.expires_at - facts.starts_at
    if left < min(_SOON * SECONDS_PER_DAY, life / _SOON_SHARE):
        days = int(left // SECONDS_PER_DAY)
        yield declared.CERTIFICATE_EXPIRES_SOON.found(
            which=which, moment=minute(facts.expires_at), days=f"{days} day{'s' * (days != 1)}"
        )


def _leaf(facts: CertificateFacts, which: str, trust: Trust | None) -> Iterator[Finding]:
    for part in facts.unreadable:
        yield _unreadable(which, f"the standard in {part}")
    if not facts.names and not facts.unreadable:
        yield declared.CERTIFICATE_WITHOUT_NAMES.found(which=which)
    if not is_usable_key(facts):
        yield _weak_key(facts.key, which)
    if facts.digest in _WEAK_DIGESTS:
        yield declared.CERTIFICATE_DIGEST.found(which=which, digest=facts.digest.upper())
    if not facts.is_for_servers:
        yield declared.CERTIFICATE_USAGE.found(which=which)
    yield from _life(facts, which, trust)


def _weak_key(key: str, which: str) -> Finding:
    if key.startswith("RSA "):
        fails_for = {Client.BROWSERS, Client.IOS, Client.NODE, Client.PYTHON}
        refused_by = "Apple's devices and programs with a recent OpenSSL"
    else:
        fails_for = {Client.BROWSERS, Client.ANDROID, Client.IOS, Client.WECHAT}
        refused_by = "Chrome and most browsers"
    return declared.CERTIFICATE_KEY.found(
        which=which, key=key, refused_by=refused_by, fails_for=frozenset(fails_for)
    )


def _life(facts: CertificateFacts, which: str, trust: Trust | None) -> Iterator[Finding]:
    longest = _longest_life(facts.starts_at)
    days = (facts.expires_at - facts.starts_at) / SECONDS_PER_DAY
    has_life = partial(declared.CERTIFICATE_LIFE.found, which=which, days=f"{days:.0f}")
    if facts.is_public or (trust is not None and trust.is_public):
        if days > longest:
            yield has_life(refused_by="browsers", longest=longest, authority="a public authority")
    elif trust is not None and facts.starts_at >= _PRIVATE_LIVES_COUNT_FROM.timestamp():
        if days > _LONGEST_PRIVATE_LIFE:
            yield has_life(
                refused_by="Apple's devices",
                longest=_LONGEST_PRIVATE_LIFE,
                authority="any authority",
                fails_for=frozenset({Client.IOS}),
            )
        elif days > _LONGEST_LIVES[0][1]:
            yield has_life(
                refused_by="browsers",
                longest=longest,
                authority="a public authority, which this one seems not to be",
                severity=Severity.NOTE,
                fails_for=frozenset(),
            )


def _order(
    chain: Chain,
    path: list[int],
    name: str,
    trust: Trust | None,
    software: Software | None,
    *,
    is_anchored: bool,
) -> Iterator[Finding]:
    """Judge the way of signatures up from the server's own certificate."""
    leaf = chain[0] if chain else None
    top = chain[path[-1]] if chain else None
    if leaf is None or top is None:
        return
    is_rooted = path[-1] in top.issuers
    if trust is not None and not is_anchored:
        yield from _untrusted(chain, path, name, trust, software, is_rooted=is_rooted)
    elif not is_anchored and len(path) == 1:
        if is_rooted:
            yield declared.CERTIFICATE_SELF_SIGNED.found(which=name)
        else:
            yield _without_issuer(leaf, name)
    is_wrong = len(path) == 1 and not is_rooted and not is_anchored
    foreign = [place + 1 for place in range(len(chain)) if place not in path]
    if foreign:
        numbers = ", ".join(map(str, foreign[:5])) + (", …" if len(foreign) > 5 else "")
        yield declared.CHAIN_FOREIGN.found(
            which=name,
            numbers=numbers,
            software=software,
            severity=Severity.CAUSE if is_wrong else None,
            fails_for=declared.CHAIN_INCOMPLETE.fails_for if is_wrong else None,
        )
    if path != sorted(path):
        numbers = ", ".join(str(place + 1) for place in path)
        yield declared.CHAIN_ORDER.found(which=name, numbers=numbers)
    # Of a private authority, it shows that nothing is missing.
    if is_rooted and len(path) > 1 and (leaf.is_public or len(path) > 2):
        yield declared.CHAIN_ROOT.found(which=name, number=path[-1] + 1)


def _untrusted(
    chain: Chain,
    path: list[int],
    name: str,
    trust: Trust,
    software: Software | None,
    *,
    is_rooted: bool,
) -> Iterator[Finding]:
    leaf, top = chain[0], chain[path[-1]]
    assert leaf is not None
    assert top is not None
    if is_rooted and len(path) == 1:
        yield declared.CERTIFICATE_SELF_SIGNED.found(which=name, software=software)
    elif is_rooted:
        yield _private(top.subject, name, software, is_alone=False)
    elif (
        leaf.is_public
        or trust.has_own_roots
        or top.has_issuer_url
        or _INTERMEDIATE.search(top.issuer)
    ):
        yield _incomplete(top, _numbered(name, path[-1]), software)
    else:
        yield _private(top.issuer, name, software, is_alone=True)


def _incomplete(facts: CertificateFacts, which: str, software: Software | None = None) -> Finding:
    if facts.has_issuer_url:
        refusal = "phones, WeChat and programs refuse what browsers complete by themselves"
    else:
        refusal = "clients refuse it, for it does not say where they could download that"
    return declared.CHAIN_INCOMPLETE.found(
        which=which,
        issuer=repr(facts.issuer),
        refusal=refusal,
        software=software,
        fails_for=None if facts.has_issuer_url else ALL_CLIENTS,
    )


def _private(
    issuer: str, name: str, software: Software | None = None, *, is_alone: bool
) -> Finding:
    hint = "; if it is an intermediate one, append its certificate to the file" * is_alone
    return declared.CERTIFICATE_PRIVATE.found(
        which=name, issuer=repr(issuer), hint=hint, software=software
    )


def _without_issuer(leaf: CertificateFacts, name: str) -> Finding:
    if leaf.is_public:
        return _incomplete(leaf, name)
    return declared.CHAIN_WITHOUT_ISSUER.found(which=name, issuer=repr(leaf.issuer))


def _unreadable(which: str, part: str) -> Finding:
    return declared.CERTIFICATE_MALFORMED.found(which=which, part=part)


def _longest_life(starts_at: float) -> int:
    longest = 825
    for since, days in _LONGEST_LIVES:
        if starts_at >= since.timestamp():
            longest = days
    return longest
