"""The authority's limits, counted from what the storage keeps."""

from dataclasses import replace
from typing import Any

import pytest

from gateman.acme.limits import allowed_at, kept
from gateman.acme.options import LETS_ENCRYPT_STAGING, AcmeOptions
from gateman.acme.state import Attempt, CertificateState

NOW = 1_800_000_000.0
HOUR, DAY = 3600.0, 86_400.0
OPTIONS = AcmeOptions(domains=("www.example.com",))


def attempts(count: int, *, every: float, code: str = "", **more: Any) -> tuple[Attempt, ...]:
    """Make attempts that end now, oldest first."""
    moments = [NOW - every * place for place in reversed(range(count))]
    return tuple(Attempt(at=at, code=code, **more) for at in moments)


def state(*done: Attempt, domains: tuple[str, ...] = OPTIONS.domains) -> CertificateState:
    return CertificateState(domains=domains, attempts=done)


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        ((), 0.0),
        (attempts(4, every=HOUR), 0.0),
        (attempts(5, every=HOUR), 7 * DAY - 4 * HOUR),
        (attempts(7, every=HOUR), 7 * DAY - 4 * HOUR),
        (attempts(9, every=HOUR, is_exempt=True), 0.0),
        (attempts(9, every=HOUR, is_rehearsal=True), 0.0),
        (attempts(4, every=60, code="ACME_CAA"), 0.0),
        (attempts(5, every=60, code="ACME_CAA"), HOUR - 240),
        (attempts(5, every=900, code="ACME_CAA"), 0.0),
        (attempts(9, every=60, code="ACME_DNS_COMMAND"), 0.0),
        (attempts(300, every=30, code="ACME_DNS_COMMAND"), 3 * HOUR - 299 * 30),
        (attempts(300, every=30, code="ACME_UNREACHABLE"), 0.0),
        (attempts(300, every=30, is_exempt=True), 3 * HOUR - 299 * 30),
        # The clock was wrong.
        ((Attempt(at=NOW + DAY),) * 9, 0.0),
    ],
)
def test_one_certificate_has_limits(done: tuple[Attempt, ...], expected: float) -> None:
    assert allowed_at(OPTIONS, state(*done), (), NOW) - NOW == expected


def test_the_certificates_of_a_domain_have_a_limit_together() -> None:
    siblings = [
        state(*attempts(5, every=HOUR), domains=(f"a{place}.example.com",)) for place in range(10)
    ]
    strangers = [
        state(*attempts(5, every=HOUR), domains=(f"www.a{place}.co.uk",)) for place in range(10)
    ]

    assert allowed_at(OPTIONS, state(), siblings, NOW) == NOW + 7 * DAY - 4 * HOUR
    assert allowed_at(OPTIONS, state(), siblings[:9], NOW) == NOW
    assert allowed_at(OPTIONS, state(), strangers, NOW) == NOW
    assert allowed_at(replace(OPTIONS, domains=("a.a1.co.uk",)), state(), strangers, NOW) == NOW


def test_addresses_are_no_domain_together() -> None:
    options = replace(OPTIONS, domains=("192.0.2.1",))
    others = [
        state(*attempts(5, every=HOUR), domains=(f"198.51.2.{place}",)) for place in range(10)
    ]

    assert allowed_at(options, state(), others, NOW) == NOW


def test_an_account_has_a_limit() -> None:
    others = [
        state(*attempts(30, every=60, is_exempt=True), domains=(f"a{place}.example",))
        for place in range(10)
    ]

    assert allowed_at(OPTIONS, state(), others, NOW) == NOW + 3 * HOUR - 29 * 60


def test_other_authorities_get_no_flood() -> None:
    options = replace(OPTIONS, directory=LETS_ENCRYPT_STAGING)

    assert allowed_at(options, state(*attempts(9, every=60)), (), NOW) == NOW
    assert allowed_at(options, state(*attempts(10, every=60)), (), NOW) == NOW + HOUR - 540


def test_old_attempts_are_forgotten() -> None:
    old = Attempt(at=NOW - 7 * DAY)
    future = Attempt(at=NOW + 1)

    assert kept([old, *attempts(3, every=60), future], NOW) == attempts(3, every=60)
    assert kept(attempts(900, every=60), NOW) == attempts(600, every=60)


def test_failures_do_not_make_forget_what_was_issued() -> None:
    issued = Attempt(at=NOW - 6 * DAY)
    failed = attempts(900, every=60, code="ACME_CAA")

    assert kept([issued, *failed], NOW) == (issued, *failed[-300:])
