"""
The policy over months, with an authority that fails, misleads and revokes by chance.

Whatever happens, it always waits for a later moment, and the authority's limits are kept.
"""

import random
from itertools import pairwise

import pytest
from msgspec import json

from gateman.acme.options import AcmeOptions
from gateman.acme.policy import (
    AskRenewalInfo,
    Order,
    Rehearse,
    Wait,
    after_failure,
    after_rehearsal,
    after_renewal_info,
    after_success,
    decide,
    jitter_of,
)
from gateman.acme.state import CertificateState, StoredCertificate
from gateman.findings import Finding
from gateman.findings import acme as findings
from gateman.tls.certificate_chain import CertificateFacts

START = 1_800_000_000.0
HOUR, DAY = 3600.0, 86_400.0
OPTIONS = AcmeOptions(domains=("example.com",))
CHECKED = findings.ACME_CAA.found(authority="ca", name="a", detail="", issuer="ca")
AWAY = findings.ACME_UNREACHABLE.found(authority="ca", reason="timeout")


class Authority:
    """Carries out steps, by chance, and counts as Let's Encrypt does."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - a test that can be repeated
        self.days = self.chance.choice([6, 45, 90])
        self.health = self.chance.random()
        self.now = START
        self.certificate: StoredCertificate | None = None
        self.issued: list[float] = []
        self.failed: list[float] = []

    def order(self, state: CertificateState, step: Order) -> CertificateState:
        finding = self.failure()
        if finding is not None:
            if finding is CHECKED:
                self.failed.append(self.now)
            return self.fail(state, finding)
        if not step.is_renewal:
            self.issued.append(self.now)
        facts = CertificateFacts(
            subject="",
            issuer="",
            starts_at=self.now,
            expires_at=self.now + self.days * DAY,
            names=OPTIONS.domains,
        )
        fingerprint = f"{self.chance.getrandbits(256):064x}"
        self.certificate = StoredCertificate(fingerprint=fingerprint, facts=facts)
        return after_success(
            state, OPTIONS, now=self.now, challenge="x", is_renewal=step.is_renewal
        )

    def rehearse(self, state: CertificateState) -> CertificateState:
        finding = self.failure()
        if finding is None:
            return after_rehearsal(state, now=self.now, challenge="x")
        return self.fail(state, finding, is_rehearsal=True)

    def failure(self) -> Finding | None:
        if self.chance.random() < self.health:
            return None
        return self.chance.choice([CHECKED, AWAY])

    def fail(
        self, state: CertificateState, finding: Finding, *, is_rehearsal: bool = False
    ) -> CertificateState:
        until = self.chance.choice([None, None, None, self.now + 2 * DAY, self.now - DAY])
        return after_failure(
            state,
            OPTIONS,
            finding,
            now=self.now,
            jitter=self.chance.random(),
            is_rehearsal=is_rehearsal,
            until=until,
        )

    def answer(self, state: CertificateState) -> CertificateState:
        assert self.certificate is not None
        start = self.now + self.chance.uniform(-90, 90) * DAY
        window = self.chance.choice([None, (start, start + DAY), (start, start - DAY)])
        retry_after = self.chance.choice([None, 0.0, -1.0, 1e9])
        return after_renewal_info(
            state, self.certificate, now=self.now, window=window, retry_after=retry_after
        )


def run(
    authority: Authority, state: CertificateState, *, is_forced: bool
) -> tuple[CertificateState, float]:
    """Do what a process does that orders, until the policy waits."""
    for _ in range(6):
        known = authority.certificate
        step = decide(
            state,
            OPTIONS,
            known,
            now=authority.now,
            jitter=0.0 if known is None else jitter_of(known.fingerprint),
            is_forced=is_forced,
        )
        match step:
            case Wait(until=until):
                return state, until
            case Order():
                state, is_forced = authority.order(state, step), False
            case Rehearse():
                state = authority.rehearse(state)
            case AskRenewalInfo():
                state = authority.answer(state)
        # As between two processes.
        state = json.decode(json.encode(state), type=CertificateState)
    pytest.fail("it never waits")


@pytest.mark.parametrize("seed", range(12))
def test_limits_are_kept_whatever_happens(seed: int) -> None:
    authority = Authority(seed)
    chance = authority.chance
    losses, requests, restarts = (chance.choice([0.01, 0.9]) for _ in range(3))
    state = CertificateState()
    looks = 0
    while authority.now < START + 40 * DAY:
        if chance.random() < losses:
            authority.certificate = None  # Somebody has removed its file.
        looks += 1
        state, until = run(authority, state, is_forced=chance.random() < requests)
        assert until > authority.now
        pause = min(until - authority.now, DAY)
        if chance.random() < restarts:
            pause = min(pause, chance.choice([10.0, 600.0]))
        authority.now += pause

    assert most_in(authority.issued, 7 * DAY) <= 5
    assert most_in(authority.failed, HOUR) <= 5
    assert len(json.encode(state)) < 1 << 16
    # Once a minute is the most that an authority may ask to be asked.
    assert looks < 40 * 24 * 60


@pytest.mark.parametrize("seed", range(6))
def test_a_service_that_runs_never_has_an_expired_certificate(seed: int) -> None:
    """Whatever the authority says of the time, some of the life is left at each renewal."""
    authority = Authority(seed)
    authority.health = 1.0
    state = CertificateState()
    left = []
    while authority.now < START + 365 * DAY:
        before = authority.certificate
        state, until = run(authority, state, is_forced=False)
        if before is not None and before is not authority.certificate:
            left.append((before.facts.expires_at - authority.now) / (authority.days * DAY))
        authority.now = until

    assert len(left) > 3
    assert min(left) >= 1 / 6


def most_in(moments: list[float], period: float) -> int:
    """Count the most that are within a period."""
    assert all(one <= other for one, other in pairwise(moments))
    return max(
        (sum(one <= other < one + period for other in moments) for one in moments), default=0
    )
