"""
Carries out the policy's steps for one certificate: asks, rehearses, orders, and keeps the state.

Every failure ends as a finding in the state; the certificate in service stays.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from cryptography import x509
from msgspec.structs import replace

from ..findings import Finding
from ..findings.acme import ACME_DNS_COMMAND, ACME_RATE_LIMITED
from ..tls.certificate_findings import minute
from . import policy
from .accounts import Session, open_session
from .answers import DnsCommandFailed
from .challenges import kinds_for
from .client import renewal_id
from .job import order_time
from .options import AcmeOptions
from .order import CLOCK_TOLERANCE, Issued, NotReady, WhyNotReady, obtain
from .problems import OF_CHALLENGES, AuthorityError, AuthorityProblem, finding_of
from .state import Attempt, CertificateState, StoredCertificate
from .storage import Storage

# A question, a rehearsal and an order, each once more; further ones are a fault.
_MAX_STEPS = 6
_AFTER_FAULT = 3600.0  # seconds

_NO_RENEWAL_INFO = 86_400.0  # seconds

Log = Callable[[Literal["info", "warning", "error"], str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """What all certificates of one run have in common."""

    storage: Storage
    has_http: bool  # whether HTTP-01 can be answered
    why_not_ready: WhyNotReady
    is_first: bool  # whether the service has just started
    clock: Callable[[], float]  # seconds since 1970
    log: Log
    # Orders that have ended, by the path of their certificate and "success" or "failure".
    orders: Counter[tuple[str, str]] = field(default_factory=Counter)


class _Failed(Exception):
    """An order has not brought a certificate."""

    def __init__(
        self,
        finding: Finding,
        challenge: str = "",
        until: float | None = None,
        *,
        has_other: bool = False,
    ) -> None:
        super().__init__(finding.code)
        self.finding = finding
        self.challenge = challenge
        self.until = until
        self.has_other = has_other  # whether another challenge may do
        self.attempts: tuple[Attempt, ...] = ()  # those before it


class CertificateSteps:
    """One certificate, under the lock of its storage."""

    def __init__(
        self, options: AcmeOptions, others: Sequence[AcmeOptions], surroundings: Surroundings
    ) -> None:
        self._options = options
        # The other certificates of the same authority, for its limits.
        self._others = others
        self._run = surroundings
        self._storage = surroundings.storage
        # Of its own: an authority that leaves it waiting takes no time from the others.
        self._deadline = time.monotonic() + order_time(options)
        # What authorities are called in CAA records, by their directories.
        self._issuers: dict[str, str] = {}

    def run(self, *, is_forced: bool) -> float:
        """Do what is to be done now; return when there is more."""
        state = self._storage.read_state(self._options.id)
        for count in range(_MAX_STEPS):
            certificate = self._storage.read_certificate(self._options.id)
            step = policy.decide(
                state,
                self._options,
                certificate,
                now=self._run.clock(),
                jitter=0.0 if certificate is None else policy.jitter_of(certificate.fingerprint),
                others=[self._storage.read_state(one.id) for one in self._others],
                is_forced=is_forced,
            )
            match step:
                case policy.Wait(is_limited=True):
                    state = self._limited(state, step.until)
                    self._storage.write_state(self._options.id, state)
                    return step.until
                case policy.Wait():
                    # What has failed just now was told.
                    if self._run.is_first and count == 0 and not self._is_served(certificate):
                        self._tell_why_not(state, step.until)
                    self._storage.write_state(self._options.id, replace(state, next_at=step.until))
                    return step.until
                case policy.AskRenewalInfo():
                    assert certificate is not None
                    state = self._ask(state, certificate)
                case policy.Order() | policy.Rehearse():
                    state = self._order(state, certificate, step)
                    is_forced = False
            self._storage.write_state(self._options.id, state)
        return self._run.clock() + _AFTER_FAULT

    @property
    def _names(self) -> str:
        first, *others = self._options.domains
        return f"{first} and {len(others)} more" if others else first

    def _is_served(self, certificate: StoredCertificate | None) -> bool:
        return certificate is not None and certificate.facts.expires_at > self._run.clock()

    def _tell_why_not(self, state: CertificateState, until: float) -> None:
        """Say why clients wait, before anything is tried again."""
        problem = state.problem
        why = "the last order was cut off" if problem is None else f"{problem} ({problem.code})"
        again = f"the next attempt is not before {minute(until)}"
        self._log("error", f"there is no certificate yet: {why}; {again}")

    def _limited(self, state: CertificateState, until: float) -> CertificateState:
        finding = ACME_RATE_LIMITED.found(
            authority=urlsplit(self._options.directory).hostname,
            until=minute(until),
            detail="as many as it allows were ordered, by the storage",
        )
        self._log("warning", finding)
        return policy.after_limit(state, finding, now=self._run.clock(), until=until)

    def _ask(self, state: CertificateState, certificate: StoredCertificate) -> CertificateState:
        window = None
        url = ""
        # One that does not say when is asked again, in case that it learns to.
        retry_after: float | None = _NO_RENEWAL_INFO
        try:
            leaf = self._leaf()
            with self._session(self._options.directory) as session:
                found = None if leaf is None else session.client.renewal_window(leaf)
            if found is not None:
                window, url = (found.start, found.end), found.url
                retry_after = found.retry_at and found.retry_at - self._run.clock()
        except AuthorityError as error:
            # Without an answer, the certificate's dates decide.
            retry_after = None
            self._log("warning", self._finding(error.problem, self._options.directory))
        known = state.renewal_info
        if window is not None and (known is None or (known.start, known.end) != window):
            begin, end = map(minute, window)
            reason = f" ({url})" if url else ""
            self._log("info", f"the authority wants it renewed between {begin} and {end}{reason}")
        return policy.after_renewal_info(
            state,
            certificate,
            now=self._run.clock(),
            window=window,
            retry_after=retry_after,
            url=url,
        )

    def _order(
        self,
        state: CertificateState,
        certificate: StoredCertificate | None,
        step: policy.Order | policy.Rehearse,
    ) -> CertificateState:
        """Order or rehearse; it counts even if this process does not live to its end."""
        # No order whose certificate would be lost.
        self._storage.check_writable()
        is_rehearsal = isinstance(step, policy.Rehearse)
        begun = policy.after_begin(state, now=self._run.clock(), is_rehearsal=is_rehearsal)
        self._storage.write_state(self._options.id, begun)
        try:
            state, issued = self._try_challenges(state, step)
        except _Failed as failed:
            return self._failed(state, certificate, failed, is_rehearsal=is_rehearsal)
        except (SystemExit, KeyboardInterrupt):
            # The service ends: the next start of it orders at once.
            state = replace(state, attempts=begun.attempts)
            self._storage.write_state(self._options.id, state)
            raise
        now = self._run.clock()
        if is_rehearsal:
            self._log("info", "the rehearsal has worked; the order follows")
            return policy.after_rehearsal(state, now=now, challenge=issued.challenge)
        state = policy.after_success(
            state,
            self._options,
            now=now,
            challenge=issued.challenge,
            is_renewal=issued.is_replacement,
        )
        # First: it has been issued, even if it cannot be written.
        self._storage.write_state(self._options.id, state)
        self._storage.write_certificate(self._options.id, issued.pem)
        self._count("success")
        return state

    def _count(self, outcome: str) -> None:
        self._run.orders[str(self._storage.certificate_path(self._options.id)), outcome] += 1

    def _try_challenges(
        self, state: CertificateState, step: policy.Order | policy.Rehearse
    ) -> tuple[CertificateState, Issued]:
        """Order, and once more for each other challenge that may prove what one has not proven."""
        is_rehearsal = isinstance(step, policy.Rehearse)
        is_renewal = isinstance(step, policy.Order) and step.is_renewal
        without = failed_kinds(state.attempts)
        while True:
            try:
                issued = self._obtain(without, is_rehearsal=is_rehearsal, is_renewal=is_renewal)
            except _Failed as failed:
                failed.attempts = state.attempts
                if not failed.has_other:
                    raise
                self._log("warning", f"{failed.finding.line}; the next challenge is tried")
                attempt = Attempt(
                    at=self._run.clock(),
                    code=failed.finding.code,
                    challenge=failed.challenge,
                    is_rehearsal=is_rehearsal,
                )
                state = replace(state, attempts=(*state.attempts, attempt))
                without |= {failed.challenge}
            else:
                return state, issued

    def _failed(
        self,
        state: CertificateState,
        certificate: StoredCertificate | None,
        failed: _Failed,
        *,
        is_rehearsal: bool,
    ) -> CertificateState:
        self._count("failure")
        now = self._run.clock()
        state = policy.after_failure(
            replace(state, attempts=failed.attempts),
            self._options,
            failed.finding,
            now=now,
            jitter=random.random(),  # noqa: S311 - it spreads, and protects nothing
            challenge=failed.challenge,
            is_rehearsal=is_rehearsal,
            until=failed.until,
        )
        again = minute(state.retry_at)
        self._log(
            "warning" if self._is_served(certificate) else "error",
            f"{failed.finding.line}; the next attempt is not before {again}",
        )
        return state

    def _obtain(self, without: frozenset[str], *, is_rehearsal: bool, is_renewal: bool) -> Issued:
        directory = self._options.rehearsal if is_rehearsal else self._options.directory
        leaf = self._leaf() if is_renewal else None
        try:
            with self._session(directory) as session:
                self._issuers[directory] = session.directory.issuer
                self._compare_clocks(session, directory)
                try:
                    issued = obtain(
                        session,
                        self._options,
                        self._storage,
                        why_not_ready=self._run.why_not_ready,
                        has_http=self._run.has_http,
                        clock=self._run.clock,
                        without=without,
                        replaces="" if leaf is None else renewal_id(leaf),
                    )
                finally:
                    self._log_account(session, directory)
        except AuthorityError as error:
            problem = error.problem
            finding = self._finding(problem, directory)
            raise _Failed(
                finding,
                problem.challenge,
                problem.retry_at,
                has_other=self._has_other(problem, without),
            ) from error
        except DnsCommandFailed as error:
            finding = ACME_DNS_COMMAND.found(
                name=error.name, reason=error.reason, command=error.command
            )
            raise _Failed(finding) from error
        except NotReady as error:
            raise _Failed(error.finding) from error
        if not is_rehearsal:
            by = f" ({issued.challenge})" if issued.challenge else ""
            until = minute(issued.facts.expires_at)
            host = urlsplit(directory).hostname
            self._log("info", f"{host} has issued a certificate{by}, valid until {until}")
        return issued

    def _session(self, directory: str) -> AbstractContextManager[Session]:
        return open_session(self._options, directory, self._storage, deadline=self._deadline)

    def _compare_clocks(self, session: Session, directory: str) -> None:
        difference = abs((session.client.server_time or self._run.clock()) - self._run.clock())
        if difference > CLOCK_TOLERANCE:
            text = f"{difference / 60:.0f} minutes"
            self._log(
                "warning", self._finding(AuthorityProblem(kind="clock", detail=text), directory)
            )

    def _log_account(self, session: Session, directory: str) -> None:
        if session.email_problem is not None:
            self._log("warning", self._finding(session.email_problem, directory))
        if session.accepted_terms is not None:
            host = urlsplit(directory).hostname
            terms = (
                f", whose terms of service are {session.accepted_terms}"
                if session.accepted_terms
                else ""
            )
            self._log("info", f"made an account with {host}{terms}")

    def _leaf(self) -> x509.Certificate | None:
        data = self._storage.read(self._storage.certificate_path(self._options.id)) or b""
        try:
            return x509.load_pem_x509_certificates(data)[0]
        except ValueError:
            return None

    def _has_other(self, problem: AuthorityProblem, without: frozenset[str]) -> bool:
        """Return whether another challenge may prove the name that this one has not proven."""
        if problem.kind not in OF_CHALLENGES:
            return False
        kinds = kinds_for(self._options, problem.name, has_http=self._run.has_http)
        # Each is tried once.
        is_first = problem.challenge in kinds and problem.challenge not in without
        return is_first and not {problem.challenge, *without}.issuperset(kinds)

    def _finding(self, problem: AuthorityProblem, directory: str) -> Finding:
        return finding_of(
            problem,
            self._options,
            directory=directory,
            account_path=str(self._storage.folder / "accounts"),
            issuer=self._issuers.get(directory, ""),
        )

    def _log(self, level: Literal["info", "warning", "error"], text: Finding | str) -> None:
        line = text.line if isinstance(text, Finding) else text
        self._run.log(level, f"acme: {self._names}: {line}")


def failed_kinds(attempts: Iterable[Attempt]) -> frozenset[str]:
    """Return the kinds of challenge whose last use failed, if another one has worked since."""
    last: dict[str, bool] = {}
    for one in attempts:
        if one.challenge:
            last.pop(one.challenge, None)
            last[one.challenge] = not one.code
    worked = [kind for kind, has_worked in last.items() if has_worked]
    return frozenset(last).difference(worked) if worked else frozenset()
