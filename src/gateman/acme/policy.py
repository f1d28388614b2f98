"""
When to order a certificate, rehearse, or ask the authority. PURE: the time is an argument.

:func:`decide` says what to do; an ``after_`` function returns the state after it was done; and so
on, until the step is to wait. Moments are seconds since 1970.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from msgspec.structs import replace

from ..findings import Finding
from ..findings import acme as findings
from .limits import allowed_at, kept
from .options import KEY_TYPES, AcmeOptions
from .state import Attempt, CertificateState, Problem, RenewalInfo, StoredCertificate

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86_400.0  # seconds

# Let's Encrypt's advice: when a third of the life is left, and half of a short one.
_SHORT_LIFE = 10 * _DAY

# How much earlier than that, at most, so that not all machines renew at once.
_SPREAD = 1 / 50

# Between two questions: RFC 9773, section 4.3.2, asks for such bounds.
_ASK_AGAIN = 6 * _HOUR
_ASK_BOUNDS = (_MINUTE, _DAY)

# An authority whose window is always in the past must not be asked for one certificate after the
# other.
_MIN_AGE = 6 * _HOUR

# certmagic's intervals: errors that pass do so soon, others need a person.
_MINUTES = (1, 2, 2, 5, 10, 10, 10, 20, 20, 20, 20, *(30,) * 6, 60, 60, 60, 120, 120, 180, 180, 360)
# certmagic gives up after this time; here it is tried once a day.
_LONG_FAILING = 30 * _DAY
_BACK_OFF_SPREAD = 0.1

# The longest that an authority may send somebody away; and the longest that is believed.
_MAX_PAUSE = 7 * _DAY

# What an order on the directory for rehearsals would not find out.
_NOT_REHEARSED = frozenset(
    one.code
    for one in (
        findings.ACME_UNREACHABLE,
        findings.ACME_UNTRUSTED,
        findings.ACME_NO_DIRECTORY,
        findings.ACME_RATE_LIMITED,
        findings.ACME_ACCOUNT,
        findings.ACME_EXTERNAL_ACCOUNT,
        findings.ACME_AUTHORITY_FAILED,
        findings.ACME_PROCESSES,
        findings.ACME_STORAGE_SEPARATE,
    )
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait:
    until: float
    is_limited: bool = False  # an order is due, and would exceed the authority's limits


@dataclass(frozen=True, kw_only=True, slots=True)
class AskRenewalInfo:
    """Ask the authority when it wants the certificate to be renewed (RFC 9773)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    reason: str  # for the log, such as ``"there is none yet"``
    is_renewal: bool = False  # tell the authority which certificate it replaces


@dataclass(frozen=True, kw_only=True, slots=True)
class Rehearse:
    """Order from the directory for rehearsals, and discard what it issues."""

    reason: str


Step = Wait | AskRenewalInfo | Order | Rehearse


def decide(
    state: CertificateState,
    options: AcmeOptions,
    certificate: StoredCertificate | None,
    *,
    now: float,
    jitter: float,  # of the certificate (`jitter_of`); 0 without one
    others: Iterable[CertificateState] = (),  # of the same directory, for its limits
    is_forced: bool = False,  # order now, if the authority's limits allow it
) -> Step:
    """Return what to do now."""
    reason = _why_order(state, options, certificate, now)
    if reason is None and certificate is not None:
        info = _info(state, certificate)
        due = renewal_at(state, certificate, jitter=jitter)
        # One that is too far away was written when the clock was wrong, as is a retry_at below.
        ask_at = now if info is None or info.ask_at > now + 2 * _DAY else info.ask_at
        # Also before a renewal: the authority may want it later.
        if ask_at <= now and not is_forced:
            return AskRenewalInfo()
        if now < due and not is_forced:
            return Wait(until=min(due, ask_at))
        reason = "its renewal was requested" if is_forced else "it is due for renewal"
    reason = reason or "there is none yet"
    if now < state.retry_at <= now + 2 * _MAX_PAUSE and not is_forced:
        return Wait(until=state.retry_at)
    allowed = allowed_at(options, state, others, now)
    if allowed > now:
        return Wait(until=allowed, is_limited=True)
    if state.must_rehearse and options.rehearsal and not is_forced:
        return Rehearse(reason=reason)
    return Order(reason=reason, is_renewal=certificate is not None)


def jitter_of(fingerprint: str) -> float:
    """Return 0 to 1, the same for one certificate wherever it is asked for."""
    return int(fingerprint[:8], 16) / (1 << 32)


def renewal_at(state: CertificateState, certificate: StoredCertificate, *, jitter: float) -> float:
    """Return when a certificate is renewed, if nothing else asks for another one."""
    facts = certificate.facts
    lifetime = max(facts.expires_at - facts.starts_at, 0.0)
    share = 1 / 2 if lifetime < _SHORT_LIFE else 1 / 3
    info = _info(state, certificate)
    if info is None or info.start is None or info.end is None:
        return facts.expires_at - (share + jitter * _SPREAD) * lifetime
    wanted = info.start + jitter * (info.end - info.start)
    # A window that is too late would let it expire.
    latest = facts.expires_at - share / 2 * lifetime
    earliest = (state.issued_at or 0.0) + _MIN_AGE
    return min(max(wanted, earliest), latest)


def after_renewal_info(
    state: CertificateState,
    certificate: StoredCertificate,
    *,
    now: float,
    window: tuple[float, float] | None,  # None: there was no answer
    retry_after: float | None = None,  # seconds
    url: str = "",
) -> CertificateState:
    """Keep the answer to :class:`AskRenewalInfo`; without one, the last window remains."""
    low, high = _ASK_BOUNDS
    ask_at = now + min(max(_ASK_AGAIN if retry_after is None else retry_after, low), high)
    known = _info(state, certificate)
    info = replace(known, ask_at=ask_at) if known is not None else None
    if window is not None and window[0] < window[1]:
        info = RenewalInfo(
            fingerprint=certificate.fingerprint,
            ask_at=ask_at,
            start=window[0],
            end=window[1],
            url=url,
        )
    info = info or RenewalInfo(fingerprint=certificate.fingerprint, ask_at=ask_at)
    return replace(state, renewal_info=info)


def after_begin(state: CertificateState, *, now: float, is_rehearsal: bool) -> CertificateState:
    """Return the state while an order runs: it remains if the process is killed."""
    attempt = Attempt(at=now, code="ACME_PROCESS_FAILED", is_rehearsal=is_rehearsal)
    return replace(
        state,
        attempts=kept((*state.attempts, attempt), now),
        failures=state.failures + 1,
        retry_at=now + _back_off(state.failures),
    )


def after_success(
    state: CertificateState, options: AcmeOptions, *, now: float, challenge: str, is_renewal: bool
) -> CertificateState:
    """Return the state after a certificate was stored."""
    attempt = Attempt(at=now, challenge=challenge, is_exempt=is_renewal)
    return CertificateState(
        domains=options.domains,
        attempts=kept((*state.attempts, attempt), now),
        issued_at=now,
        profile=options.profile,
    )


def after_rehearsal(state: CertificateState, *, now: float, challenge: str) -> CertificateState:
    """Return the state after a rehearsal that worked: the order follows at once."""
    attempt = Attempt(at=now, challenge=challenge, is_rehearsal=True)
    return replace(
        state,
        attempts=kept((*state.attempts, attempt), now),
        must_rehearse=False,
        retry_at=now,
    )


def after_failure(
    state: CertificateState,
    options: AcmeOptions,
    finding: Finding,
    *,
    now: float,
    jitter: float,  # 0 to 1, a new one each time
    challenge: str = "",
    is_rehearsal: bool = False,
    until: float | None = None,  # before which the authority wants no other order
) -> CertificateState:
    """Return the state after an order or a rehearsal that failed."""
    since = now if state.failing_since is None else min(state.failing_since, now)
    pause = _DAY if now - since > _LONG_FAILING else _back_off(state.failures)
    retry_at = now + pause * (1 + jitter * _BACK_OFF_SPREAD)
    if until is not None:
        retry_at = max(retry_at, min(until, now + _MAX_PAUSE))
    attempt = Attempt(at=now, code=finding.code, challenge=challenge, is_rehearsal=is_rehearsal)
    must_rehearse = finding.code not in _NOT_REHEARSED
    if not is_rehearsal:
        must_rehearse |= state.must_rehearse
    # A directory for rehearsals that is itself away must not keep from ordering.
    return replace(
        state,
        domains=options.domains,
        attempts=kept((*state.attempts, attempt), now),
        failures=state.failures + 1,
        failing_since=since,
        retry_at=retry_at,
        must_rehearse=must_rehearse,
        problem=Problem.of(finding, now),
    )


def after_limit(
    state: CertificateState, finding: Finding, *, now: float, until: float
) -> CertificateState:
    """Return the state while the authority's limits allow no order; an earlier problem remains."""
    problem = state.problem or Problem.of(finding, now)
    return replace(state, problem=problem, next_at=until)


def _back_off(failures: int) -> float:
    return _MINUTES[min(failures, len(_MINUTES) - 1)] * _MINUTE


def _why_order(
    state: CertificateState,
    options: AcmeOptions,
    certificate: StoredCertificate | None,
    now: float,
) -> str | None:
    """Return why another certificate is needed at once."""
    if certificate is None:
        return "there is none yet"
    facts = certificate.facts
    if facts.expires_at <= now:
        return "it has expired"
    missing = set(options.domains) - {name.lower() for name in facts.names}
    if missing:
        return f"it is not for {', '.join(sorted(missing))}"
    if facts.key != KEY_TYPES[options.key_type]:
        return f"its key is {facts.key}, and {KEY_TYPES[options.key_type]} is declared"
    if state.issued_at is not None and state.profile != options.profile:
        return "another profile is declared"
    return None


def _info(state: CertificateState, certificate: StoredCertificate) -> RenewalInfo | None:
    info = state.renewal_info
    return info if info is not None and info.fingerprint == certificate.fingerprint else None
