"""
The authority's limits on orders, counted over restarts. PURE.

Source:
    https://letsencrypt.org/docs/rate-limits/
"""

from collections.abc import Iterable, Sequence

from ..findings import acme as findings
from ..tls.domain_names import is_address
from .options import LETS_ENCRYPT, AcmeOptions
from .state import Attempt, CertificateState

_HOUR, _DAY = 3600.0, 86_400.0  # seconds

# What is kept of a certificate's attempts: the longest period below, and a bound.
_PERIOD = 7 * _DAY
_MAX_ATTEMPTS = 300

_MAX_ORDERS = (300, 3 * _HOUR)  # of an account
_MAX_EQUAL = (5, 7 * _DAY)  # certificates with the same names
_MAX_OF_DOMAIN = (50, 7 * _DAY)  # certificates of one registered domain
_MAX_FAILED = (5, _HOUR)  # of a name

# For authorities whose limits are not known: a fault here must not flood one.
_MAX_ELSEWHERE = (10, _HOUR)


# An authority that was not reached, or was not told to look, has not counted.
_NOT_SENT = frozenset(
    one.code
    for one in (findings.ACME_UNREACHABLE, findings.ACME_UNTRUSTED, findings.ACME_NO_DIRECTORY)
)
_NOT_CHECKED = _NOT_SENT.union(
    one.code
    for one in (
        findings.ACME_DNS_COMMAND,
        findings.ACME_PROCESSES,
        findings.ACME_RATE_LIMITED,
        findings.ACME_STORAGE_SEPARATE,
    )
)


def kept(attempts: Iterable[Attempt], now: float) -> tuple[Attempt, ...]:
    """Drop the attempts that no limit counts any more."""
    recent = [one for one in attempts if now - _PERIOD < one.at <= now]
    # However many have failed: what was issued counts for longer.
    others = [one for one in recent if one.code or one.is_rehearsal][:-_MAX_ATTEMPTS]
    dropped = {id(one) for one in others}
    return tuple([one for one in recent if id(one) not in dropped][-2 * _MAX_ATTEMPTS :])


def allowed_at(
    options: AcmeOptions,
    state: CertificateState,
    others: Iterable[CertificateState],
    now: float,
) -> float:
    """Return when an order would be within the limits; ``now`` or before if it is."""
    own = _sent(state)
    if options.directory != LETS_ENCRYPT:
        return _free_at([one.at for one in own], *_MAX_ELSEWHERE, now)
    others = list(others)
    elsewhere = [one for other in others for one in _sent(other)]
    domains = set(map(_registered, options.domains))
    of_domain = [
        one.at
        for other in others
        if domains & set(map(_registered, other.domains))
        for one in other.attempts
        if _counts_as_issued(one)
    ]
    issued = [one.at for one in own if _counts_as_issued(one)]
    return max(
        _free_at([one.at for one in (*own, *elsewhere)], *_MAX_ORDERS, now),
        _free_at(issued, *_MAX_EQUAL, now),
        _free_at([*issued, *of_domain], *_MAX_OF_DOMAIN, now),
        _free_at([one.at for one in own if _counts_as_failed(one)], *_MAX_FAILED, now),
    )


def _sent(state: CertificateState) -> list[Attempt]:
    return [one for one in state.attempts if not one.is_rehearsal and one.code not in _NOT_SENT]


def _counts_as_failed(attempt: Attempt) -> bool:
    return bool(attempt.code) and attempt.code not in _NOT_CHECKED


def _counts_as_issued(attempt: Attempt) -> bool:
    return not (attempt.code or attempt.is_rehearsal or attempt.is_exempt)


def _free_at(moments: Sequence[float], count: int, period: float, now: float) -> float:
    """Return when fewer than ``count`` of the moments are in the last ``period``."""
    recent = sorted(one for one in moments if now - period < one <= now)
    return recent[-count] + period if len(recent) >= count else now


def _registered(name: str) -> str:
    """Return about the domain that somebody has registered."""
    # Without the Public Suffix List: co.uk and com.au are told by their short label.
    if is_address(name):
        return name
    labels = name.split(".")
    is_short = len(labels) > 2 and len(labels[-2]) <= 3 and len(labels[-1]) == 2
    return ".".join(labels[-3:] if is_short else labels[-2:])
