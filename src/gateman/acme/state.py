"""
What is kept of a certificate between two looks, and across restarts. PURE.

The policy decides by it, and ``status`` shows it. It is a JSON file in the storage; unknown fields
of a later version are ignored. Moments are seconds since 1970.
"""

from dataclasses import dataclass

import msgspec

from ..findings import Finding
from ..tls.certificate_chain import CertificateFacts


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredCertificate:
    """A certificate in the storage, and what it says."""

    fingerprint: str  # sha256 of its file, in hex; another for each certificate
    facts: CertificateFacts


class Attempt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An order that has ended, for the authority's limits."""

    at: float
    code: str = ""  # of the finding; empty if a certificate was issued
    challenge: str = ""
    is_rehearsal: bool = False
    is_exempt: bool = False  # a renewal by ARI, which Let's Encrypt does not count


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why the last order or question failed; a finding, as text."""

    code: str
    problem: str
    fix: str
    at: float

    @classmethod
    def of(cls, finding: Finding, at: float) -> "Problem":
        return cls(code=finding.code, problem=finding.problem, fix=finding.fix, at=at)

    def __str__(self) -> str:
        return f"{self.problem}: {self.fix}"


class RenewalInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When the authority wants one certificate to be renewed (ARI, RFC 9773)."""

    fingerprint: str  # of the certificate that it is about
    ask_at: float  # when to ask again
    start: float | None = None  # of the window; None if the authority has not said
    end: float | None = None
    url: str = ""  # why, for people


class CertificateState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One certificate's orders; the certificate itself is in its own file."""

    domains: tuple[str, ...] = ()
    attempts: tuple[Attempt, ...] = ()  # the last of them, oldest first
    failures: int = 0  # in a row
    failing_since: float | None = None
    retry_at: float = 0.0  # no order before this moment
    must_rehearse: bool = False
    problem: Problem | None = None
    renewal_info: RenewalInfo | None = None
    issued_at: float | None = None
    profile: str = ""  # of the issued certificate
    next_at: float | None = None  # when something is to be done next; for `status`


class CertificateStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One declared certificate; moments are seconds since 1970."""

    names: tuple[str, ...]
    authority: str  # the directory's host
    path: str
    issuer: str = ""  # empty until one was issued, as are the next two
    expires_at: float | None = None
    renewal_at: float | None = None
    next_at: float | None = None  # when something is done next: a question, an order
    problem: Problem | None = None  # of the last order, if that failed
    failures: int = 0  # in a row
