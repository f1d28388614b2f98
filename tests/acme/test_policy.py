"""When to order, rehearse, ask and wait: by equality, with the time passed in."""

from dataclasses import replace as changed
from typing import Any

import pytest
from msgspec.structs import replace

from gateman.acme.options import AcmeOptions
from gateman.acme.policy import (
    AskRenewalInfo,
    Order,
    Rehearse,
    Step,
    Wait,
    after_begin,
    after_failure,
    after_limit,
    after_rehearsal,
    after_renewal_info,
    after_success,
    decide,
    renewal_at,
)
from gateman.acme.state import (
    Attempt,
    CertificateState,
    Problem,
    RenewalInfo,
    StoredCertificate,
)
from gateman.findings import Finding
from gateman.findings import acme as findings
from gateman.tls.certificate_chain import CertificateFacts

NOW = 1_800_000_000.0
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0

OPTIONS = AcmeOptions(domains=("example.com", "www.example.com"))
PRIVATE = changed(OPTIONS, directory="https://ca.example/dir")
CAA = findings.ACME_CAA.found(authority="ca", name="a", detail="", issuer="ca")
AWAY = findings.ACME_UNREACHABLE.found(authority="ca", reason="timeout")

ASKED = RenewalInfo(fingerprint="f1", ask_at=NOW + DAY)


def certificate(**facts: Any) -> StoredCertificate:
    """Return a certificate of 90 days that was issued now."""
    days = facts.pop("days", 90)
    values: dict[str, Any] = {
        "subject": "CN=example.com",
        "issuer": "CN=CA",
        "starts_at": NOW,
        "expires_at": NOW + days * DAY,
        "names": OPTIONS.domains,
    }
    return StoredCertificate(fingerprint="f1", facts=CertificateFacts(**{**values, **facts}))


def issued(**more: Any) -> CertificateState:
    """Return a state with a certificate for which the authority names no window."""
    return CertificateState(**{"issued_at": NOW, "renewal_info": ASKED, **more})


def step(
    state: CertificateState,
    stored: StoredCertificate | None,
    *,
    after: float = 0.0,
    jitter: float = 0.0,
    options: AcmeOptions = OPTIONS,
    is_forced: bool = False,
) -> Step:
    return decide(state, options, stored, now=NOW + after, jitter=jitter, is_forced=is_forced)


def failed(
    state: CertificateState, finding: Finding = CAA, *, after: float = 0.0, **more: Any
) -> CertificateState:
    return after_failure(
        state, OPTIONS, finding, **{"now": NOW + after, "jitter": 0.0, "challenge": "x", **more}
    )


@pytest.mark.parametrize(
    ("facts", "options", "reason"),
    [
        ({"expires_at": NOW}, {}, "it has expired"),
        (
            {"names": ("example.com",)},
            {},
            "it is not for www.example.com",
        ),
        (
            {"key": "RSA 2048"},
            {},
            "its key is RSA 2048, and ECDSA P-256 is declared",
        ),
        ({}, {"profile": "tlsserver"}, "another profile is declared"),
    ],
)
def test_one_that_is_not_what_is_declared_is_replaced_at_once(
    facts: dict[str, Any], options: dict[str, Any], reason: str
) -> None:
    found = step(issued(), certificate(**facts), options=changed(OPTIONS, **options))

    assert found == Order(reason=reason, is_renewal=True)


def test_a_certificate_is_ordered_where_there_is_none() -> None:
    assert step(CertificateState(), None) == Order(reason="there is none yet")


def test_a_certificate_with_more_names_stays() -> None:
    """A name that was removed is left out of the next one."""
    stored = certificate(names=("EXAMPLE.com", "www.example.com", "old.example.com"))

    assert step(issued(), stored) == Wait(until=NOW + DAY)


def test_a_state_that_was_lost_does_not_cost_an_order() -> None:
    """The profile of the certificate is not known then."""
    options = changed(OPTIONS, profile="tlsserver")

    assert step(CertificateState(renewal_info=ASKED), certificate(), options=options) == Wait(
        until=NOW + DAY
    )


@pytest.mark.parametrize(
    ("days", "jitter", "due"),
    [
        (90, 0.0, 60 * DAY),
        (90, 1.0, 58.2 * DAY),
        (64, 0.0, 128 / 3 * DAY),
        (45, 0.0, 30 * DAY),
        (10, 0.0, 20 / 3 * DAY),
        (6, 0.0, 3 * DAY),
        (6, 0.5, 2.94 * DAY),
    ],
)
def test_renewal_without_a_window(days: float, jitter: float, due: float) -> None:
    """When a third of the life is left, half of a short one, and a little earlier by chance."""
    assert renewal_at(issued(), certificate(days=days), jitter=jitter) == pytest.approx(NOW + due)


def test_it_is_renewed_when_that_is_due() -> None:
    state = issued(renewal_info=replace(ASKED, ask_at=NOW + 61 * DAY))
    stored = certificate()

    assert step(state, stored, after=60 * DAY - 1) == Wait(until=NOW + 60 * DAY)
    assert step(state, stored, after=60 * DAY) == Order(
        reason="it is due for renewal", is_renewal=True
    )


# What the authority says.


def window(start: float, end: float, **more: Any) -> CertificateState:
    info = replace(ASKED, start=NOW + start * DAY, end=NOW + end * DAY)
    return issued(renewal_info=info, **more)


@pytest.mark.parametrize(
    ("start", "end", "jitter", "due"),
    [
        (50, 52, 0.0, 50),
        (50, 52, 0.5, 51),
        # Later than a sixth of the life before the end is too late.
        (88, 89, 0.5, 75),
        (200, 300, 0.5, 75),
        # It will be revoked.
        (20, 21, 0.0, 20),
        (-10, -9, 0.0, 0.25),
    ],
)
def test_the_window_decides_within_bounds(
    start: float, end: float, jitter: float, due: float
) -> None:
    assert renewal_at(window(start, end), certificate(), jitter=jitter) == NOW + due * DAY


def test_a_window_of_another_certificate_does_not_count() -> None:
    state = issued(renewal_info=replace(ASKED, fingerprint="f0", start=NOW, end=NOW + 1))

    assert step(state, certificate()) == AskRenewalInfo()
    assert renewal_at(state, certificate(), jitter=0.0) == NOW + 60 * DAY


def test_the_authority_is_asked_when_that_is_due_also_before_a_renewal() -> None:
    state = issued(renewal_info=replace(ASKED, ask_at=NOW + HOUR))
    stored = certificate()

    assert step(issued(renewal_info=None), stored) == AskRenewalInfo()
    assert step(state, stored) == Wait(until=NOW + HOUR)
    assert step(state, stored, after=HOUR) == AskRenewalInfo()
    assert step(state, stored, after=70 * DAY) == AskRenewalInfo()


@pytest.mark.parametrize(
    ("retry_after", "pause"),
    [(None, 6 * HOUR), (0, MINUTE), (-5, MINUTE), (7200, 2 * HOUR), (1e9, DAY)],
)
def test_the_time_between_two_questions_is_bounded(retry_after: float | None, pause: float) -> None:
    state = after_renewal_info(
        issued(),
        certificate(),
        now=NOW,
        window=(NOW + 1, NOW + 2),
        retry_after=retry_after,
        url="https://ca.example/why",
    )

    assert state.renewal_info == RenewalInfo(
        fingerprint="f1",
        ask_at=NOW + pause,
        start=NOW + 1,
        end=NOW + 2,
        url="https://ca.example/why",
    )


@pytest.mark.parametrize("answer", [None, (NOW + 2, NOW + 2), (NOW + 2, NOW + 1)])
def test_without_an_answer_the_last_window_remains(answer: tuple[float, float] | None) -> None:
    known = window(50, 52)
    asked = after_renewal_info(known, certificate(), now=NOW, window=answer)
    never = after_renewal_info(CertificateState(), certificate(), now=NOW, window=answer)

    assert known.renewal_info is not None
    assert asked == replace(known, renewal_info=replace(known.renewal_info, ask_at=NOW + 6 * HOUR))
    assert never.renewal_info == RenewalInfo(fingerprint="f1", ask_at=NOW + 6 * HOUR)


# Failures.


def test_failures_are_repeated_as_certmagic_does() -> None:
    """Each pause follows the failure before; after 30 days, once a day."""
    state, at, pauses = CertificateState(), 0.0, []
    for _ in range(150):
        state = failed(state, after=at)
        pauses.append(state.retry_at - NOW - at)
        assert step(state, None, after=at) == Wait(until=state.retry_at)
        at = state.retry_at - NOW
    minutes = [pause / MINUTE for pause in pauses]

    assert minutes[:11] == [1, 2, 2, 5, 10, 10, 10, 20, 20, 20, 20]
    assert minutes[11:25] == [*[30] * 6, 60, 60, 60, 120, 120, 180, 180, 360]
    assert set(minutes[25:140]) == {360}
    assert minutes[-1] == 24 * 60
    assert state.failing_since == NOW


def test_a_pause_is_up_to_a_tenth_longer() -> None:
    assert failed(CertificateState(), jitter=1.0).retry_at == NOW + 66


def test_after_a_failure_the_order_is_rehearsed() -> None:
    """Only when the rehearsal works, the authority itself is asked again."""
    state = failed(CertificateState())
    stumbled = failed(state, after=MINUTE, is_rehearsal=True)
    rehearsed = after_rehearsal(stumbled, now=NOW + 3 * MINUTE, challenge="x")
    after = MINUTE

    assert step(state, None, after=after) == Rehearse(reason="there is none yet")
    assert step(stumbled, None, after=3 * MINUTE) == Rehearse(reason="there is none yet")
    assert step(rehearsed, None, after=3 * MINUTE) == Order(reason="there is none yet")
    assert rehearsed.problem == Problem.of(CAA, NOW + MINUTE)
    assert rehearsed.attempts == (
        Attempt(at=NOW, code="ACME_CAA", challenge="x"),
        Attempt(at=NOW + MINUTE, code="ACME_CAA", challenge="x", is_rehearsal=True),
        Attempt(at=NOW + 3 * MINUTE, challenge="x", is_rehearsal=True),
    )


def test_what_a_rehearsal_cannot_find_out_is_not_rehearsed() -> None:
    assert step(failed(CertificateState(), AWAY), None, after=MINUTE) == Order(
        reason="there is none yet"
    )


def test_a_rehearsal_that_is_not_possible_is_left_out() -> None:
    """The directory for rehearsals is away more often than the real one."""
    state = failed(failed(CertificateState()), AWAY, after=MINUTE, is_rehearsal=True)
    still = failed(failed(CertificateState()), AWAY, after=MINUTE)

    assert step(state, None, after=HOUR) == Order(reason="there is none yet")
    assert step(still, None, after=HOUR) == Rehearse(reason="there is none yet")


def test_an_authority_without_staging_is_asked_itself() -> None:
    assert step(failed(CertificateState()), None, after=MINUTE, options=PRIVATE) == Order(
        reason="there is none yet"
    )


@pytest.mark.parametrize(
    ("until", "retry_at"), [(3 * HOUR, 3 * HOUR), (1.0, MINUTE), (100 * DAY, 7 * DAY)]
)
def test_the_authority_may_send_us_away_for_a_week_at_most(until: float, retry_at: float) -> None:
    state = failed(CertificateState(), AWAY, until=NOW + until)

    assert state.retry_at == NOW + retry_at
    assert step(state, None, after=retry_at - 1) == Wait(until=NOW + retry_at)


def test_a_clock_that_was_wrong_does_not_stop_orders() -> None:
    far = NOW + 365 * DAY
    asked = issued(renewal_info=replace(ASKED, ask_at=far))

    assert step(CertificateState(retry_at=far), None) == Order(reason="there is none yet")
    assert step(asked, certificate()) == AskRenewalInfo()


def test_a_renewal_that_fails_keeps_its_problem_until_it_works() -> None:
    state = failed(issued(domains=OPTIONS.domains), AWAY, after=60 * DAY)
    done = after_success(
        state, OPTIONS, now=NOW + 61 * DAY, challenge="tls-alpn-01", is_renewal=True
    )

    assert state.problem == Problem(
        code="ACME_UNREACHABLE", problem=AWAY.problem, fix=AWAY.fix, at=NOW + 60 * DAY
    )
    assert str(state.problem) == str(AWAY)
    assert done == CertificateState(
        domains=OPTIONS.domains,
        attempts=(
            Attempt(at=NOW + 60 * DAY, code="ACME_UNREACHABLE", challenge="x"),
            Attempt(at=NOW + 61 * DAY, challenge="tls-alpn-01", is_exempt=True),
        ),
        issued_at=NOW + 61 * DAY,
    )


# What a person asks for, and the authority's limits.


def test_a_renewal_can_be_forced() -> None:
    """It needs neither to be due, nor to wait for the end of a pause, nor to be rehearsed."""
    state = failed(issued())

    assert step(state, certificate(), is_forced=True) == Order(
        reason="its renewal was requested", is_renewal=True
    )


@pytest.mark.parametrize("is_forced", [False, True])
def test_limits_hold_over_restarts_and_for_everyone(*, is_forced: bool) -> None:
    state = CertificateState(attempts=(Attempt(at=NOW - DAY),) * 5)

    assert step(state, None, is_forced=is_forced) == Wait(until=NOW + 6 * DAY, is_limited=True)


def test_others_of_the_account_count() -> None:
    other = CertificateState(
        domains=("a.example.com",), attempts=tuple(Attempt(at=NOW - HOUR) for _ in range(50))
    )

    assert decide(CertificateState(), OPTIONS, None, now=NOW, jitter=0.0, others=[other]) == Wait(
        until=NOW - HOUR + 7 * DAY, is_limited=True
    )


def test_a_limit_is_a_problem_unless_there_is_another() -> None:
    limited = findings.ACME_RATE_LIMITED.found(authority="ca", until="Monday", detail="")
    failing = failed(CertificateState())
    first = after_limit(CertificateState(), limited, now=NOW, until=NOW + DAY)

    assert first == CertificateState(problem=Problem.of(limited, NOW), next_at=NOW + DAY)
    assert after_limit(failing, limited, now=NOW, until=NOW + DAY) == replace(
        failing, next_at=NOW + DAY
    )


def test_an_order_counts_from_its_begin() -> None:
    """A process that is killed again and again orders less and less often."""
    state = CertificateState()
    pauses = []
    for _ in range(4):
        state = after_begin(state, now=NOW, is_rehearsal=False)
        pauses.append(state.retry_at - NOW)

    assert pauses == [60.0, 120.0, 120.0, 300.0]
    assert state.attempts == (Attempt(at=NOW, code="ACME_PROCESS_FAILED"),) * 4
    assert not state.must_rehearse
